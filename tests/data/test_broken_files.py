"""Files as they should not be: the outcome is always rows or a DataError that names the place; nothing is lost in silence."""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rowmaking import read

from textune.config.schema import Columns, FilesSource, Labels
from textune.data.columns import select_columns
from textune.data.labels import encode_labels, infer_labels
from textune.data.rows import OnBadRow, Rows
from textune.data.sources import read_source
from textune.errors import DataError

_HURRIED = settings(max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path: Path, on_bad_row: OnBadRow, **options: Any) -> Rows | DataError:
    """Read the file and go on to targets as far as they allow; anything but DataError escapes and fails the test."""
    try:
        rows = read(path, on_bad_row=on_bad_row, **options)
    except DataError as error:
        assert str(error)
        assert "\n" not in str(error), "an error is one line"
        return error
    names = rows.table.column_names
    try:
        columns = Columns(text=names[0], label=names[-1])
        examples = select_columns(rows, columns, with_labels=True, on_bad_row=on_bad_row)
        label_map, _ = infer_labels(examples, [], Labels(), kind="auto")
        kept, targets = encode_labels(examples, label_map, Labels(), on_bad_row=on_bad_row)
        assert len(kept) == len(targets)
    except DataError as error:
        assert str(error)
    return rows


# --- any bytes at all -------------------------------------------------------------------------------------------------

_PIECES: dict[str, list[bytes]] = {
    "csv": [b"text,label\n", b'"', b",", b"\n", b"\r\n", b"a", b"0", b"\xff", b"\0", b'""', b"\xc3\xa9", b"\xef\xbb\xbf", b";"],
    "tsv": [b"text\tlabel\n", b"\t", b"\n", b"a", b"1", b'"', b"\xe9", b"\0", b"\r"],
    "json": [
        *(b"[", b"]", b"{", b"}", b'"text":', b'"a"', b"1", b"2.5", b",", b"null", b"NaN", b"true"),
        *(b"\\ud800", b'"\\ud800"', b"\xff", b"\n"),
    ],
    "jsonl": [
        b'{"text": "a", "label": 1}\n',
        b'{"text": "b", "label": "x"}\n',
        b'{"text": null, "label": [1, "x"]}\n',
        b'{"text": {"a": []}, "label": 1e999}\n',
        b'{"text": "\\ud800", "label": 99999999999999999999}\n',
        b'{"\\ud800": 1}\n',
        b"{}\n",
        b"[1]\n",
        b"{",
        b"\n",
        b"\xff\n",
        b"[" * 2000 + b"\n",
        b'{"a": 1, "a": 2}\n',
    ],
    "txt": [b"a", b"\n", b"\r", b"\xff", b"\0", b"\xc3\xa9", b" "],
}


@pytest.mark.parametrize("ending", sorted(_PIECES))
def test_any_mixture(ending: str, tmp_path: Path) -> None:
    @_HURRIED
    @given(
        st.lists(st.one_of(st.sampled_from(_PIECES[ending]), st.binary(max_size=6)), max_size=25),
        st.sampled_from(["error", "skip"]),
    )
    def check(pieces: list[bytes], on_bad_row: OnBadRow) -> None:
        path = tmp_path / f"a.{ending}"
        path.write_bytes(b"".join(pieces))
        outcome(path, on_bad_row)

    check()


def _packed(name: str) -> bytes:
    content = "text,label\n" + "".join(f"row {index},{index % 2}\n" for index in range(300))
    if name.endswith(".gz"):
        return gzip.compress(content.encode())
    if name.endswith(".zst"):
        return bytes(zstandard.compress(content.encode()))
    table = pa.table({"text": [f"row {index}" for index in range(50)], "label": [index % 2 for index in range(50)]})
    stream = io.BytesIO()
    if name.endswith(".parquet"):
        pq.write_table(table, stream)
    else:
        with pa.ipc.new_file(stream, table.schema) as file:
            file.write_table(table)
    return bytes(stream.getvalue())


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.parquet", "a.arrow"])
def test_cut_short(name: str, tmp_path: Path) -> None:
    """Every proper beginning of a packed or binary file is refused."""
    whole = _packed(name)
    path = tmp_path / name
    path.write_bytes(whole)
    assert isinstance(outcome(path, "error"), Rows)
    for size in {0, 1, 4, 10, len(whole) // 2, len(whole) - 10, len(whole) - 1}:
        path.write_bytes(whole[:size])
        assert isinstance(outcome(path, "skip"), DataError), f"{size} of {len(whole)} bytes were read as a whole file"


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.parquet", "a.arrow"])
def test_changed_bytes(name: str, tmp_path: Path) -> None:
    whole = _packed(name)

    @_HURRIED
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=5))
    def check(changes: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for place, value in changes:
            data[place] = value
        path = tmp_path / name
        path.write_bytes(data)
        outcome(path, "skip")

    check()


# --- rows kept + rows skipped = rows in the file ----------------------------------------------------------------------

_TSV_ROW = st.lists(st.sampled_from([b"a", b"\t", b"\xff", b"\0", b'"', b"b c", b"\xc3\xa9"]), min_size=1, max_size=6).map(
    b"".join
)


@_HURRIED
@given(st.lists(_TSV_ROW, min_size=1, max_size=20))
def test_tsv_rows_add_up(tmp_path: Path, table: list[bytes]) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"text\tlabel\n" + b"\n".join(table) + b"\n")
    found = outcome(path, "skip")
    good = [row for row in table if row.count(b"\t") == 1 and b"\0" not in row and b"\xff" not in row]
    if not good:
        assert isinstance(found, DataError)
        return
    assert isinstance(found, Rows)
    assert found.table.to_pydict()["text"] == [row.split(b"\t")[0].decode() for row in good]
    assert len(found) + len(found.skipped) == len(table)
    bad_lines = [line for line, row in enumerate(table, 2) if row not in good]
    assert [row.place for row in found.skipped] == [f"a.tsv, line {line}" for line in bad_lines]
    if bad_lines:
        refused = outcome(path, "error")
        assert isinstance(refused, DataError)
        assert f"line {bad_lines[0]}: " in str(refused)
        if len(bad_lines) > 1:
            assert f"{len(bad_lines) - 1} more row" in str(refused)


_VALUE = st.sampled_from(["x", "y", 1, 2.5, True, None, ["a"], [], {"k": 1}, 2**80, "\ud800"])


@_HURRIED
@given(st.lists(st.one_of(_VALUE, st.just(...)), min_size=1, max_size=15))
def test_jsonl_rows_add_up(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    lines = ["not json" if value is ... else json.dumps({"text": "t", "label": value}) for value in values]
    path.write_text("\n".join(lines))
    found = outcome(path, "skip")
    if isinstance(found, Rows):
        assert len(found) + len(found.skipped) == len(values)
        places = {found.place(index) for index in range(len(found))} | {row.place for row in found.skipped}
        assert len(places) == len(values)
    else:
        assert "no row that can be read" in str(found)


@_HURRIED
@given(st.binary(max_size=60))
def test_text_lines_add_up(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n" + data)
    found = outcome(path, "skip")
    lines = (b"first\n" + data).removesuffix(b"\n").split(b"\n")
    assert isinstance(found, Rows)
    assert len(found) + len(found.skipped) == len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_thousand_malformed_rows(tmp_path: Path, seed: int) -> None:
    """20,000 odd rows in each of five files: every one of them is kept or named."""
    chooser = random.Random(seed)
    kinds: list[Callable[[], bytes]] = [
        lambda: b"good text,1",
        lambda: b"too,many,cells",
        lambda: b"one cell",
        lambda: b'"text" after a quote,1',
        lambda: b"bad \xff byte,0",
        lambda: b"nul \0 byte,0",
        lambda: b'quote in the " middle,1',
        lambda: b'"doubled ""quotes""",0',
        lambda: bytes(chooser.randrange(35, 256) for _ in range(chooser.randrange(1, 40))),
    ]
    table = [chooser.choice(kinds)() for _ in range(20_000)]
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"\n".join(table) + b"\n")
    found = outcome(path, "skip")
    assert isinstance(found, Rows)
    assert len(found) + len(found.skipped) == len(table)
    places = [found.place(index) for index in range(len(found))] + [row.place for row in found.skipped]
    assert {int(place.rpartition(" ")[2]) for place in places} == set(range(2, 20_002))
    pieces = [b"".join(chooser.choices(_PIECES["jsonl"], k=1)).rstrip(b"\n") for _ in range(20_000)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(pieces))
    lines = outcome(tmp_path / "a.jsonl", "skip")
    assert isinstance(lines, Rows)
    assert len(lines) + len(lines.skipped) == sum(piece != b"" for piece in pieces)


# --- by hand ----------------------------------------------------------------------------------------------------------

_read_skip = functools.partial(read, on_bad_row="skip")

_BROKEN: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.csv", b"", {}, "a.csv is empty."),
    ("a.csv", b"\xef\xbb\xbf", {}, "a.csv is empty"),
    ("a.csv", b"\n\n\r\n", {}, "a.csv is empty: it holds blank lines only."),
    ("a.csv", b"text,label\n", {}, "a.csv holds no rows. A csv or tsv file needs rows below its header line."),
    ("a.csv", b"text,label", {}, "a.csv holds no rows."),
    ("a.csv", b"text,label,text\na,1,b\n", {}, "a.csv, line 1: 1 column name stands there twice: 'text'."),
    (
        "a.csv",
        b"text,label\na,1\nb\nc,1,2\n",
        {},
        "line 3: 1 cell where 2 are expected (text, label). 1 more row of a.csv cannot",
    ),
    ("a.csv", b"text,label\na,1\nb\n", {}, 'Mend the file, or set data.on_bad_row = "skip" to leave such rows out.'),
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
        "line 2: a quote opens a cell here and is never closed. If quotes are plain characters",
    ),
    ("a.csv", b'text,label\n"a" b,1\n', {}, "line 2: a quoted cell is followed by 'b,1', not by a delimiter"),
    ("a.csv", b'text,label\n"a\nb\nc" d,1\n', {}, "a.csv, line 2: a quoted cell is followed by 'd,1' 2 lines further on"),
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
        "line 1: it holds a NUL byte. A text file holds none; if it is UTF-16, set",
    ),
    ("a.csv", b"text,label\na\0b,1\n", {}, "a.csv, line 2: it holds a NUL byte."),
    ("a.csv", b"text,label\ra,1\rb,2\r", {}, "a.csv ends its lines with carriage returns only."),
    ("a.csv", gzip.compress(b"text,label\na,1\n"), {}, "a.csv is packed with gzip: give it a name that ends in .gz."),
    ("a.csv", zstandard.compress(b"text,label\na,1\n"), {}, "a.csv is packed with zstd"),
    ("a.csv", b"PK\x03\x04rest", {}, "a.csv is a zip archive or a spreadsheet: unpack it, or save it as csv."),
    ("a.csv", _packed("a.parquet"), {}, 'a.csv is a parquet file: set format = "parquet".'),
    ("a.csv.gz", gzip.compress(b"text,label\na,1\n" * 99)[:-20], {}, "a.csv.gz cannot be unpacked: it is cut short or damaged"),
    (
        "a.csv.zst",
        zstandard.compress(b"text,label\na,1\n" * 99)[:-5],
        {},
        "a.csv.zst cannot be unpacked: it is cut short or damaged",
    ),
    ("a.csv.gz", b"text,label\na,1\n", {}, "a.csv.gz cannot be unpacked"),
    (
        "a.tsv",
        b"text,label\na,1\n",
        {"where": {"label": ("1",)}},
        'found: \'text,label\'. The delimiter looks wrong: "," would make 2 columns of the header; set delimiter = ",".',
    ),
    ("a.xyz", b"a", {}, 'a.xyz: its name does not tell the format. Set format = "..." to one of arrow, csv,'),
    (
        "a.json",
        b'[{"text": "a"}, {"text": "b"',
        {},
        "line 1, column 29: not JSON: Expecting ',' delimiter. The file is cut short.",
    ),
    ("a.json", b'[{"text": "a",}]', {}, "a.json, line 1, column 1"),
    ("a.json", b" \n", {}, "a.json is empty: it holds white space only."),
    ("a.json", b"[]", {}, "a.json holds no rows."),
    ("a.json", b"3", {}, "a.json holds '3', not a list of records or an object keyed by row."),
    (
        "a.json",
        b'{"data": [{"text": "a"}]}',
        {},
        "a.json is an object with the keys 'data', not rows. The key 'data' holds a list.",
    ),
    ("a.json", b'[{"text": "a"}, 5]', {}, "a.json, record 2: '5' is an integer, not an object with columns."),
    (
        "a.json",
        b'{"0": {"text": "a"}, "1": [5]}',
        {},
        "a.json, key 1: '[5]' is a list of integers, not an object with columns.",
    ),
    ("a.json", b"[" * 100_000, {}, "a.json: not usable JSON: nested too deeply."),
    ("a.json", b'[{"text": "a", "text": "b"}]', {}, "a.json: not usable JSON: the key 'text' stands there twice."),
    ("a.json", b'[{"text": "caf\xe9"}]', {}, "a.json, line 1: byte 0xe9 at offset 14 of the file is not UTF-8."),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', {}, "a.jsonl, line 2: not JSON: Expecting value at column 10."),
    ("a.jsonl", b'[\n{"text": "a"}\n]\n', {}, 'A JSON list needs format = "json".'),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"text": "b", "text": "c"}\n',
        {},
        "a.jsonl, line 2: not usable JSON: the key 'text' stands there twice.",
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
    ("a.jsonl", b'{"n": 1}\n{"n": 1' + b"0" * 5000 + b"}\n", {}, "a.jsonl, line 2: not usable JSON: Exceeds the limit"),
    (
        "a.jsonl",
        b"\n".join(b'{"k%d": 1}' % index for index in range(1001)),
        {},
        "The rows have more than 1,000 different columns.",
    ),
    ("a.txt", b"a\nb\0\n", {}, "a.txt, line 2: it holds a NUL byte."),
    ("a.txt", b"a\n\xe9\n", {}, "a.txt, line 2: byte 0xe9 at offset 2 of the file is not UTF-8."),
    ("a.parquet", b"", {}, "a.parquet is empty."),
    (
        "a.parquet",
        _packed("a.parquet")[:-9],
        {},
        "a.parquet is not a whole parquet file: Parquet magic bytes not found in footer.",
    ),
    ("a.parquet", b"text,label\na,1\n", {}, "a.parquet is not a whole parquet file"),
    ("a.arrow", _packed("a.arrow")[:200], {}, "a.arrow is not a whole Arrow file"),
    ("a.txt", b"a\n", {"delimiter": ","}, "delimiter is for csv and tsv files, but a.txt is read as text. Set format."),
    ("a.csv", b"text\na\n", {"pattern": "(?P<x>a)"}, "pattern is for text files, but a.csv is read as csv. Set format."),
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
        ("nowhere/a.csv", f"There is no folder {tmp_path}/nowhere either."),
        ("*.tsv", f"No file matches the pattern '{tmp_path}/*.tsv'. The folder {tmp_path} holds train.csv."),
        (".", f"{tmp_path} is a folder, not a file. Name its files, such as '{tmp_path}/*.csv'."),
        ("folder", "is a folder, not a file."),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert message in str(caught.value)
    with pytest.raises(DataError, match="No data files are given"):
        read_source(FilesSource())


def test_skip_mode_without_a_good_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.csv has no row that can be read: a.csv, line 2: 1 cell where 2 are expected"):
        _read_skip(tmp_path / "a.csv", "text,label\none\n")


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
