"""The csv and tsv reader: what a cell is, which line a row stands in, and what becomes of rows that cannot be read."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.rows import cells, read

from textune.data.reading import delimited, files
from textune.errors import DataError


@pytest.mark.parity("csv")
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


@pytest.mark.parity("tsv")
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


@pytest.mark.parity("TW-10")
def test_other_delimiters(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "a.csv", "text;label\na,b;1\n", delimiter=";"))["text"] == ["a,b"]
    # More than one byte in UTF-8.
    assert cells(read(tmp_path / "b.csv", 'text§label\n"a§b"§1\n', delimiter="§"))["text"] == ["a§b"]
    with pytest.raises(DataError, match="cannot separate columns"):
        read(tmp_path / "a.csv", delimiter='"')


def test_header_names_are_stripped_and_columns_without_one_are_left_out(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", ",text, label\n0,a,x\n")
    assert cells(rows) == {"text": ["a"], "label": ["x"]}
    assert rows.notes == ("a.csv: 1 column without a name left out",)


def test_skip_leaves_bad_rows_out_and_names_them(tmp_path: Path) -> None:
    content = b'text,label\nok,1\none cell\n"quote" odd,1\nn\0ul,1\n\xff,1\na,b,c\nlast,2\n'
    rows = read(tmp_path / "a.csv", content, on_bad_row="skip")
    assert cells(rows) == {"text": ["ok", "last"], "label": ["1", "2"]}
    assert rows.place(1) == "a.csv, line 8"
    assert [row.place for row in rows.skipped] == [f"a.csv, line {line}" for line in (3, 4, 5, 6, 7)]
    assert [row.reason.split(" (")[0] for row in rows.skipped] == [
        "1 cell where 2 are expected",
        "a closing quote is followed by neither a delimiter nor the end of the line: '\"quote\" odd,1'",
        "it holds a NUL byte",
        "byte 0xff at offset 46 of the file is not UTF-8",
        "3 cells where 2 are expected",
    ]


def test_rows_go_on_after_the_line_where_a_broken_quote_shows(tmp_path: Path) -> None:
    content = 'text,label\na,0\n"never closed,1\nb,2\n"c ""quoted""",3\nd,4\n"e",5\n'
    rows = read(tmp_path / "a.csv", content, on_bad_row="skip")
    assert cells(rows) == {"text": ["a", "d", "e"], "label": ["0", "4", "5"]}
    assert [rows.place(index) for index in range(3)] == [f"a.csv, line {line}" for line in (2, 6, 7)]
    (bad,) = rows.skipped
    assert bad.place == "a.csv, line 3"
    assert bad.reason.endswith("; the row takes 3 lines")


def test_a_quote_that_never_closes_is_one_bad_row_that_counts_its_lines(tmp_path: Path) -> None:
    content = 'text,label\na,0\n"open,1\n' + "b,2\n" * 1200 + "\n\xe9\0"
    rows = read(tmp_path / "a.csv", content, on_bad_row="skip")
    assert cells(rows) == {"text": ["a"], "label": ["0"]}
    (bad,) = rows.skipped
    reason = "a quote opens a cell here and is never closed, which costs the 1,203 lines to the end of the file"
    assert (bad.place, bad.reason) == ("a.csv, line 3", reason)
    single = read(tmp_path / "b.csv", 'text,label\na,0\nb,"1', on_bad_row="skip")
    assert [row.reason for row in single.skipped] == ["a quote opens a cell here and is never closed"]


def test_damage_inside_a_cell_of_several_lines_is_one_bad_row(tmp_path: Path) -> None:
    content = b'text,label\n"two\n\xfflines\n\0",1\nok,2\n'
    rows = read(tmp_path / "a.csv", content, on_bad_row="skip")
    assert cells(rows)["text"] == ["ok"]
    assert [(row.place, row.reason) for row in rows.skipped] == [
        ("a.csv, line 2", "byte 0xff at offset 16 of the file is not UTF-8")
    ]
    assert rows.place(0) == "a.csv, line 5"


def test_a_carriage_return_inside_a_line_is_a_character(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'text,label\r\none\rtwo,1\r\n"three\rfour",2\r\nfive,6\r')
    assert cells(rows) == {"text": ["one\rtwo", "three\rfour", "five"], "label": ["1", "2", "6"]}
    assert cells(read(tmp_path / "a.tsv", 'text\tlabel\n"one\rtwo\t1\n'))["text"] == ['"one\rtwo']
    mixed = read(tmp_path / "b.csv", 'text,label\nok,1\n"a",b\rc\n', on_bad_row="skip")
    assert [row.reason for row in mixed.skipped] == ["there is a carriage return outside quotes: '\"a\",b c'"]


def test_an_overlong_cell_is_a_bad_row(tmp_path: Path) -> None:
    before = csv.field_size_limit(1000)
    try:
        rows = read(tmp_path / "a.csv", "text,label\n" + "x" * 1001 + ",1\nok,2\n", on_bad_row="skip")
    finally:
        csv.field_size_limit(before)
    assert before >= 20 << 20
    assert cells(rows)["text"] == ["ok"]
    assert "field larger than field limit" in rows.skipped[0].reason


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few bytes and of a few rows, so that everything crosses some."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 7)
    monkeypatch.setattr(delimited, "_BLOCK_ROWS", 3)


_CELL = st.text(alphabet='ab",;\n\t é', max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_csv_writes_is_read_back(
    tmp_path_factory: Any, table: list[tuple[str, str]], end: str, small: bool
) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator=end).writerows([("x", "y"), *table])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(files, "BLOCK_BYTES", 7)
            patch.setattr(delimited, "_BLOCK_ROWS", 3)
        rows = read(path, stream.getvalue())
    assert list(zip(*cells(rows).values(), strict=True)) == table
    line = 1 + end.count("\n")
    for index, row in enumerate(table):
        assert rows.place(index) == f"a.csv, line {line}"
        line += 1 + sum(cell.count("\n") for cell in row)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(['"', ",", "\n", "a", "\r\n", "é", '""', "b,c\n", '"x"\n']), max_size=30), st.booleans()
)
def test_rows_are_those_of_csv_dict_reader(tmp_path_factory: Any, pieces: list[str], small: bool) -> None:
    """Where every row is in order; elsewhere at least one is named as bad."""
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    content = "x,y\nfirst,row\n" + "".join(pieces)
    path.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(files, "BLOCK_BYTES", 7)
            patch.setattr(delimited, "_BLOCK_ROWS", 3)
        rows = read(path, on_bad_row="skip")
    try:
        expected = list(csv.DictReader(io.StringIO(content, newline=""), strict=True))
        whole = all(None not in row and None not in row.values() for row in expected)
    except csv.Error:
        whole = False
    assert whole == (not rows.skipped)
    if whole:
        assert rows.table.to_pylist() == expected


def test_rows_that_cross_blocks(tmp_path: Path, small_blocks: None) -> None:
    content = (
        'text,label\n"a long cell\nover lines",1\n'
        + "".join(f"row {index},{index}\n" for index in range(50))
        + 'odd"x,9\n'
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
