"""Streams of rows: what goes in comes out, in the same form, or a sentence with its line."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data.stream import RowWriter, StreamOptions, parquet_schema, read_rows, stream_format
from textune.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"id": "01", "text": 'he said "no", twice', "note": ""},
    {"id": "NA", "text": "two\nlines", "note": "ä€😀"},
    {"id": "3", "text": "", "note": "tab\there"},
]


def read(path: Path, options: StreamOptions) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(str(path), options, text_column="text")]


@pytest.mark.parametrize(("format_", "ending"), [("csv", ""), ("csv", ".gz"), ("jsonl", ""), ("jsonl", ".gz"), ("parquet", "")])
def test_rows_survive_a_round_trip(tmp_path: Path, format_: Any, ending: str) -> None:
    path, options = tmp_path / f"rows.{format_}{ending}", StreamOptions(format=format_)
    with RowWriter(str(path), options) as writer:
        writer.write(ROWS[:2])
        writer.write(ROWS[2:])
    assert read(path, options) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


cell = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_survives_csv(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    rows = [{"text": a, "other": b} for a, b in cells]
    options = StreamOptions(format="csv")
    with RowWriter(str(tmp_path / "x.csv"), options) as writer:
        writer.write(rows)
    assert read(tmp_path / "x.csv", options) == rows


def test_a_plain_tsv_keeps_its_quotes_and_stays_one_line_a_row(tmp_path: Path) -> None:
    path, options = tmp_path / "x.tsv", StreamOptions(format="tsv")
    path.write_text('text\tn\nsay "hi\t1\n', encoding="utf-8")
    assert read(path, options) == [{"text": 'say "hi', "n": "1"}]
    with RowWriter(str(tmp_path / "y.tsv"), options) as writer:
        writer.write([{"text": 'say "hi', "n": "a\tb\r\nc"}, {"text": "x", "n": "y\u2028"}])
    assert (tmp_path / "y.tsv").read_text() == 'text\tn\nsay "hi\ta b c\nx\ty\u2028\n'
    assert writer.num_changed == 1


def test_places_name_the_line_where_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'text,n\r\n"two\r\nlines",1\r\n\r\nlast,2')
    found = list(read_rows(str(path), StreamOptions(format="csv"), text_column="text"))
    assert [(number, row["text"]) for number, row in found] == [(2, "two\r\nlines"), (5, "last")]


@pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "text"])
def test_an_empty_file_has_no_rows(tmp_path: Path, format_: Any) -> None:
    (tmp_path / "x").touch()
    assert read(tmp_path / "x", StreamOptions(format=format_)) == []


def test_files_without_a_header_and_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a;café\n".encode("latin-1"))
    options = StreamOptions(format="csv", encoding="latin-1", delimiter=";", column_names=("label", "text"))
    assert read(path, options) == [{"label": "a", "text": "café"}]
    marked = tmp_path / "bom.csv"
    marked.write_bytes(b"\xef\xbb\xbftext\nx\n")
    assert read(marked, StreamOptions(format="csv")) == [{"text": "x"}]
    lines = tmp_path / "x.txt"
    lines.write_bytes(b"one\r\n\r\ntwo")
    assert read(lines, StreamOptions(format="text")) == [{"text": "one"}, {"text": ""}, {"text": "two"}]


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("x.csv", b"text,n\na,1\nb\n", {}, r"line 3: 1 cell where 2 are expected \(text, n\)"),
        ("x.csv", b"text,text\na,1\n", {}, r"line 1: 1 column name stands there twice: 'text'"),
        ("x.tsv", b"text\nok\nn\0ul\n", {}, r"line 3: it holds a NUL byte"),
        ("x.txt", b"ok\n\xff\n", {}, r"line 2: byte 0xff at offset 3 of the file is not UTF-8"),
        ("x.csv", b'text\n"open\n', {}, r"line 2: .*quote|unexpected end of data"),
        ("x.csv", b"text\n\xff\n", {}, r"line 2: byte 0xff at offset 5 of the file is not UTF-8"),
        ("x.csv", b"text\nx\n", {"encoding": "klingon"}, "the encoding 'klingon' does not exist"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', {}, r"line 2: not JSON"),
        ("x.jsonl", b"[1]\n", {}, r"line 1: '\[1\]' is not a JSON object"),
        ("x.jsonl", b"[" * 100_000, {}, r"line 1: not JSON"),
        ("x.parquet", b"PAR1 no", {}, "is not a readable parquet file"),
        ("x.csv.gz", gzip.compress(b"text\n" + b"abc\n" * 9999)[:60], {}, "cannot be unpacked"),
        ("x.csv.gz", b"no gzip", {}, "cannot be unpacked"),
    ],
)
def test_broken_input_is_a_sentence_with_its_line(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(path, StreamOptions(format=stream_format(str(path), None), **options))


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl", "parquet", "text"]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_bytes_are_rows_or_a_sentence(tmp_path: Path, content: bytes, format_: Any, zipped: bool) -> None:
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(content)
    try:
        rows = read(path, StreamOptions(format=format_))
    except DataError as error:
        assert path.name in str(error)
    else:
        assert all(isinstance(row, dict) for row in rows)


def test_a_failed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), RowWriter(str(path), StreamOptions(format="csv")) as writer:
        writer.write(ROWS)
        raise RuntimeError
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["x.csv"]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([7], pa.int16()), "l": [[1, 2]]}), tmp_path / "x.parquet")
    options = StreamOptions(format="parquet")
    rows = read(tmp_path / "x.parquet", options)
    assert rows == [{"text": "a", "n": 7, "l": [1, 2]}]
    schema = parquet_schema(str(tmp_path / "x.parquet"), options)
    with RowWriter(str(tmp_path / "y.parquet"), options, schema=schema) as writer:
        writer.write([{**rows[0], "score": 0.5}])
    assert pq.read_schema(tmp_path / "y.parquet").equals(schema.append(pa.field("score", pa.float64())))


@pytest.mark.parametrize(
    ("path", "wanted", "found"),
    [
        ("a.csv", None, "csv"),
        ("a.TSV.gz", None, "tsv"),
        ("a.txt", None, "text"),
        ("a", "jsonl", "jsonl"),
        ("a.ndjson", None, "jsonl"),
    ],
)
def test_formats_go_by_name(path: str, wanted: str | None, found: str) -> None:
    assert stream_format(path, wanted) == found


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(DataError, match="the format 'xlsx' is not one of csv, tsv, jsonl, parquet, text"):
        stream_format("a.xlsx", None)


def test_what_is_written_is_what_csv_readers_read(tmp_path: Path) -> None:
    with RowWriter(str(tmp_path / "x.csv"), StreamOptions(format="csv")) as writer:
        writer.write([{"text": "a", "list": ["x", "y"], "none": None, "n": 1.5}])
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text()))
    assert (row["none"], row["n"], json.loads(row["list"])) == ("", "1.5", ["x", "y"])


@pytest.mark.parametrize("format_", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("windows", [1, 2])
def test_a_key_that_the_first_row_lacks_is_never_dropped(tmp_path: Path, format_: Any, windows: int) -> None:
    rows = [{"text": "a", "id": "1"}, {"text": "b"}, {"text": "c", "id": "3", "extra": "x"}]
    places = ["in.jsonl, line 1", "in.jsonl, line 2", "in.jsonl, line 7"]
    path = tmp_path / f"x.{format_}"
    with (
        pytest.raises(DataError, match=r"^in.jsonl, line 7: the key 'extra' .* Write jsonl instead") as caught,
        RowWriter(str(path), StreamOptions(format=format_)) as writer,
    ):
        for start in range(0, 3, 3 if windows == 1 else 2):
            stop = start + (3 if windows == 1 else 2)
            writer.write(rows[start:stop], places[start:stop])
    assert format_ in str(caught.value) and list(tmp_path.iterdir()) == []
    with RowWriter(str(path), StreamOptions(format=format_)) as writer:
        writer.write(rows[:2])
    lacking = None if format_ == "parquet" else ""
    assert read(path, StreamOptions(format=format_)) == [rows[0], {"text": "b", "id": lacking}]


def test_jsonl_writes_whatever_keys_a_row_has(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b", "extra": 1}, {"text": "\ud800"}]
    with RowWriter(str(tmp_path / "x.jsonl"), StreamOptions(format="jsonl")) as writer:
        writer.write(rows)
    assert read(tmp_path / "x.jsonl", StreamOptions(format="jsonl")) == rows


@pytest.mark.parametrize(
    ("format_", "value"), [("csv", "\ud800"), ("tsv", "\ud800"), ("parquet", "\ud800"), ("parquet", 2**70)]
)
def test_a_value_that_a_format_cannot_hold_is_a_sentence(tmp_path: Path, format_: Any, value: Any) -> None:
    with (
        pytest.raises(DataError, match=f"cannot be written as {format_}.*Write jsonl instead"),
        RowWriter(str(tmp_path / "x"), StreamOptions(format=format_)) as writer,
    ):
        writer.write([{"text": value, "n": 1}])
    assert list(tmp_path.iterdir()) == []


def test_names_of_columns_stay_on_their_line(tmp_path: Path) -> None:
    with RowWriter(str(tmp_path / "x.tsv"), StreamOptions(format="tsv")) as writer:
        writer.write([{"te\txt": "a", "n": "1"}])
    assert (tmp_path / "x.tsv").read_text() == "te xt\tn\na\t1\n"


def test_no_rows_are_an_empty_parquet_file(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    with RowWriter(str(tmp_path / "x.parquet"), StreamOptions(format="parquet"), schema=schema):
        pass
    assert pq.read_table(tmp_path / "x.parquet").equals(schema.empty_table())


def test_two_parquet_columns_of_one_name_are_a_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="two columns of the same name: 'text'"):
        parquet_schema(str(tmp_path / "x.parquet"), StreamOptions(format="parquet"))


def test_a_delimiter_is_one_character() -> None:
    with pytest.raises(DataError, match="--delimiter ';;' is not one character"):
        StreamOptions(format="csv", delimiter=";;")
