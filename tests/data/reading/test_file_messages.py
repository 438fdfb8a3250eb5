"""What is said about files that cannot be read: place, reason and what to do, fragment by fragment."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard
from kits.rows import cells, packed_rows, read

from textune.config.sources import Columns, FilesSource, Labels, StreamSource
from textune.data.inspect.guess import guess_layout
from textune.data.reading.foreign import what_it_is
from textune.data.reading.sources import read_source
from textune.data.reading.streamoptions import StreamOptions, stream_format
from textune.data.reading.windows import read_rows
from textune.data.shards.labelled import open_stream
from textune.errors import DataError

_BROKEN: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.csv", b"", {}, "a.csv is empty."),
    ("a.csv", b"\xef\xbb\xbf", {}, "a.csv is empty"),
    ("a.csv", b"\n\n\r\n", {}, "a.csv is empty: it holds only blank lines."),
    (
        "a.jsonl",
        b'[{"text": "a"}, {"text": "b"}]\n',
        {},
        'a.jsonl holds all rows in one list, not an object per line. Set format = "json".',
    ),
    ("a.json", b"[]", {}, "a.json holds no rows."),
    ("a.csv", b"text,label\n", {}, "a.csv holds no rows. It needs rows below the header line."),
    ("a.csv", b"text,label", {}, "a.csv holds no rows."),
    ("a.csv", b"text,label,text\na,1,b\n", {}, "a.csv, line 1: 1 column name occurs twice: 'text'."),
    (
        "a.csv",
        b"text,label\na,1\nb\nc,1,2\n",
        {},
        "line 3: 1 cell where 2 are expected (text, label). 1 more row of a.csv cannot",
    ),
    ("a.csv", b"text,label\na,1\nb\n", {}, 'Fix the file, or set data.on_bad_row = "skip" to leave such rows out.'),
    (
        "a.csv",
        b"text;label\na, b;1\n",
        {},
        'line 2: 2 cells where 1 is expected (text;label). The delimiter looks wrong: ";" would make 2 columns',
    ),
    (
        "a.csv",
        b'text,label\n"a,1\nb,2\n',
        {},
        "2: a quote opens a cell here and is never closed, which costs the 2 lines to the end of the file. If quotes"
        " are plain",
    ),
    (
        "a.csv",
        b'text,label\n"a,1\n',
        {},
        'line 2: a quote opens a cell here and is never closed. With quoting = "none" every row can be read (1 row).',
    ),
    (
        "a.csv",
        b'text,label\n"a" b,1\n',
        {},
        "line 2: a closing quote is followed by neither a delimiter nor the end of the line: '\"a\" b,1'. With"
        " quoting =",
    ),
    ("a.csv", b'text,label\n"a\nb\nc" d,1\n', {}, "a.csv, line 2: a closing quote"),
    (
        "a.csv",
        b'text,label\n"a\nb\nc" d,1\n',
        {},
        "nor the end of the line: 'c\" d,1'; the row takes 3 lines. quoting =",
    ),
    ("a.csv", b'"text,label\na,1\n', {}, "a.csv, line 1: the header cannot be read: a quote opens a cell here"),
    (
        "a.csv",
        b"text,label\ncaf\xe9,1\n",
        {},
        "line 2: byte 0xe9 at offset 14 of the file is not UTF-8. If the file is in an older encoding, set encoding =",
    ),
    ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,1\n", {}, "a.csv, line 2: byte 0xe9 at offset 17 of the file"),
    ("a.csv", b"te\xe9xt,label\na,1\n", {}, "a.csv, line 1: byte 0xe9 at offset 2 of the file is not UTF-8."),
    ("a.csv", "text,label\nä,1\n".encode("utf-16"), {}, 'a.csv is UTF-16 text, not utf-8. Set encoding = "utf-16".'),
    (
        "a.csv",
        "text,label\nx,1\n".encode("utf-16-le"),
        {},
        "line 1: it holds a NUL byte. A text file has none; if it is UTF-16, set",
    ),
    ("a.csv", b"text,label\na\0b,1\n", {}, "a.csv, line 2: it holds a NUL byte."),
    ("a.csv", b"text,label\ra,1\rb,2\r", {}, "a.csv ends its lines with carriage returns only."),
    ("a.csv", gzip.compress(b"text,label\na,1\n"), {}, "a.csv is packed with gzip. Give it a name that ends in .gz."),
    ("a.csv", zstandard.compress(b"text,label\na,1\n"), {}, "a.csv is packed with zstd"),
    (
        "a.csv",
        b"PK\x03\x04rest",
        {},
        "a.csv is a zip archive. With a name that ends in .zip, the file inside can be named",
    ),
    ("a.csv", packed_rows("a.parquet"), {}, 'a.csv is a parquet file. Set format = "parquet".'),
    (
        "a.csv.gz",
        gzip.compress(b"text,label\na,1\n" * 99)[:-20],
        {},
        "a.csv.gz cannot be unpacked: it is truncated or damaged",
    ),
    (
        "a.csv.zst",
        zstandard.compress(b"text,label\na,1\n" * 99)[:-5],
        {},
        "a.csv.zst cannot be unpacked: it is truncated or damaged",
    ),
    ("a.csv.gz", b"text,label\na,1\n", {}, "a.csv.gz cannot be unpacked"),
    (
        "a.tsv",
        b"text,label\na,1\n",
        {"where": {"label": ("1",)}},
        "found: 'text,label'. The delimiter looks wrong: \",\" would make 2 columns of the header; set delimiter ="
        ' ",".',
    ),
    ("a.xyz", b"a", {}, 'a.xyz: the name does not show the format. Set format = "..." to one of arrow, csv,'),
    (
        "a.json",
        b'[{"text": "a"}, {"text": "b"',
        {},
        "line 1, column 29: not JSON: Expecting ',' delimiter. The file is truncated.",
    ),
    ("a.json", b'[{"text": "a",}]', {}, "a.json, line 1, column 1"),
    ("a.json", b" \n", {}, "a.json is empty: it holds white space only."),
    ("a.json", b"[]", {}, "a.json holds no rows."),
    ("a.json", b"3", {}, "a.json holds '3', not a list of records or an object keyed by row."),
    (
        "a.json",
        b'{"data": [{"text": "a"}]}',
        {},
        "a.json is an object with rows in 'data' (1 row). Set split = \"data\".",
    ),
    ("a.json", b'[{"text": "a"}, 5]', {}, "a.json, record 2: '5' is an integer, not an object with columns."),
    (
        "a.json",
        b'{"0": {"text": "a"}, "1": [5]}',
        {},
        "a.json, key 1: '[5]' is a list of integers, not an object with columns.",
    ),
    ("a.json", b"[" * 100_000, {}, "a.json: not usable JSON: nested too deeply."),
    ("a.json", b'[{"text": "a", "text": "b"}]', {}, "a.json: not usable JSON: the key 'text' occurs twice."),
    ("a.json", b'[{"text": "caf\xe9"}]', {}, "a.json, line 1: byte 0xe9 at offset 14 of the file is not UTF-8."),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', {}, "a.jsonl, line 2: not JSON: Expecting value at column 10."),
    ("a.jsonl", b'[\n{"text": "a"}\n]\n', {}, 'A JSON list needs format = "json".'),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"text": "b", "text": "c"}\n',
        {},
        "a.jsonl, line 2: not usable JSON: the key 'text' occurs twice.",
    ),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"text": 5}\n',
        {},
        "a.jsonl, line 2: column 'text' holds an integer, '5', where most rows hold text.",
    ),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"text": "\\ud83d"}\n',
        {},
        "a.jsonl, line 2: column 'text' holds text that is not valid Unicode",
    ),
    (
        "a.jsonl",
        b'{"n": 1}\n{"n": 1' + b"0" * 5000 + b"}\n",
        {},
        "a.jsonl, line 2: not usable JSON: Exceeds the limit",
    ),
    (
        "a.jsonl",
        b"\n".join(b'{"k%d": 1}' % index for index in range(1001)),
        {},
        "The rows have more than 1,000 different columns.",
    ),
    (
        "a.csv",
        b"," * 20_000 + b"\n",
        {},
        "a.csv, line 1: 20,001 columns are more than the limit of 10,000. Is the delimiter right?",
    ),
    ("a.jsonl", b'{"x": ' + b"[" * 900 + b"]" * 900 + b'}\n{"x": 1}\n{"x": 2}\n', {}, "where most rows hold integers"),
    ("a.txt", b"a\nb\0\n", {}, "a.txt, line 2: it holds a NUL byte."),
    ("a.txt", b"a\n\xe9\n", {}, "a.txt, line 2: byte 0xe9 at offset 2 of the file is not UTF-8."),
    ("a.parquet", b"", {}, "a.parquet is empty."),
    (
        "a.parquet",
        packed_rows("a.parquet")[:-9],
        {},
        "a.parquet is not a whole parquet file: Parquet magic bytes not found in footer.",
    ),
    ("a.parquet", b"text,label\na,1\n", {}, "a.parquet is not a whole parquet file"),
    ("a.arrow", packed_rows("a.arrow")[:200], {}, "a.arrow is not a whole Arrow file"),
    (
        "a.txt",
        b"a\n",
        {"delimiter": ","},
        'delimiter is for csv and tsv files, but a.txt is read as text. Leave it out, or set format = "csv".',
    ),
    (
        "a.csv",
        b"text\na\n",
        {"pattern": "(?P<x>a)"},
        'pattern is for text files, but a.csv is read as csv. Leave it out, or set format = "text".',
    ),
]


@pytest.mark.parametrize(("name", "content", "options", "message"), _BROKEN)
def test_message(tmp_path: Path, name: str, content: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / name, content, **options)
    assert message in re.sub(r"\s+", " ", str(caught.value))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,1\n")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("trian.csv", f"File not found: {tmp_path}/trian.csv. Did you mean 'train.csv'?"),
        ("zzz.parquet", f"The folder {tmp_path} holds train.csv."),
        (
            "nowhere/a.csv",
            f"There is no folder {tmp_path}/nowhere either; data.folder says where relative names start.",
        ),
        ("*.tsv", f"No file matches the pattern '{tmp_path}/*.tsv'. The folder {tmp_path} holds train.csv."),
        (".", f"{tmp_path} is a folder, not a file. Name its files, such as '{tmp_path}/*.csv'."),
        ("folder", "is a folder, not a file."),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert message in str(caught.value)
    with pytest.raises(DataError, match="No data files"):
        read_source(FilesSource())


def test_skip_mode_without_a_good_row(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a.csv has no row that can be read: a.csv, line 2: 1 cell where 2 are expected"
    ):
        read(tmp_path / "a.csv", "text,label\none\n", on_bad_row="skip")


def test_long_lines_and_cells(tmp_path: Path) -> None:
    """Ten megabytes in one line are read, or refused in a sentence that does not repeat them."""
    big = b"word " * 2_000_000
    for name, content in (
        ("a.txt", big),
        ("a.jsonl", b'{"text": "' + big + b'"}'),
        ("a.json", b'[{"text": "' + big + b'"}]'),
        ("b.tsv", b"text\tlabel\n" + big + b"\t1\n"),
    ):
        assert len(read(tmp_path / name, content)) == 1
    for name, content in (
        ("a.csv", b"text,label\n" + big + b"\n"),
        ("b.csv", b'text,label\n"' + big),
        ("c.jsonl", big),
        ("d.json", big),
        ("e.json", b'"' + big + b'"'),
        ("f.jsonl", b'["' + big + b'"]'),
        ("g.csv", big),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name, content)
        assert len(str(caught.value)) < 500


def _zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, f"<{name}/>")
    return stream.getvalue()


def _tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.csv"))
    return stream.getvalue()


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
_NO_DATA: list[tuple[bytes, str]] = [
    (
        _zipped("[Content_Types].xml", "xl/workbook.xml"),
        "is an Excel workbook. Save it as csv (UTF-8), or as parquet.",
    ),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest",
        "is an old Office document, such as an .xls workbook. Save it as csv (UTF-8)",
    ),
    (_zipped("word/document.xml"), "is a Word document."),
    (_zipped("data.csv"), "is a zip archive. With a name that ends in .zip, the file inside can be named"),
    (_tarred(), "is a tar archive. Unpack it"),
    (_LFS, "is a Git LFS pointer, not the data. Run `git lfs pull`."),
    (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is a web page, not the data. Fetch the file itself"),
    (b"<!DOCTYPE html><html><body>Please sign in, to go on</body></html>\n", "is a web page, not the data"),
    (b"%PDF-1.7\n%\xe2\xe3", "is a PDF document."),
    (b"SQLite format 3\0rest", "is an SQLite database."),
    (pickle.dumps([{"text": "a"}]), "is a Python pickle."),
    (bz2.compress(b"text,label\n"), "is packed with bzip2. Unpack it, or pack it with gzip."),
    (lzma.compress(b"text,label\n"), "is packed with xz."),
]


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt", "a.parquet", "a.arrow", "a.xlsx", "a.csv.gz"]
)
@pytest.mark.parametrize(("content", "message"), _NO_DATA)
def test_a_file_that_is_no_data_is_named_for_what_it_is(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=f"^{re.escape(f'{name} {message}')}"):
        read(path)
    with pytest.raises(DataError, match=re.escape(message)):
        guess_layout([str(path)])
    if name not in {"a.json", "a.arrow"}:  # predict does not read these
        with pytest.raises(DataError, match=re.escape(message)):
            options = StreamOptions(stream_format(str(path), None))
            list(read_rows(str(path), options, text_column="text"))


@pytest.mark.parametrize(("name", "chosen"), [("a.jsonl", "auto"), ("a.parquet", "auto"), ("a.data", "jsonl")])
def test_a_shard_that_is_no_data_is_named_for_what_it_is(
    tmp_path: Path, name: str, chosen: Literal["auto", "jsonl"]
) -> None:
    (tmp_path / name).write_bytes(_LFS)
    section = StreamSource(files=(str(tmp_path / name),), format=chosen)
    with pytest.raises(DataError, match=f"{name} is a Git LFS pointer"):
        open_stream(section, Columns(), Labels(), on_bad_row="error").first_examples()


def test_text_that_only_looks_like_it_is_read(tmp_path: Path) -> None:
    page = "<!doctype html><html><body>spam</body></html>"
    assert cells(read(tmp_path / "a.txt", f"{page}\n{page}\n"))["text"] == [page, page]
    assert cells(read(tmp_path / "c.txt", f"{page} seen\n"))["text"] == [f"{page} seen"]
    assert what_it_is(f"{page}\tpos\n".encode()) is None
    assert cells(read(tmp_path / "b.txt", "version https\nPK\n"))["text"] == ["version https", "PK"]


def test_control_characters_of_a_path_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read("D:\tickets\new.csv")
    assert caught.value.message == r"File not found: D:\tickets\new.csv."
    assert caught.value.hint == "Write a path with backslashes in single quotes."
