"""Reader of csv and tsv on Python's `csv` module, for whole files and for the streams of `stream.py`.

Every cell is text, exactly as it stands. A blank line is no row. With quoting, a cell that begins with a double quote ends at
the next single double quote and may span lines; a quote inside a cell that did not begin with one is a plain character. After
a row that cannot be read, reading goes on at the line after the one where that was noticed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config.schema import FilesSource
from textune.data.files import BadLine, TextLines, raw_blocks
from textune.data.rows import Piece, Places, SkippedRow, count, listing, repeated_names, shorten
from textune.errors import DataError

# One limit for the whole process, by default too low for a long document. It bounds what an unclosed quote can swallow (a
# character takes 4 bytes while its cell is being read).
csv.field_size_limit(1 << 28)

_BLOCK_ROWS = 1 << 14
"""Rows held as Python text at once."""

_HEADER_SIZE = 1 << 20
"""A header row of more characters is none."""

_MAX_COLUMNS = 10_000

_DELIMITERS = {"\t": '"\\t"', ",": '","', ";": '";"', "|": '"|"'}

_QUOTE_HINT = 'If quotes are plain characters in this file, set quoting = "none".'


def read_delimited(path: Path, name: str, section: FilesSource, *, tabs: bool) -> Piece:
    """One csv (or with `tabs`, tsv) file; DataError where it has no usable header or is damaged as a whole."""
    delimiter = section.delimiter or ("\t" if tabs else ",")
    quoting = section.quoting == "standard" or (section.quoting == "auto" and not tabs)
    lines = TextLines(path.name, raw_blocks(path), section.encoding)
    names, rows = read_cells(lines, name, delimiter=delimiter, quoting=quoting, column_names=section.column_names)
    columns, line_N, bad = collect(rows, len(names))
    skipped = tuple(SkippedRow(f"{name}, line {one.line}", one.reason, one.hint) for one in bad)
    places = Places.of_file(name, "line", line_N)
    return Piece(pa.table(columns, names=list(names)), places, skipped, hint=delimiter_hint(names, delimiter))


def collect(
    rows: Iterable[tuple[int, Sequence[str] | BadLine]], num_columns: int
) -> tuple[list[pa.ChunkedArray], np.ndarray, list[BadLine]]:
    """The good rows as columns (large_string [N] each) with their lines (int64 [N]), and the bad ones."""
    columns: list[list[pa.Array]] = [[] for _ in range(num_columns)]
    lines = [np.zeros(0, np.int64)]
    bad: list[BadLine] = []
    block: list[Sequence[str]] = []
    numbers: list[int] = []

    def flush() -> None:
        for chunks, cells in zip(columns, zip(*block, strict=True), strict=bool(block)):
            chunks.append(pa.array(cells, pa.large_string()))
        lines.append(np.array(numbers, np.int64))
        block.clear()
        numbers.clear()

    for number, cells in rows:
        if isinstance(cells, BadLine):
            bad.append(cells)
            continue
        block.append(cells)
        numbers.append(number)
        if len(block) == _BLOCK_ROWS:
            flush()
    flush()
    return [pa.chunked_array(chunks, pa.large_string()) for chunks in columns], np.concatenate(lines), bad


def read_cells(
    lines: TextLines, name: str, *, delimiter: str, quoting: bool, column_names: Sequence[str] = ()
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str] | BadLine]]]:
    """The column names, and for each row the line where it begins and its cells, one for each column, or what is wrong.

    The header is the first row unless `column_names` are given. DataError where there is no usable header.
    """
    if delimiter in '"\n\r\0':
        raise DataError(f"delimiter = {delimiter!r} cannot separate columns.")
    if column_names:
        names = _check_names(tuple(column_names), "column_names")
        rows = _rows(lines, delimiter, quoting, names)
        first = _first(rows, name)
        if first[1] == list(names):
            raise DataError("The first line of the file repeats column_names: it is a header.", hint="Remove column_names.")
        return names, chain([first], rows)
    line, cells = _first(_rows(lines, delimiter, quoting, ()), name)
    if isinstance(cells, BadLine):
        what = "the header cannot be read: " if cells.hint == _QUOTE_HINT else ""
        raise DataError(f"{name}, line {line}: {what}{cells.reason}.", hint=cells.hint)
    if sum(map(len, cells)) > _HEADER_SIZE:
        hint = 'For a file without header set column_names; for lines of text set format = "text".'
        raise DataError(f"{name}: its first line is longer than {_HEADER_SIZE:,} characters, which is no header.", hint=hint)
    if any("\r" in cell for cell in cells) and not lines.text.endswith("\n"):
        raise DataError(f"{name} ends its lines with carriage returns only.", hint="Save it with line feeds.")
    names = _check_names(tuple(cell.strip() for cell in cells), f"{name}, line {line}")
    return names, _rows(lines, delimiter, quoting, names)


def _first(rows: Iterator[tuple[int, list[str] | BadLine]], name: str) -> tuple[int, list[str] | BadLine]:
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty: it holds blank lines only.")
    return first


def _check_names(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if len(names) > _MAX_COLUMNS:
        raise DataError(
            f"{where}: {len(names):,} columns are more than the limit of {_MAX_COLUMNS:,}.", hint="Is the delimiter right?"
        )
    twice = repeated_names(names)
    if twice:
        what = listing(shorten(one) for one in twice)
        hint = "Rename them, or set column_names if the file has no header line."
        raise DataError(
            f"{where}: {count(len(twice), 'column name stands', 'column names stand')} there twice: {what}.", hint=hint
        )
    return names


def delimiter_hint(names: tuple[str, ...], delimiter: str) -> str:
    """What to say when the header is one column that another delimiter would cut."""
    if len(names) != 1:
        return ""
    best = max(_DELIMITERS, key=names[0].count)
    if best == delimiter or best not in names[0]:
        return ""
    shown, num = _DELIMITERS[best], names[0].count(best) + 1
    return f"The delimiter looks wrong: {shown} would make {num} columns of the header; set delimiter = {shown}."


def csv_reader(lines: Iterable[str], delimiter: str, *, quoting: bool, strict: bool) -> Iterator[list[str]]:
    """The csv module's reader; `strict` makes it refuse what stands behind a closing quote, and a quote that never closes."""
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=strict)


def _rows(lines: TextLines, delimiter: str, quoting: bool, names: tuple[str, ...]) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Rows from the next line on; with `names`, one that has another number of cells is bad."""
    reader = csv_reader(lines, delimiter, quoting=quoting, strict=True)
    num_columns = len(names)
    while True:
        first = lines.number + 1
        reason = hint = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "\r" in lines.text and lines.number == first and not (quoting and '"' in lines.text):
                # A lone carriage return outside quotes, which the csv module does not take for text.
                cells = lines.text.removesuffix("\n").removesuffix("\r").split(delimiter)
            else:
                cells, reason, hint = [], _quote_reason(lines, first, error), _QUOTE_HINT
        if lines.problem is not None:
            reason, hint = reason or lines.problem.reason, hint or lines.problem.hint
            lines.problem = None
        elif cells and names and len(cells) != num_columns:
            verb = "is" if num_columns == 1 else "are"
            reason = f"{count(len(cells), 'cell')} where {num_columns} {verb} expected ({listing(names, 6)})"
            hint = delimiter_hint(names, delimiter)
        if reason:
            yield first, BadLine(first, reason, hint)
        elif cells:
            yield first, cells


def _quote_reason(lines: TextLines, first: int, error: csv.Error) -> str:
    """Why the csv module gave up on the row that begins at line `first`, and how many lines that costs."""
    num_lines = lines.number - first + 1
    if lines.ended:
        lost = f", which costs the {num_lines:,} lines to the end of the file" if num_lines > 1 else ""
        return f"a quote opens a cell here and is never closed{lost}"
    costs = f"; the row takes {num_lines:,} lines" if num_lines > 1 else ""
    if "expected after" in str(error):
        return f"a closing quote is followed by neither a delimiter nor the end of the line: {shorten(lines.text)}{costs}"
    if "\r" in lines.text and "new-line" in str(error):
        return f"a carriage return stands outside the quotes: {shorten(lines.text)}{costs}"
    return f"it cannot be read: {error}{costs}"
