"""Quotes in tsv: plain characters, unless the file shows that csv wrote it; and advice that does not send in a
circle."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.rows import cells, read

from textune.config.sources import FilesSource
from textune.data.reading.sources import read_source
from textune.data.reading.streamoptions import StreamOptions
from textune.data.reading.windows import read_rows
from textune.errors import DataError

_TAKEN_OFF = "cells are enclosed in double quotes, as in csv; the quotes are removed"


def _written(rows: list[list[str]], *, quoting: int) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue()


_SAID = [[f'"{word}" they said', "pos" if index % 2 else "neg"] for index, word in enumerate("abcdefgh")]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    ("body", "quoting"), [([["a film", "pos"], ["b film", "neg"]], csv.QUOTE_ALL), (_SAID, csv.QUOTE_MINIMAL)]
)
def test_a_quoted_tsv_is_read_without_its_quotes_and_said(
    tmp_path: Path, header: bool, body: list[list[str]], quoting: int
) -> None:
    content = _written([["text", "label"], *body] if header else body, quoting=quoting)
    names = () if header else ("text", "label")
    rows = read(tmp_path / "a.tsv", content, column_names=names)
    assert cells(rows) == {"text": [row[0] for row in body], "label": [row[1] for row in body]}
    assert len(rows.notes) == 1 and _TAKEN_OFF in rows.notes[0]
    said: list[str] = []
    options = StreamOptions("tsv", column_names=names)
    streamed = [row for _, row in read_rows(str(tmp_path / "a.tsv"), options, text_column="text", notice=said.append)]
    assert [row["text"] for row in streamed] == [row[0] for row in body] and _TAKEN_OFF in said[0]
    kept = read(tmp_path / "a.tsv", quoting="none", column_names=("text", "label"), skip_lines=int(header))
    assert cells(kept)["text"][0].startswith('"') and kept.notes == ()


def test_quotes_around_the_header_alone(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.tsv", '"text"\t"label"\na film\t1\nb film\t0\n')
    assert cells(rows) == {"text": ["a film", "b film"], "label": ["1", "0"]}


def test_cells_over_several_lines_show_the_quoting(tmp_path: Path) -> None:
    plain = "".join(f"{index % 5}\ttext {index}\t{index % 2}\n" for index in range(20))
    cell = '2\t"slow ""x""\nfunny"\t0\n'
    rows = read(tmp_path / "a.tsv", f"rating\ttext\tfeedback\n{cell}{plain}{cell}")
    assert cells(rows)["text"][:2] == ['slow "x"\nfunny', "text 0"] and len(rows) == 22
    assert _TAKEN_OFF in rows.notes[0]
    # A single one may be two stray quotes: nobody guesses, and the advice was tried.
    with pytest.raises(DataError, match=r'With quoting = "standard" every row can be read \(21 rows\)'):
        read(tmp_path / "a.tsv", f"rating\ttext\tfeedback\n{cell}{plain}")


@pytest.mark.parametrize(
    "texts",
    [
        ['"Hello," she said', "no quotes", '"Whole." And more'],
        ['He said "no".', 'The 5" disk', '"All of it"'],
        ['"unclosed', "second", 'third"'],
        ['"quoted"', "plain", "plain too"],
    ],
)
def test_plain_quotes_stay_characters(tmp_path: Path, texts: list[str]) -> None:
    rows = read(tmp_path / "a.tsv", "text\tlabel\n" + "".join(f"{text}\tx\n" for text in texts))
    assert cells(rows)["text"] == texts and rows.notes == ()


def test_quotes_beyond_the_first_lines_are_counted(tmp_path: Path) -> None:
    lines = [f"row {index}\tx\n" for index in range(2100)] + ['"say ""so"""\tx\n', '"well"\tx\n']
    rows = read(tmp_path / "a.tsv", "text\tlabel\n" + "".join(lines))
    assert cells(rows)["text"][2100] == '"say ""so"""'
    assert rows.notes == (
        'a.tsv: 1 cell is in double quotes, which are kept as part of the text; quoting = "standard" removes them',
    )


def test_a_bad_row_does_not_hide_that_all_others_are_quoted(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a"\t"x"\n"b" odd\t"y"\n"c"\t"x"\n'
    rows = read(tmp_path / "a.tsv", content)
    assert cells(rows)["text"] == ['"a"', '"b" odd', '"c"']
    assert "3 cells are in double quotes, which are kept" in rows.notes[0]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text(st.sampled_from('ab "\t\n,'), min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=6
    ),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_whatever_csv_encloses_comes_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], quoting: int
) -> None:
    body = [[text, "x"] for text in texts]
    content = _written([["text", "label"], *body], quoting=quoting)
    rows = read(tmp_path_factory.mktemp("quoted") / "a.tsv", content)
    assert cells(rows) == {"text": texts, "label": ["x"] * len(texts)}


def test_the_advice_names_the_quoting_that_reads_every_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'With quoting = "none" every row can be read \(3 rows\)'):
        read(tmp_path / "a.csv", 'text,label\n"a" is,x\n"b" was,y\nc,x\n')
    spanning = 'text\tlabel\n"a\nb"\tx\nc\ty\n'
    with pytest.raises(DataError, match=r'With quoting = "standard" every row can be read \(2 rows\)'):
        read(tmp_path / "a.tsv", spanning, quoting="none")


def test_where_no_quoting_reads_every_row_the_advice_counts_and_skips(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a\nb"\tx\n"c" is\tx\n"d\ne"\ty\nplain\ty\n'
    message = (
        r'quoting = "none" leaves 2, quoting = "standard" 1 row that cannot be read. '
        r'Set quoting = "standard" first.*skip'
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.tsv", content)
    message = r'quoting = "standard" leaves 1, quoting = "none" 2 rows that cannot be read. .*data.on_bad_row = "skip"'
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "a.tsv", quoting="standard")
    assert 'set quoting = "none"' not in str(caught.value)
    rows = read(tmp_path / "a.tsv", quoting="standard", on_bad_row="skip")
    assert cells(rows)["text"] == ["a\nb", "d\ne", "plain"] and len(rows.skipped) == 1


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
@pytest.mark.parametrize("header", ["text,label", "text, label", '"text", "label"'])
def test_blanks_before_quotes_are_no_part_of_a_cell(tmp_path: Path, header: str, suffix: str) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_text(f'{header}\n"good, and ""fine""", "pos"\n"bad",  "neg"\n')
    rows = read_source(FilesSource(files=(str(path),), format="csv"))
    assert rows.table.to_pylist() == [{"text": 'good, and "fine"', "label": "pos"}, {"text": "bad", "label": "neg"}]
    assert any("there are blanks between delimiters and quotes" in note for note in rows.notes)


@pytest.mark.parametrize(
    "line", ['"he said ""a"", ""b""", pos', " he said, pos", '"a, ""b""",pos', 'she ""said"" "so", pos', 'a, "b", pos']
)
def test_blanks_elsewhere_stay(tmp_path: Path, line: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"text,label\n{line}\nx,y\n")
    expected = next(csv.reader([line]))
    rows = read_source(FilesSource(files=(str(path),)), on_bad_row="skip")
    assert not any("blanks" in note for note in rows.notes)
    fits = [dict(zip(("text", "label"), expected, strict=True))] if len(expected) == 2 else []
    assert rows.table.to_pylist() == [*fits, {"text": "x", "label": "y"}]
