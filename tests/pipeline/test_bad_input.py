"""Bad input of every kind, through the command line: exit code 2, one sentence that names the place, and nothing
written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from kits.runs import reviews, write_csv

from textune.cli import main


class Case(NamedTuple):
    """One mistake: what lies in the folder, what is said on the command line, and the words that the answer must
    hold."""

    name: str
    words: tuple[str, ...]
    """Of the sentence, in this order."""
    overrides: tuple[str, ...] = ()
    content: str | None = None
    """Of bad.csv, which is then the training file."""
    make: Callable[[Path], object] | None = None
    """Prepares the folder otherwise."""


def csv_of(*lines: str, times: int = 1) -> str:
    return "text,label\n" + "".join(f"{line}\n" for line in lines * times)


def without(*names: str) -> Callable[[Path], None]:
    """Remove files of the backbone."""

    def make(folder: Path) -> None:
        shutil.copytree(folder / "backbone", folder / "bad")
        for name in names:
            (folder / "bad" / name).unlink()

    return make


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
CASES = [
    Case("missing file", ("File not found", "nowhere.csv", "reviews.csv"), ("data.train.files=nowhere.csv",)),
    Case("empty file", ("bad.csv", "empty"), content=""),
    Case("header only", ("bad.csv", "no rows"), content="text,label\n"),
    Case(
        "wrong delimiter",
        ("bad.csv", "'text;label'", "delimiter looks wrong", '";"'),
        content="text;label\n" + "a film;pos\nbad;neg\n" * 20,
    ),
    Case("delimiter named wrongly", ("reviews.csv", "delimiter looks wrong", '","'), ("data.train.delimiter=;",)),
    Case(
        "missing text column",
        ("reviews.csv", "'body'", "'id', 'text', 'label', 'number'"),
        ("data.columns.text=body",),
    ),
    Case(
        "missing label column",
        ("reviews.csv", "'verdict'", "'id', 'text', 'label', 'number'"),
        ("data.columns.label=verdict",),
    ),
    Case("one class", ("bad.csv", "'label'", "only one class: 'pos'"), content=csv_of("a film,pos", times=30)),
    Case("all texts empty", ("All train texts are empty",), content=csv_of(" ,pos", ",neg", times=30)),
    Case(
        "labels of mixed kinds",
        ("bad.csv", "'label'", "mixed kinds", "1.5", "pos"),
        content=csv_of("a film,pos", "bad,1.5", times=30),
    ),
    Case(
        "a fraction where names were expected",
        ("bad.csv", "'label'", "0.5", "task.kind = multiclass", "regression"),
        ("task.kind=multiclass",),
        content=csv_of("a film,0.5", "bad,1.25", "the,3.0", times=30),
    ),
    Case(
        "no rows left for validation",
        ("held.csv", "no rows"),
        ("data.validation.kind=files", "data.validation.files=held.csv"),
        make=lambda folder: (folder / "held.csv").write_text("text,label\n"),
    ),
    Case("a share of no rows", ("data.validation would have zero rows", "0.001"), ("data.validation.ratio=0.001",)),
    Case("unknown metric", ("evaluate.metric", "acuracy", "accuracy"), ("evaluate.metric=acuracy",)),
    Case(
        "backbone without tokenizer", ("bad", "tokenizer"), ("model.pretrained=bad",), make=without(*TOKENIZER_FILES)
    ),
    Case(
        "backbone without weights",
        ("bad", "weights", "model.safetensors"),
        ("model.pretrained=bad",),
        make=without("model.safetensors"),
    ),
    Case("backbone without config", ("bad", "config.json"), ("model.pretrained=bad",), make=without("config.json")),
    Case("no backbone there", ("model.pretrained", "nowhere/at/all"), ("model.pretrained=nowhere/at/all",)),
    Case(
        "run folder occupied",
        ("runs/new", "not empty", "--run runs/new-2"),
        make=lambda folder: write_csv(folder / "runs" / "new" / "rows.csv", reviews(3)),
    ),
    Case("no room for text", ("tokens.max_length", "special tokens", "at least 3"), ("tokens.max_length=2",)),
    Case(
        "labels beyond a sigmoid",
        ("task.activation", "from 0 to 5", "linear"),
        ("task.kind=regression", "task.activation=sigmoid"),
        content=csv_of(*(f"the film number {n},{n / 20}" for n in range(101))),
    ),
]


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own: config, rows and backbone."""
    for name in ("config.toml", "reviews.csv"):
        shutil.copy(home / name, tmp_path)
    shutil.copytree(home / "backbone", tmp_path / "backbone")
    (tmp_path / "runs" / "new").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> list[tuple[str, int]]:
    """Every path with the time of its last change."""
    return sorted((str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.every_day(5)
@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = list(case.overrides)
    if case.content is not None:
        (folder / "bad.csv").write_text(case.content, encoding="utf-8")
        overrides.append("data.train.files=bad.csv")
    if case.make is not None:
        case.make(folder)
    before = contents(folder)
    with pytest.raises(SystemExit) as left:
        main(["train", "config.toml", "--run", "runs/new", *overrides])
    answer = capsys.readouterr()
    assert left.value.code == 2, answer.err
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) <= 2 and lines[-1].startswith("Error: "), answer.err
    assert "Traceback" not in answer.err and "Error: Error" not in answer.err
    at = 0
    for word in case.words:
        assert word in lines[-1][at:], f"{word!r} is not in {lines[-1][at:]!r}"
        at = lines[-1].index(word, at)
    assert contents(folder) == before, "something was written"
