"""`textune render`: what a language model will read of documents, as text, a page and JSON; and every refusal."""

from __future__ import annotations

import html
import json
import random
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kits.brokenrecords import TYPES, broken_line, broken_row
from kits.cli import runner
from kits.errors import refused
from kits.records import write
from kits.streams import write_shard
from rich.cells import cell_len

from textune.errors import ConfigError, DataError, ModelError, TextuneError
from textune.pipeline.check import check
from textune.pipeline.documents import DocumentsCheck
from textune.pipeline.render import RenderedRows, render
from textune.pipeline.renderedpage import MARK, html_page, plain_text, text_lines
from textune.pipeline.shown import ShownDocument

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "documents.toml"
URL = {"key": "url", "type": "global", "value": "a.b/c"}
TITLE = {"key": "title", "type": "global", "value": "T"}
BOLD = {"key": "html", "type": "local", "value": "b", "char_start_idx": 0, "char_end_idx": 4}
TRAIN = [
    {"text": "good film", "metadata": [URL, TITLE, BOLD]},
    {"text": "a very good film. " * 8, "metadata": [URL]},
    {"text": "", "metadata": [URL]},
    {"text": "a film", "metadata": []},
]


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return {
        "data": {
            "train": {"kind": "files", "files": str(write(tmp_path / "train.jsonl", TRAIN))},
            "validation": {
                "kind": "files",
                "files": str(write(tmp_path / "held.jsonl", TRAIN[:2])),
                "by_type": ["url", "title"],
            },
        },
        "metadata": {"types": ["html", "title", "url"]},
        "model": {"tokenizer": "package:textune/presets/tiny/model"},
        "tokens": {"max_length": 40},
    }


def text_of(document: ShownDocument) -> str:
    return " / ".join("".join(run.text for run in chunk.runs) for chunk in document.chunks)


def masked_text(document: ShownDocument) -> str:
    return "".join(run.text for chunk in document.chunks for run in chunk.runs if run.is_masked)


def test_documents_are_shown_with_their_places_chunks_and_masks(tree: dict[str, Any]) -> None:
    rendered = render(tree)
    assert (rendered.set, rendered.epoch) == ("train", 0)
    assert [one.place for one in rendered.documents] == [f"train.jsonl, line {n}" for n in (1, 2, 3, 4)]
    first, long, empty, plain = rendered.documents
    assert first.types == ("html", "title", "url") and plain.types == ()
    assert "good" in text_of(first) and "good" not in masked_text(first)
    assert all(part in masked_text(first) for part in ("title", "url", "< b >"))
    assert len(long.chunks) > 1 and all("url" in "".join(run.text for run in chunk.runs) for chunk in long.chunks)
    assert [chunk.start for chunk in long.chunks[1:]] == [chunk.end for chunk in long.chunks[:-1]]
    assert (long.chunks[0].start, long.chunks[-1].end) == (0, 144)
    assert all(chunk.tokens <= 40 for one in rendered.documents for chunk in one.chunks)
    assert empty.chunks == () and any("1 document left out" in notice for notice in rendered.notices)


def test_metadata_that_is_predicted_is_metadata_without_a_mask(tree: dict[str, Any]) -> None:
    tree["metadata"]["score_inline"] = True
    first = render(tree).documents[0]
    kinds = {(run.is_metadata, run.is_masked) for chunk in first.chunks for run in chunk.runs}
    assert kinds == {(True, True), (True, False), (False, False)}
    inline = "".join(run.text for chunk in first.chunks for run in chunk.runs if run.is_metadata and not run.is_masked)
    assert "< b >" in inline and "url" not in inline and "url" in masked_text(first)


def test_a_suffix_is_shown_behind_the_text_of_the_last_chunk(tree: dict[str, Any]) -> None:
    tree["metadata"] |= {"position": "suffix", "types_in_prefix": True}
    first, long, *_ = render(tree).documents
    assert re.search(r"film.*\|.*html.*title", text_of(first)) and "good" not in masked_text(first)
    assert [run.is_masked for run in first.chunks[-1].runs][-2:] == [True, False], "the end token is predicted"
    assert ["url" in "".join(run.text for run in chunk.runs) for chunk in long.chunks] == [False] * (
        len(long.chunks) - 1
    ) + [True]


def test_training_rows_are_drawn_as_in_training_and_held_out_rows_not(tree: dict[str, Any]) -> None:
    tree["data"]["train"]["files"] = tree["data"]["validation"]["files"]
    tree["metadata"]["sampling"] = {"kind": "independent", "rate": 0.5}
    seen = [render(tree, epoch=epoch) for epoch in range(12)]
    drawn = {tuple(one.types for one in rendered.documents) for rendered in seen}
    assert len(drawn) > 3
    for rendered in seen:
        assert all({*one.types, *one.undrawn} == {"html", "title", "url"} for one in rendered.documents[:1])
    assert render(tree, epoch=3) == seen[3]
    assert render(tree, epoch=3, overrides=["train.seed=9"]) != seen[3]
    held_out = render(tree, part="validation")
    assert [one.types for one in held_out.documents] == [("html", "title", "url"), ("url",)]
    assert held_out.epoch is None and all(not one.undrawn for one in held_out.documents)


def test_the_rows_are_those_of_the_loader(tree: dict[str, Any]) -> None:
    """Of every document: the same tokens and masks, whoever makes them."""
    from textune.config.load import load_config
    from textune.metadata.chunks.encoder import ChunkEncoder
    from textune.metadata.opening import DocumentRun, open_documents
    from textune.model.tokenizer import load_tokenizer

    tree["metadata"]["sampling"] = {"kind": "uniform", "weights": "counts", "probability": 0.7}
    experiment = load_config(tree).experiment
    assert experiment.metadata is not None
    encoder = ChunkEncoder(load_tokenizer(experiment.model), experiment.tokens, experiment.metadata)
    source = open_documents(experiment.data, {}).train
    maker = DocumentRun(source, experiment.data, experiment.metadata, encoder, experiment.train).maker()
    (shard,) = source.shards
    assert shard.rows is not None
    for epoch in range(5):
        store = maker.chunks_of(shard.rows, epoch=epoch, before=0).chunks.store
        wanted = [store.columns["mask"][a:b].tolist() for a, b in zip(store.offsets, store.offsets[1:], strict=False)]
        shown = [
            [int(run.is_masked) for run in chunk.runs for _ in range(run.tokens)]
            for one in render(tree, epoch=epoch).documents
            for chunk in one.chunks
        ]
        assert shown == wanted


def test_shards_and_their_first_rows(tree: dict[str, Any], tmp_path: Path) -> None:
    files = [str(write_shard(tmp_path / f"{name}.jsonl", TRAIN[:2])) for name in ("p", "q")]
    tree["data"]["train"] = {"kind": "stream", "files": files, "exclude": ["p.jsonl"]}
    assert [one.place for one in render(tree, num_rows=3).documents] == ["q.jsonl, line 1", "q.jsonl, line 2"]
    tree["data"]["train"].pop("exclude")
    whole = render(tree, num_rows=3)
    assert [one.place for one in whole.documents] == ["p.jsonl, line 1", "p.jsonl, line 2", "q.jsonl, line 1"]
    assert render(tree, num_rows=1).documents == whole.documents[:1]


def test_sets_by_type_are_shown_too(tree: dict[str, Any]) -> None:
    by_url, by_title, without = (render(tree, part=f"validation-{name}") for name in ("url", "title", "no-metadata"))
    assert [one.types for one in by_url.documents] == [("url",), ("url",)]
    assert [(one.place, one.types) for one in by_title.documents] == [("held.jsonl, line 1", ("title",))]
    assert [one.types for one in without.documents] == [(), ()]
    assert by_url.notices == ()


# --- text, page, JSON ------------------------------------------------------------------------------------------------


def strange(tree: dict[str, Any], tmp_path: Path) -> RenderedRows:
    texts = ["\u4f60\u597d <b>&amp;</b>\n\ttab \x1b[31m\x07 end", "\U0001f600 [bold]x[/bold] \u0301\u200f", "a" * 500]
    rows = [{"text": text, "metadata": [URL | {"value": '<script>alert("1")</script>'}]} for text in texts]
    tree["data"]["train"]["files"] = str(write(tmp_path / "strange.jsonl", rows))
    tree["tokens"]["max_length"] = 400
    tree["model"]["tokenizer"] = str(bytes_tokenizer(tmp_path))
    return render(tree)


def bytes_tokenizer(folder: Path) -> Path:
    """A tokenizer of bytes, which brings every text back."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="~").save_pretrained(folder / "bytes")
    return folder / "bytes"


@pytest.mark.parametrize("width", [5, 40, 120])
def test_masks_stand_beneath_what_is_masked(tree: dict[str, Any], tmp_path: Path, width: int) -> None:
    rendered = strange(tree, tmp_path)
    lines = ["".join(part.text for part in line) for line in text_lines(rendered, width=width)]
    masked = ""
    for line, beneath in pairwise(lines):
        if set(beneath.strip()) == {MARK}:
            columns = 0
            for letter in line:
                masked += letter if beneath[columns : columns + 1] == MARK else ""
                columns += cell_len(letter)
    wanted = "".join(masked_text(one) for one in rendered.documents)
    assert masked == wanted and "script" in masked
    assert all(cell_len(line) <= max(width, 10) for line in lines if line.startswith("    "))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", plain_text(rendered, width=width))


def test_the_text_is_that_of_the_tokens(tree: dict[str, Any], tmp_path: Path) -> None:
    rendered = strange(tree, tmp_path)
    texts = [run.text for one in rendered.documents for chunk in one.chunks for run in chunk.runs if not run.is_masked]
    assert "".join(texts[:1]).lstrip() == "\u4f60\u597d <b>&amp;</b>\n\ttab \x1b[31m\x07 end"


class Shown(HTMLParser):
    """Text of a page, and of it what has mask 1; other addresses that the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.classes: list[str] = []
        self.masked, self.tags, self.loads = "", set[str](), list[str]()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = dict(attributes)
        self.loads += [name for name in ("src", "href") if name in named]
        if tag == "span":
            self.classes.append(named.get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self.classes.pop()

    def handle_data(self, data: str) -> None:
        if any("masked" in name for name in self.classes):
            self.masked += data


def test_the_page_needs_no_other_file_and_shows_tags_as_text(tree: dict[str, Any], tmp_path: Path) -> None:
    rendered = strange(tree, tmp_path)
    text = html_page(rendered)
    page = Shown()
    page.feed(text)
    assert page.loads == [] and "script" not in page.tags and "url(" not in text and "http" not in text
    assert page.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "pre", "span"}
    assert "".join(masked_text(one) for one in rendered.documents) in page.masked
    assert html.escape("<script>alert") in text and "\x1b" not in text


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


def test_the_verb_prints_text_json_and_pages(run: Any, tmp_path: Path) -> None:
    plain = run("render", EXAMPLE, "--rows", 3)
    assert plain.code == 0, plain.err
    assert plain.out == plain_text(render(EXAMPLE, num_rows=3), width=120) and "\x1b" not in plain.out
    as_json = run("render", EXAMPLE, "--rows", 2, "--set", "validation-url", "--json")
    assert json.loads(as_json.out) == {"ok": True} | render(EXAMPLE, num_rows=2, part="validation-url").to_dict()
    page = run("render", EXAMPLE, "--format", "html", "--epoch", 2)
    assert page.out == html_page(render(EXAMPLE, epoch=2))
    written = run("render", EXAMPLE, "--output", "page.html", "--epoch", 2)
    assert written.code == 0 and written.out == "" and (tmp_path / "page.html").read_text() == page.out
    again = run("render", EXAMPLE, "--output", "page.html")
    assert again.code == 2 and "--force" in again.err
    assert run("render", EXAMPLE, "--output", "page.html", "--force", "--format", "text", "--rows", 3).code == 0
    assert (tmp_path / "page.html").read_text() == plain.out
    assert run("render", EXAMPLE, "--output", EXAMPLE, "--force").code == 2
    nowhere = run("render", EXAMPLE, "--output", "absent/page.html")
    assert nowhere.code == 2 and "absent/page.html: the folder absent does not exist" in nowhere.err
    for name, reason in (
        ("page.pdf", "textune does not write .pdf here"),
        ("page", "its name does not say what to write"),
    ):
        unknown = run("render", EXAMPLE, "--output", name)
        assert unknown.code == 2 and f"--output {name}: {reason}. End it in .html or .txt" in unknown.err
        assert not (tmp_path / name).exists()
    assert run("render", EXAMPLE, "--output", "page", "--format", "text", "--rows", 3).code == 0
    assert (tmp_path / "page").read_text() == plain.out
    for words in (("--output", "other.html"), ("--format", "html")):
        assert run("render", EXAMPLE, "--json", *words).code == 2
    assert not (tmp_path / "other.html").exists()


def test_a_type_that_no_document_has_is_said_with_the_likely_one(tree: dict[str, Any]) -> None:
    tree["metadata"]["types"] = ["htlm", "url", "timestamp"]
    del tree["data"]["validation"]["by_type"]
    absent, likely = render(tree).notices[-2:]
    assert "htlm" in absent and "timestamp" in absent and "did you mean html" in likely


def test_metadata_has_a_colour_in_a_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = run("render", EXAMPLE, "--rows", 3).out
    assert "\x1b[" in shown
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown).count(MARK) > 50


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "more", "error"),
    [
        ({"metadata": None}, {}, {"kind": ConfigError, "key": "metadata"}),
        ({"model": {}}, {}, {"kind": ConfigError, "key": "model.tokenizer"}),
        ({"model": {"tokenizer": "no/such/folder/here"}}, {}, {"kind": ModelError}),
        ({}, {"part": "validaton"}, {"kind": ConfigError, "key": "set", "value": "validaton"}),
        ({}, {"part": "test"}, {"kind": ConfigError, "key": "set", "value": "test"}),
        ({}, {"part": "validation-html"}, {"kind": ConfigError, "key": "set", "value": "validation-html"}),
        ({}, {"part": "validation", "epoch": 2}, {"kind": ConfigError, "key": "epoch", "value": 2}),
        ({"tokens": {"max_length": 3}}, {}, {"kind": DataError, "key": "metadata.prefix_share"}),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tree: dict[str, Any], changes: dict[str, Any], more: dict[str, Any], error: dict[str, Any]
) -> None:
    with refused(error.pop("kind"), **error):
        render({**tree, **changes}, **more)


def test_a_share_of_the_training_rows_is_shown_and_not_among_these(tree: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "metadata": [URL]} for number in range(10)]
    tree["data"] = {
        "train": {"files": str(write(tmp_path / "ten.jsonl", rows))},
        "validation": {"kind": "split", "count": 3, "by_type": ["url"]},
    }
    train, held_out, by_type = (render(tree, part=part) for part in ("train", "validation", "validation-url"))
    places = [{document.place for document in rendered.documents} for rendered in (train, held_out, by_type)]
    assert (len(places[0]), len(places[1])) == (7, 3) and len(places[0] | places[1]) == 10 and places[1] == places[2]


def test_bad_metadata_is_refused_or_left_out_and_said(tree: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": "good film", "metadata": [BOLD | {"char_end_idx": 99}, URL]}]
    tree["data"]["train"]["files"] = str(write(tmp_path / "bad.jsonl", rows))
    with refused(DataError, place="bad.jsonl, line 1"):
        render(tree)
    tree["metadata"]["on_bad_metadata"] = "report"
    rendered = render(tree)
    assert rendered.documents[0].types == ("url",)
    assert any("1 entry of metadata left out" in one and "bad.jsonl, line 1" in one for one in rendered.notices)


def test_a_set_by_type_without_a_row_is_refused(tree: dict[str, Any]) -> None:
    tree["data"]["validation"]["files"] = tree["data"]["train"]["files"]
    tree["metadata"]["types"].append("timestamp")
    tree["data"]["validation"]["by_type"] = ["timestamp"]
    with refused(TextuneError, key="data.validation.by_type", value="timestamp", reason="none of 4 documents"):
        render(tree, part="validation-timestamp")


def test_files_of_broken_lines_are_shown_or_refused_with_a_sentence(tree: dict[str, Any], tmp_path: Path) -> None:
    draw = random.Random(5)
    shown = 0
    tree["data"] |= {"on_bad_row": "skip", "validation": {"kind": "none"}}
    for number in range(30):
        path = tmp_path / f"broken-{number}.jsonl"
        path.write_bytes(b"\n".join(broken_line(draw, broken_row(draw)) for _ in range(12)) + b"\n")
        tree["metadata"] = {"types": list(TYPES), "on_bad_metadata": "report" if number % 3 else "error"}
        tree["data"]["train"] = {"kind": "stream" if number % 2 else "files", "files": str(path)}
        try:
            rendered = render(tree, num_rows=8)
        except TextuneError as error:
            assert error.message
            continue
        shown += len(rendered.documents)
        json.dumps(rendered.to_dict(), allow_nan=False)
        html_page(rendered).encode()
        plain_text(rendered, width=50).encode()
    assert shown > 40


# --- texts alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "txt", "parquet", "jsonl", "stream"])
def test_texts_alone_are_shown_and_checked_from_any_source(tmp_path: Path, kind: str) -> None:
    """Of a language model without the section `metadata`, whatever else the rows hold."""
    texts = [f"a good film, number {number}. " * 6 for number in range(5)]
    path = tmp_path / f"texts.{'jsonl' if kind == 'stream' else kind}"
    if kind == "txt":
        path.write_text("\n".join(texts) + "\n")
    elif kind == "csv":
        path.write_text("text,label\n" + "".join(f'"{text}",x\n' for text in texts))
    else:
        write_shard(path, [{"text": text, "metadata": [URL]} for text in texts])
    source = {"kind": "stream"} if kind == "stream" else {"kind": "files"}
    tree: dict[str, Any] = {
        "task": {"kind": "conditional_lm"},
        "data": {"train": source | {"files": str(path)}, "validation": {"kind": "none"}},
        "model": {"tokenizer": "package:textune/presets/tiny/model"},
        "tokens": {"max_length": 40},
    }
    rendered = render(tree)
    assert len(rendered.documents) == 5 and not any("none of" in notice for notice in rendered.notices)
    for document, text in zip(rendered.documents, texts, strict=True):
        assert document.types == () == document.undrawn and len(document.chunks) > 1
        assert masked_text(document).replace("[CLS]", "").strip() == ""
        assert text_of(document).count("number") == 6 and document.chunks[-1].end == len(text.rstrip("\n"))
    fixed = render(tree, overrides=["data.chunks=fixed"])
    assert [len(one.chunks) for one in fixed.documents] == [1] * 5
    assert any('data.chunks = "fixed"' in notice and "40" in notice for notice in fixed.notices)
    for chunks, row in (("document", "chunk"), ("fixed", "row")):
        checked = check(tree | {"data": tree["data"] | {"chunks": chunks}}, timing=False)
        assert isinstance(checked, DocumentsCheck) and checked.ok and checked.estimate is not None
        assert row in checked.words["chunks"] and not {"fields", "train metadata"} & checked.words.keys()
        lengths = (checked.estimate.tokens, checked.estimate.chunks)
        assert chunks == "document" or lengths[1] == -(-lengths[0] // 40)


def test_metadata_that_counts_in_the_loss_has_no_mask(tree: dict[str, Any]) -> None:
    tree["task"] = {"kind": "conditional_lm", "metadata_loss": True}
    first = render(tree).documents[0]
    assert masked_text(first) == "" and any(run.is_metadata for chunk in first.chunks for run in chunk.runs)
    assert masked_text(render(tree, part="validation").documents[0]), "held-out documents are scored on their text"
