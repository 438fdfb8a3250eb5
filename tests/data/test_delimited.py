"""The csv and tsv reader: what a cell is, which line a row stands in, and that the fast and the slow half agree."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rowmaking import cells, read

from textune.config.schema import FilesSource
from textune.data import delimited, files
from textune.data.scan import Scan
from textune.errors import DataError


def test_csv_cells_are_text_as_written(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "text,label\n01,NA\nnan,1.50\n , x \n")
    assert cells(rows) == {"text": ["01", "nan", " "], "label": ["NA", "1.50", " x "]}
    assert rows.source == "a.csv"
    assert [rows.place(index) for index in range(3)] == ["a.csv, line 2", "a.csv, line 3", "a.csv, line 4"]


def test_quoted_cells_span_lines_and_keep_the_line_numbers(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'text,label\n"two\nlines, one ""cell""",x\n\nplain,y\n"",z\n')
    assert cells(rows) == {"text": ['two\nlines, one "cell"', "plain", ""], "label": ["x", "y", "z"]}
    assert [rows.place(index) for index in range(3)] == ["a.csv, line 2", "a.csv, line 5", "a.csv, line 6"]


def test_crlf_bom_and_missing_last_line_feed(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", b'\xef\xbb\xbftext,label\r\n"a\r\nb",1\r\nc,2\r\n\r\nd,"3"')
    assert cells(rows) == {"text": ["a\r\nb", "c", "d"], "label": ["1", "2", "3"]}
    assert rows.place(2) == "a.csv, line 6"


def test_tsv_quotes_are_characters(tmp_path: Path) -> None:
    content = 'text\tlabel\n"open\t1\nsay "yes" \' \t0\n'
    assert cells(read(tmp_path / "a.tsv", content)) == {"text": ['"open', 'say "yes" \' '], "label": ["1", "0"]}
    quoted = read(tmp_path / "b.tsv", 'text\tlabel\n"a\tb"\t1\n', quoting="standard")
    assert cells(quoted) == {"text": ["a\tb"], "label": ["1"]}


def test_a_quote_inside_a_cell_is_a_character(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'text,label\n5" disk,1\na ""b"" c,2\n"quoted, too",3\n')
    assert cells(rows)["text"] == ['5" disk', 'a ""b"" c', "quoted, too"]


def test_file_without_header(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.tsv", "good film\t1\tid1\n", column_names=("text", "label", "id"))
    assert cells(rows) == {"text": ["good film"], "label": ["1"], "id": ["id1"]}
    assert rows.place(0) == "a.tsv, line 1"
    with pytest.raises(DataError, match="line 1: 3 cells where 2 are expected"):
        read(tmp_path / "a.tsv", column_names=("text", "label"))
    with pytest.raises(DataError, match="repeats column_names"):
        read(tmp_path / "b.tsv", "text\tlabel\na\t1\n", column_names=("text", "label"))


def test_other_delimiters(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "a.csv", "text;label\na,b;1\n", delimiter=";"))["text"] == ["a,b"]
    # More than one byte in UTF-8: the slow reader alone.
    assert cells(read(tmp_path / "b.csv", 'text§label\n"a§b"§1\n', delimiter="§"))["text"] == ["a§b"]
    with pytest.raises(DataError, match="cannot separate columns"):
        read(tmp_path / "a.csv", delimiter='"')


def test_header_names_are_stripped_and_one_column_may_lack_a_name(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", ",text, label\n0,a,x\n")
    assert rows.table.column_names == ["", "text", "label"]


def test_skip_leaves_bad_rows_out_and_names_them(tmp_path: Path) -> None:
    content = b'text,label\nok,1\none cell\n"quote" odd,1\nn\0ul,1\n\xff,1\na,b,c\nlast,2\n'
    rows = read(tmp_path / "a.csv", content, on_bad_row="skip")
    assert cells(rows) == {"text": ["ok", "last"], "label": ["1", "2"]}
    assert rows.place(1) == "a.csv, line 8"
    assert [row.place for row in rows.skipped] == [f"a.csv, line {line}" for line in (3, 4, 5, 6, 7)]
    assert [row.reason.split(" (")[0] for row in rows.skipped] == [
        "1 cell where 2 are expected",
        "a quoted cell is followed by 'odd,1', not by a delimiter or the end of the line",
        "it holds a NUL byte",
        "byte 0xff at offset 46 of the file is not UTF-8",
        "3 cells where 2 are expected",
    ]


def test_an_unclosed_quote_costs_one_line_only(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'text,label\n"never closed,1\nb,2\n"c ""quoted""",3\nd,4\n', on_bad_row="skip")
    assert cells(rows)["label"] == ["2", "3", "4"]
    assert rows.skipped[0].place == "a.csv, line 2"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few bytes, so that every row crosses some."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 7)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 7)
    monkeypatch.setattr(delimited, "_SLOW_BYTES", 5)


_CELL = st.text(alphabet='ab",;\n\t é', max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_csv_writes_is_read_back(tmp_path_factory: Any, table: list[tuple[str, str]], end: str, small: bool) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator=end).writerows([("x", "y"), *table])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(files, "BLOCK_BYTES", 7)
            patch.setattr(delimited, "BLOCK_BYTES", 7)
        rows = read(path, stream.getvalue())
    assert list(zip(*cells(rows).values(), strict=True)) == table
    line = 1 + end.count("\n")
    for index, row in enumerate(table):
        assert rows.place(index) == f"a.csv, line {line}"
        line += 1 + sum(cell.count("\n") for cell in row)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(['"', ",", "\n", "a", "\r\n", "é", '""', "b,c\n", '"x"\n', "\0"]), max_size=30), st.booleans())
def test_fast_and_slow_reader_agree(tmp_path_factory: Any, pieces: list[str], small: bool) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(("x,y\n" + "".join(pieces)).encode())
    section = FilesSource(files=(str(path),))
    fast = delimited.read_delimited(path, "a.csv", section, tabs=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "scan_block", _never_fast)
        if small:
            patch.setattr(files, "BLOCK_BYTES", 7)
            patch.setattr(delimited, "BLOCK_BYTES", 7)
        slow = delimited.read_delimited(path, "a.csv", section, tabs=False)
    assert fast.table.to_pydict() == slow.table.to_pydict()
    assert fast.places.number_N.tolist() == slow.places.number_N.tolist()
    assert fast.bad == slow.bad


def _never_fast(data: bytes, num_columns: int, **_: Any) -> Any:
    return Scan([pa.array([], pa.large_string())] * num_columns, np.zeros(0, int), [], 0, 0, True)


def test_rows_that_cross_blocks(tmp_path: Path, small_blocks: None) -> None:
    content = (
        'text,label\n"a long cell\nover lines",1\n' + "".join(f"row {index},{index}\n" for index in range(50)) + 'odd"x,9\n'
    )
    rows = read(tmp_path / "a.csv", content)
    assert cells(rows)["text"] == ["a long cell\nover lines", *(f"row {index}" for index in range(50)), 'odd"x']
    assert rows.place(51) == "a.csv, line 54"


def test_ten_megabyte_cells(tmp_path: Path) -> None:
    big = "word " * 2_000_000
    rows = read(tmp_path / "a.csv", f'text,label\n"{big}\n{big}",1\nsmall,2\n')
    assert cells(rows)["text"] == [f"{big}\n{big}", "small"]
    assert rows.place(1) == "a.csv, line 4"
    with pytest.raises(DataError, match="first line is longer than"):
        read(tmp_path / "b.csv", big)


def test_encodings(tmp_path: Path) -> None:
    for encoding in ("latin-1", "cp1252", "utf-16", "utf-8-sig", "UTF8"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes("text,label\ncafé,1\n".encode(encoding))
        assert cells(read(path, encoding=encoding)) == {"text": ["café"], "label": ["1"]}
    path = tmp_path / "broken.csv"
    with pytest.raises(DataError, match=r"broken.csv, line 2: the bytes at offset 15 are not shift_jis text"):
        read(path, b"text,label\nok, \xff\xff\n", encoding="shift_jis")
