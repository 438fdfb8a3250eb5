"""Streams of rows: whatever stands in the file, or a sentence with its line."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.errors import refused

from textune.data.reading.streamoptions import StreamOptions, stream_format
from textune.data.reading.windows import open_rows, read_rows
from textune.errors import DataError


def read(path: Path, options: StreamOptions) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(str(path), options, text_column="text")]


def test_places_name_the_line_where_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'text,n\r\n"two\r\nlines",1\r\n\r\nlast,2')
    found = list(read_rows(str(path), StreamOptions(format="csv"), text_column="text"))
    assert [(number, row["text"]) for number, row in found] == [(2, "two\r\nlines"), (5, "last")]


@pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "text", "parquet", "arrow"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_empty_file_is_no_success(tmp_path: Path, format_: Any, ending: str) -> None:
    (tmp_path / f"x{ending}").write_bytes(gzip.compress(b"") if ending else b"")
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / f"x{ending}", StreamOptions(format=format_))


def test_blank_lines_alone_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n \n")
    with pytest.raises(DataError, match=r"x.jsonl holds no rows"):
        read(tmp_path / "x.jsonl", StreamOptions(format="jsonl"))


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
        ("x.csv", b"text,text\na,1\n", {}, r"line 1: 1 column name occurs twice: 'text'"),
        ("x.tsv", b"text\nok\nn\0ul\n", {}, r"line 3: it holds a NUL byte"),
        ("x.txt", b"ok\n\xff\n", {}, r"line 2: byte 0xff at offset 3 of the file is not UTF-8"),
        ("x.csv", b'text\n"open\n', {}, r"line 2: .*quote|unexpected end of data"),
        ("x.csv", b"text\n\xff\n", {}, r"line 2: byte 0xff at offset 5 of the file is not UTF-8"),
        ("x.csv", b"text\nx\n", {"encoding": "klingon"}, "the encoding 'klingon' does not exist"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', {}, r"line 2: not JSON"),
        ("x.jsonl", b"[1]\n", {}, r"line 1: '\[1\]' is not a JSON object"),
        ("x.jsonl", b"[" * 100_000, {}, r"line 1: not usable JSON: nested too deeply"),
        ("x.parquet", b"PAR1 no", {}, "is not a whole parquet file"),
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
    with refused(DataError, key="format", value="xlsx"):
        stream_format("a.xlsx", None)


def test_two_parquet_columns_of_one_name_are_a_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="two columns of the same name: 'text'"):
        open_rows(str(tmp_path / "x.parquet"), StreamOptions(format="parquet"), text_column="text")


def test_a_delimiter_is_one_character() -> None:
    with refused(DataError, key="delimiter", value=";;"):
        StreamOptions(format="csv", delimiter=";;")
