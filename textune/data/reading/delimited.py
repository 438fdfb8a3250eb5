"""Reader of csv and tsv on Python's `csv` module, for whole files and for windows of rows (`windows.py`).

Every cell is text, exactly as written. A blank line is not a row. With quoting, a cell that begins with a double quote
ends at the next double quote that is not doubled, and may span lines; a quote inside any other cell is a plain
character. Blanks before a cell are dropped only if a file has them before its quotes (`"a", "b"`). After a row that
cannot be read, reading continues on the line after the one where the problem was found.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config import FilesSource, OnExtraCells, Quoting
from textune.data.reading.files import ENCODING_HINT, BadLine, TextLines, raw_blocks, skip_lines
from textune.data.reading.quoting import (
    SAMPLE_CHARACTERS,
    SAMPLE_LINES,
    EnclosedCells,
    blanks_before_quotes,
    csv_reader,
    looks_quoted,
)
from textune.data.reading.rows import Piece, Places, SkippedRow
from textune.errors import Advice, DataError, Setting, Words
from textune.wording import count, listing, repeated_names, shorten

# One limit for the whole process; the default is too low for a long document. It limits what an unclosed quote can
# swallow (a character takes 4 bytes while its cell is being read).
csv.field_size_limit(1 << 28)

_BLOCK_ROWS = 1 << 14
"""Rows held as Python text at once."""

_HEADER_SIZE = 1 << 20
"""A longer first row is not a header."""

_MAX_COLUMNS = 10_000

_DELIMITERS = {"\t": '"\\t"', ",": '","', ";": '";"', "|": '"|"'}

_QUOTE_HINT = Words("If quotes are plain characters in this file, ", Setting("quoting", "none", "set"), ".")
_EXTRA_HINT = Words(
    "Text that contains the delimiter must be quoted. To ignore cells beyond the last column, ",
    Setting("extra_cells", "ignore", "set"),
    ".",
)
_NO_ADVICE: Advice = ""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""What Excel writes above the header."""


@dataclass(frozen=True)
class CellOptions:
    """How the cells of a file are written."""

    tabs: bool
    """tsv: a tab between cells, and quotes are plain characters, unless the keys below say otherwise."""
    delimiter: str | None = None
    quoting: Quoting = "auto"
    column_names: tuple[str, ...] = ()
    skip_lines: int = 0
    extra_cells: OnExtraCells = "error"


def read_delimited(path: Path, name: str, section: FilesSource, *, tabs: bool, compares: bool = False) -> Piece:
    """One csv (or with `tabs`, tsv) file; DataError where it has no usable header or is damaged.

    `compares`: if quotes may be to blame for bad rows, find out whether the other `quoting` reads more, for the hint.
    """
    cells = open_cells(path, name, section, tabs=tabs)
    columns, line_N, bad = collect(cells, len(cells.names))
    if compares and cells.saw_quotes and bad and bad[0].hint != ENCODING_HINT and path.is_file():
        bad[0] = replace(
            bad[0], hint=_compared(path, name, section, tabs=tabs, quoting=cells.quoting, num_bad=len(bad))
        )
    skipped = tuple(SkippedRow(f"{name}, line {one.line}", one.reason, one.hint) for one in bad)
    places = Places.of_file(name, "line", line_N)
    named = [index for index, column in enumerate(cells.names) if column]
    table = pa.table([columns[index] for index in named], names=[cells.names[index] for index in named])
    notes = list(cells.notes)
    if left := len(cells.names) - len(named):
        notes.append(f"{name}: {count(left, 'column')} without a name left out")
    return Piece(table, places, skipped, hint=delimiter_hint(cells.names, cells.delimiter), notes=tuple(notes))


def open_cells(path: Path, name: str, section: FilesSource, *, tabs: bool) -> Cells:
    """The rows of one file, read as the section says."""
    options = CellOptions(
        tabs, section.delimiter, section.quoting, section.column_names, section.skip_lines, section.extra_cells
    )
    return Cells(TextLines(path.name, raw_blocks(path), section.encoding), name, options)


def _compared(path: Path, name: str, section: FilesSource, *, tabs: bool, quoting: bool, num_bad: int) -> Advice:
    """How the other way of quoting would read a file that has bad rows."""
    own, other = ("standard", "none") if quoting else ("none", "standard")
    num_rows = num_other = 0
    try:
        for _, row in open_cells(path, name, section.model_copy(update={"quoting": other}), tabs=tabs):
            num_rows += 1
            num_other += isinstance(row, BadLine)
    except DataError:  # no header when read that way
        return ""
    if not num_other:
        return Words("With ", Setting("quoting", other), f" every row can be read ({count(num_rows, 'row')}).")
    bad_rows = count(num_other, "row that cannot be read", "rows that cannot be read")
    better = Words(" ", Setting("quoting", other, "Set"), " first.") if num_other < num_bad else ""
    return Words(Setting("quoting", own), f" leaves {num_bad:,}, ", Setting("quoting", other), f" {bad_rows}.", better)


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


class Cells:
    """The rows of a csv or tsv file below its header; `notes` is complete once they have been read."""

    def __init__(self, lines: TextLines, name: str, options: CellOptions) -> None:
        """The header is the first row unless there are `column_names`. DataError where there is no usable header."""
        self._lines = lines
        self._name = name
        self._ignores_extra = options.extra_cells == "ignore"
        self._has_given_names = bool(options.column_names)
        self._num_wide = 0
        self._first_wide = 0
        skip_lines(lines, options.skip_lines, name)
        self.delimiter = self._find_delimiter(options)
        """Between two cells."""
        self.quoting = options.quoting == "standard" or (options.quoting == "auto" and not options.tabs)
        """Whether double quotes enclose cells."""
        self.notes: list[str] = []
        """What was decided or left out so far, as sentences."""
        self.saw_quotes = False
        """Whether any line so far has a double quote."""
        self._enclosed: EnclosedCells | None = None
        if self.delimiter in '"\n\r\0':
            raise DataError(f"delimiter = {self.delimiter!r} cannot separate columns.")
        if options.quoting == "auto" and options.tabs:
            self._settle_quoting(has_header=not options.column_names)
        self._skips_blanks = self.quoting and self._find_blanks()
        self.names = _check_names(options.column_names, "column_names") if options.column_names else self._header()
        """The columns in the order of the cells; empty for one without a name."""
        self._rows = self._read(len(self.names))
        if options.column_names:
            first = self._first(self._rows)
            if first[1] == list(self.names):
                raise DataError(
                    Words("The first line of the file repeats ", Setting("column_names"), ": it is a header."),
                    hint=Words("Remove ", Setting("column_names"), "."),
                    key="column_names",
                    value=options.column_names,
                    place=f"{name}, line {first[0]}",
                )
            self._rows = chain([first], self._rows)

    def __iter__(self) -> Iterator[tuple[int, list[str] | BadLine]]:
        """For each row, the line where it begins and its cells, one per column, or what is wrong with it."""
        yield from self._rows
        if self._num_wide:
            rows = count(self._num_wide, "row has", "rows have")
            where = f"the first in line {self._first_wide}"
            self.notes.append(f"{self._name}: {rows} more cells than columns; the extra cells are ignored ({where})")
        if self._enclosed is not None and (num := self._enclosed.num_suspicious):
            self.notes.append(
                f"{self._name}: {count(num, 'cell is', 'cells are')} in double quotes, which are kept as part of the"
                f" text;"
                ' quoting = "standard" removes them'
            )

    def _settle_quoting(self, *, has_header: bool) -> None:
        """Quotes of tsv are characters, unless the first lines show that csv quoting was used."""
        ahead = self._lines.peek(SAMPLE_LINES, SAMPLE_CHARACTERS)
        if looks_quoted(ahead, self.delimiter, has_header=has_header):
            self.quoting = True
            self.notes.append(
                f"{self._name}: cells are enclosed in double quotes, as in csv; the quotes are removed (quoting ="
                f' "standard");'
                ' quoting = "none" keeps them'
            )
        else:
            self._enclosed = EnclosedCells()

    def _find_blanks(self) -> bool:
        """Whether there are blanks before the quotes of cells, which would otherwise count as part of the cell."""
        if not blanks_before_quotes(self._lines.peek(SAMPLE_LINES, SAMPLE_CHARACTERS), self.delimiter):
            return False
        self.notes.append(
            f"{self._name}: there are blanks between delimiters and quotes; blanks before a cell are dropped (quoting"
            f' = "none"'
            " keeps them and the quotes)"
        )
        return True

    def _find_delimiter(self, options: CellOptions) -> str:
        """The delimiter; a line `sep=;` above the header, as Excel writes it, is read and skipped."""
        ahead = self._lines.peek(1)
        match = _SEPARATOR_LINE.fullmatch(ahead[0].rstrip("\r\n")) if ahead else None
        if match is None:
            return options.delimiter or ("\t" if options.tabs else ",")
        if options.delimiter not in (None, match[1]):
            raise DataError(
                f"{self._name}, line {self._lines.number + 1} says sep={match[1]}, but delimiter ="
                f" {options.delimiter!r}.",
                hint="Remove one of the two.",
            )
        next(iter(self._lines))
        return match[1]

    def _header(self) -> tuple[str, ...]:
        line, cells = self._first(self._read(0))
        if isinstance(cells, BadLine):
            what = "the header cannot be read: " if cells.hint == _QUOTE_HINT else ""
            raise DataError(f"{self._name}, line {line}: {what}{cells.reason}.", hint=cells.hint)
        if sum(map(len, cells)) > _HEADER_SIZE:
            raise DataError(
                f"{self._name}: its first line is longer than {_HEADER_SIZE:,} characters, which is not a header.",
                hint=Words(
                    "For a file without a header ",
                    Setting("column_names", verb="set"),
                    "; for lines of text ",
                    Setting("format", "text", "set"),
                    ".",
                ),
                key="format",
                place=f"{self._name}, line {line}",
            )
        if any("\r" in cell for cell in cells) and not self._lines.text.endswith("\n"):
            raise DataError(
                f"{self._name} ends its lines with carriage returns only.", hint="Save it with line feeds."
            )
        return _check_names(tuple(cell.strip() for cell in cells), f"{self._name}, line {line}")

    def _first(self, rows: Iterator[tuple[int, list[str] | BadLine]]) -> tuple[int, list[str] | BadLine]:
        first = next(rows, None)
        if first is None:
            raise DataError(f"{self._name} is empty: it holds only blank lines.")
        return first

    def _read(self, num_columns: int) -> Iterator[tuple[int, list[str] | BadLine]]:
        """Rows from the next line on; one without `num_columns` cells is bad (0: any number will do)."""
        lines, delimiter = self._lines, self.delimiter
        reader = csv_reader(lines, delimiter, quoting=self.quoting, strict=True, skips_blanks=self._skips_blanks)
        while True:
            first = lines.number + 1
            reason, hint = "", _NO_ADVICE
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "\r" in lines.text and lines.number == first and not (self.quoting and '"' in lines.text):
                    # A lone carriage return outside quotes, which the csv module does not accept as text.
                    cells = lines.text.removesuffix("\n").removesuffix("\r").split(delimiter)
                else:
                    cells, reason, hint = [], _quote_reason(lines, first, error), _QUOTE_HINT
            self.saw_quotes = self.saw_quotes or '"' in lines.text
            if lines.problem is not None:
                reason, hint = reason or lines.problem.reason, hint or lines.problem.hint
                lines.problem = None
            elif cells and num_columns and len(cells) != num_columns:
                cells, reason, hint = self._fit(cells, first)
            if reason:
                yield first, BadLine(first, reason, hint)
            elif cells:
                if self._enclosed is not None and num_columns:
                    self._enclosed.add(cells, lines.text)
                yield first, cells

    def _fit(self, cells: list[str], line: int) -> tuple[list[str], str, Advice]:
        """A row whose number of cells is wrong: the cells that count, or why it is bad and what to do."""
        num_columns = len(self.names)
        if len(cells) > num_columns and self._ignores_extra:
            self._num_wide += 1
            self._first_wide = self._first_wide or line
            return cells[:num_columns], "", ""
        verb = "is" if num_columns == 1 else "are"
        reason = f"{count(len(cells), 'cell')} where {num_columns} {verb} expected ({listing(self.names, 6)})"
        hint = delimiter_hint(self.names, self.delimiter) or self._hint_of_row(cells)
        return [], reason, hint or (_EXTRA_HINT if len(cells) > num_columns else "")

    def _hint_of_row(self, cells: list[str]) -> Advice:
        """A hint if another delimiter would cut the one cell of a row into as many cells as there are names."""
        for delimiter in _DELIMITERS:
            if (
                self._has_given_names
                and len(cells) == 1
                and delimiter != self.delimiter
                and cells[0].count(delimiter) + 1 == len(self.names)
            ):
                return _set_delimiter(delimiter, f"make {len(self.names)} cells of it")
        return ""


def _check_names(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if len(names) > _MAX_COLUMNS:
        raise DataError(
            f"{where}: {len(names):,} columns are more than the limit of {_MAX_COLUMNS:,}.",
            hint="Is the delimiter right?",
        )
    if not any(names):
        raise DataError(
            f"{where}: no column has a name.",
            hint=Words(Setting("column_names", verb="Set"), " if the file has no header line."),
        )
    twice = repeated_names(filter(None, names))
    if twice:
        what = listing(shorten(one) for one in twice)
        hint = Words("Rename them, or ", Setting("column_names", verb="set"), " if the file has no header line.")
        raise DataError(
            f"{where}: {count(len(twice), 'column name occurs', 'column names occur')} twice: {what}.", hint=hint
        )
    return names


def named_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; several columns without a name get one as in pandas, while a single one stays without."""
    if names.count("") <= 1:
        return names
    return _check_names(tuple(name or f"Unnamed: {index}" for index, name in enumerate(names)), "the header")


def delimiter_hint(names: tuple[str, ...], delimiter: str) -> Advice:
    """A hint if the header is one column that another delimiter would cut."""
    if len(names) != 1:
        return ""
    best = max(_DELIMITERS, key=names[0].count)
    if best == delimiter or best not in names[0]:
        return ""
    return _set_delimiter(best, f"make {names[0].count(best) + 1} columns of the header")


def _set_delimiter(delimiter: str, effect: str) -> Words:
    shown = _DELIMITERS[delimiter]
    return Words(f"The delimiter looks wrong: {shown} would {effect}; ", Setting("delimiter", delimiter, "set"), ".")


def _quote_reason(lines: TextLines, first: int, error: csv.Error) -> str:
    """Why the csv module gave up on the row that begins at line `first`, and how many lines that costs."""
    num_lines = lines.number - first + 1
    if lines.ended:
        lost = f", which costs the {num_lines:,} lines to the end of the file" if num_lines > 1 else ""
        return f"a quote opens a cell here and is never closed{lost}"
    costs = f"; the row takes {num_lines:,} lines" if num_lines > 1 else ""
    if "expected after" in str(error):
        return (
            f"a closing quote is followed by neither a delimiter nor the end of the line: {shorten(lines.text)}{costs}"
        )
    if "\r" in lines.text and "new-line" in str(error):
        return f"there is a carriage return outside quotes: {shorten(lines.text)}{costs}"
    return f"it cannot be read: {error}{costs}"
