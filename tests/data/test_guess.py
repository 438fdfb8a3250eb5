"""Proposals for files that no one has described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textune.config.schema import Columns, Labels
from textune.data.columns import select_columns
from textune.data.guess import Guess, guess_layout
from textune.data.labels import infer_labels
from textune.data.sources import read_source
from textune.errors import DataError

_SENTENCES = [f"This is sentence {index} about a film, and it is rather long." for index in range(40)]


def _write(path: Path, header: list[str], rows: list[list[Any]], *, delimiter: str = ",", encoding: str = "utf-8") -> Guess:
    lines = ([delimiter.join(header)] if header else []) + [delimiter.join(map(str, row)) for row in rows]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return guess_layout([str(path)])


def _usable(guess: Guess) -> int:
    """Read by the proposal; the number of rows."""
    examples = select_columns(read_source(guess.source), guess.columns, with_labels=True)
    infer_labels(examples, [], guess.labels)
    return len(examples)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ",")]
)
def test_delimiters(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [[text.replace(",", ""), index % 2] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / name, ["review", "label"], rows, delimiter=delimiter)
    own = {"a.csv": ",", "a.tsv": "\t"}[name]
    assert guess.source.delimiter == (None if delimiter == own else delimiter)
    assert guess.columns == Columns(text="review", label="label")
    assert guess.notes == ()
    assert _usable(guess) == 40


def test_quoted_csv_with_id(tmp_path: Path) -> None:
    rows = [[f"u-{index}", f'"{text}"', ["good", "bad"][index % 2]] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / "a.csv", ["user_id", "comment", "verdict"], rows)
    assert guess.columns == Columns(text="comment", label="verdict")
    assert _usable(guess) == 40


@pytest.mark.parametrize("name", ["id", "comment_id", "url", "guid", "hash"])
def test_an_id_is_never_the_text(tmp_path: Path, name: str) -> None:
    ids = [f"{index:064x}-{'x' * 80}" for index in range(40)]
    rows = [[ids[index], text.replace(",", ""), index % 2] for index, text in enumerate(_SENTENCES)]
    assert _write(tmp_path / "a.csv", [name, "words", "label"], rows).columns.text == "words"


def test_file_without_header(tmp_path: Path) -> None:
    guess = _write(
        tmp_path / "a.tsv", [], [["src", index % 2, "", text] for index, text in enumerate(_SENTENCES)], delimiter="\t"
    )
    assert guess.source.column_names == ("column_1", "label", "column_3", "text")
    assert guess.columns == Columns()
    assert "seems to have no header line" in guess.notes[0]
    assert _usable(guess) == 40
    categories = _write(
        tmp_path / "b.csv", [], [[text.replace(",", ""), ["pos", "neg"][index % 2]] for index, text in enumerate(_SENTENCES)]
    )
    assert categories.source.column_names == ("text", "label")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["index", "sentence1", "sentence2", "label"], ("sentence1", "sentence2", "label")),
        (["Quality", "#1 String", "#2 String", "#1 ID"], ("#1 String", "#2 String", "Quality")),
        (["premise", "hypothesis", "n", "gold_label"], ("premise", "hypothesis", "gold_label")),
        (["index", "question", "sentence", "score"], ("question", "sentence", "score")),
        (["text_a", "text_b", "index", "label"], ("text_a", "text_b", "label")),
    ],
)
def test_pairs(tmp_path: Path, names: list[str], expected: tuple[str, str, str]) -> None:
    values = {name: [text.replace(",", "") for text in _SENTENCES] for name in expected[:2]}
    rows = [[values[name][row] if name in values else row % 3 for name in names] for row in range(40)]
    columns = _write(tmp_path / "a.csv", names, rows).columns
    assert (columns.text, columns.text_pair, columns.label) == expected


def test_multilabel(tmp_path: Path) -> None:
    cells = ["3,17", "17", "3", "4,3", "4"]
    rows = [[text, cells[index % 5]] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / "a.tsv", ["text", "emotions"], rows, delimiter="\t")
    assert guess.labels == Labels(delimiter=",")
    assert guess.columns.label == "emotions"
    names = _write(
        tmp_path / "b.tsv",
        ["text", "place"],
        [[text, ["Paris, France", "Rome, Italy"][index % 2]] for index, text in enumerate(_SENTENCES)],
        delimiter="\t",
    )
    assert names.labels == Labels()


def test_encodings(tmp_path: Path) -> None:
    rows = [[text.replace(",", " é"), index % 2] for index, text in enumerate(_SENTENCES)]
    for encoding, expected in (("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("latin-1", "latin-1")):
        guess = _write(tmp_path / "a.csv", ["text", "label"], rows, encoding=encoding)
        assert guess.source.encoding == expected
        assert guess.columns == Columns()
        assert bool(guess.notes) == (expected == "latin-1")
        assert _usable(guess) == 40
    quoted = [[text.replace(",", " “so”"), index % 2] for index, text in enumerate(_SENTENCES)]
    assert _write(tmp_path / "b.csv", ["text", "label"], quoted, encoding="cp1252").source.encoding == "cp1252"


def test_a_bad_byte_far_into_the_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"plain words here,1\n" * 80_000 + b"caf\xe9 and more,0\n")
    assert guess_layout([str(path)]).source.encoding == "latin-1"


def test_json_parquet_and_arrow(tmp_path: Path) -> None:
    records = [{"uid": f"x{index}", "body": text, "label": index % 2} for index, text in enumerate(_SENTENCES)]
    table = pa.Table.from_pylist(records)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "b.json").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "no-ending").write_text("\n".join(map(json.dumps, records)))
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    for name in ("a.jsonl", "a.json", "b.json", "no-ending", "a.parquet", "a.arrow"):
        guess = guess_layout([str(tmp_path / name)])
        assert guess.columns == Columns(text="body"), name
        assert _usable(guess) == 40
    assert guess_layout([str(tmp_path / "b.json")]).source.format == "jsonl"
    assert guess_layout([str(tmp_path / "a.json")]).source.format == "auto"


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.train").write_text(
        "".join(f"{['NUM', 'LOC'][index % 2]}:x {text}\n" for index, text in enumerate(_SENTENCES))
    )
    guess = guess_layout([str(tmp_path / "a.train")])
    assert (guess.source.format, _usable(guess)) == ("text", 40)
    (tmp_path / "b.txt").write_text("".join(f"__label__{index % 3} {text}\n" for index, text in enumerate(_SENTENCES)))
    assert _usable(guess_layout([str(tmp_path / "b.txt")])) == 40
    (tmp_path / "c_text.txt").write_text("\n".join(_SENTENCES))
    alone = guess_layout([str(tmp_path / "c_text.txt")])
    assert "set label_files or pattern" in alone.notes[0]
    (tmp_path / "c_labels.txt").write_text("\n".join(str(index % 2) for index in range(40)))
    both = guess_layout([str(tmp_path / "c_text.txt"), str(tmp_path / "c_labels.txt")])
    assert _usable(both) == 40
    (tmp_path / "d.txt").write_text(
        "text\tlabel\n" + "".join(f"{text}\t{index % 2}\n" for index, text in enumerate(_SENTENCES))
    )
    assert guess_layout([str(tmp_path / "d.txt")]).source.format == "tsv"


def test_what_cannot_be_guessed(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\n\n", "blank lines only"),
        ("b.csv", b"id,n\n1,2\n3,4\n", "b.csv: no column looks like text; columns found: 'id', 'n'"),
        ("c.bin", b"\0\1\2", "NUL bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            guess_layout([str(tmp_path / name)])
    (tmp_path / "d.csv").write_text("text\n" + "\n".join(text.replace(",", "") for text in _SENTENCES))
    assert guess_layout([str(tmp_path / "d.csv")]).notes == ("No column looks like a label: set data.columns.label.",)
