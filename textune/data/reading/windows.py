"""Rows in, a window at a time: what `textune predict` reads, in order and in bounded memory; `writer.py` writes them.

Rows keep the columns of the input: parquet and Arrow files give tables in their own types, other formats dictionaries,
in which cells of csv and tsv are strings. `window_rows` turns a window into what `sources.py` makes of a file.
"""

from __future__ import annotations

import re
import select
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.reading.columnar import arrow_piece
from textune.data.reading.delimited import Cells, delimiter_hint, named_columns
from textune.data.reading.files import BadLine, TextLines, raw_blocks, skip_lines
from textune.data.reading.jsonfiles import parse_line
from textune.data.reading.records import RecordTable
from textune.data.reading.rows import Piece, Places, SkippedRow
from textune.data.reading.streamoptions import STANDARD, StreamOptions, stream_name
from textune.data.reading.tables import open_tables
from textune.errors import Advice, DataError
from textune.wording import listing, shorten

Row = dict[str, object]
RowBlock: TypeAlias = list[Row] | pa.Table
"""Rows, one after the other."""
OnBad = Callable[[SkippedRow], None]
"""Called with each row that cannot be read."""

_PIPE_BYTES = 1 << 16


@dataclass(frozen=True)
class Window:
    """Consecutive rows with the numbers of their lines."""

    numbers: Sequence[int]
    rows: RowBlock

    def keep(self, chosen: np.ndarray) -> Window:
        """The chosen rows, bool [N]."""
        rows = self.rows
        kept = (
            [row for row, keep in zip(rows, chosen, strict=True) if keep]
            if isinstance(rows, list)
            else rows.filter(pa.array(chosen))
        )
        return Window([number for number, keep in zip(self.numbers, chosen, strict=True) if keep], kept)


class OpenRows:
    """An open input: what is known of its columns, then its rows."""

    def __init__(
        self,
        rows: Iterator[tuple[int, Row]] | Iterator[Window],
        *,
        schema: pa.Schema | None = None,
        is_table: bool = False,
        hint: Advice = "",
        notes: Callable[[], list[str]] = list,
    ) -> None:
        self.notes = notes
        """Notes as sentences, once the rows have been read."""
        self.schema = schema
        """Its columns and their types; None if only the rows show them."""
        self.hint = hint
        """A suspicion to add to a message about a missing column."""
        self._rows = rows
        self._is_table = is_table

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Each row with its number, as dictionaries."""
        if not self._is_table:
            yield from self._rows  # type: ignore[misc]
            return
        for window in self._tables():
            yield from zip(window.numbers, window.rows.to_pylist(), strict=True)  # type: ignore[union-attr]

    def windows(self, texts: Collection[str], *, max_rows: int, max_characters: int) -> Iterator[Window]:
        """Windows of at most `max_rows` rows and, except for the last row, `max_characters` in the columns `texts`."""
        if self._is_table:
            for window in self._tables():
                yield from _cut_table(window, texts, max_rows, max_characters)
        else:
            yield from _cut_rows(self._rows, texts, max_rows, max_characters)  # type: ignore[arg-type]

    def _tables(self) -> Iterator[Window]:
        return self._rows  # type: ignore[return-value]


def open_rows(path: str, options: StreamOptions, *, text_column: str, on_bad: OnBad | None = None) -> OpenRows:
    """Open a file or standard input. `text_column` names the one column of text.

    DataError for an input that cannot be read, and for a row that cannot be read, with its line, unless `on_bad` takes
    it.
    """
    name = stream_name(path)
    refuse = on_bad or _refuse
    if options.format in {"parquet", "arrow"}:
        if path == STANDARD:
            raise DataError(f"{options.format} cannot be read from standard input.", hint="Give the file with --data.")
        schema, tables = open_tables(Path(path), name, options.format)
        return OpenRows(_sound_tables(tables, name, refuse), schema=schema, is_table=True)
    blocks = _standard_blocks() if path == STANDARD else raw_blocks(Path(path))
    first = next(blocks, b"")
    if not first:
        raise DataError(f"{name} is empty.", hint="It has 0 bytes: has its writer finished?")
    lines = TextLines(name, chain([first], blocks), options.encoding)
    if options.format == "jsonl":
        return OpenRows(_read_jsonl(lines, name, options.column_names, refuse))
    if options.format == "text":
        skip_lines(lines, options.skip_lines, name)
        names = (text_column,) if options.pattern is None else tuple(re.compile(options.pattern).groupindex)
        return OpenRows(_read_text(lines, name, options, names, refuse), schema=_of_text(names))
    cells = Cells(lines, name, options.cells)
    names = named_columns(cells.names)
    return OpenRows(
        _read_cells(names, cells, name, refuse),
        schema=_of_text(names),
        hint=delimiter_hint(cells.names, cells.delimiter),
        notes=lambda: cells.notes,
    )


def read_rows(
    path: str, options: StreamOptions, *, text_column: str, notice: Callable[[str], None] = lambda _: None
) -> Generator[tuple[int, Row]]:
    """Yield (line number, or row number in parquet; row); as `open_rows`. `notice` receives what was decided on the
    way."""
    opened = open_rows(path, options, text_column=text_column)
    yield from opened.rows()
    for note in opened.notes():
        notice(note)


def _of_text(names: Iterable[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])


def _refuse(bad: SkippedRow) -> None:
    raise DataError(f"{bad.place}: {bad.reason}.", hint=bad.hint, place=bad.place, reason=bad.reason)


def _standard_blocks() -> Iterator[bytes]:
    """Standard input as it comes, without waiting for a whole block.

    Reads below the buffer, if there is one: a thread waiting in it would hold the buffer's lock when the process ends.
    """
    binary = sys.stdin.buffer
    source = getattr(binary, "raw", binary)
    while (block := source.read(_PIPE_BYTES)) != b"":
        if block is None:  # nothing there yet, on a pipe opened as non-blocking
            select.select([source], [], [])
        else:
            yield block


def _bad_line(bad: BadLine, name: str) -> SkippedRow:
    hint = "Fix the line, check --encoding, --delimiter and --quoting, or leave such rows out with --skip-bad-rows."
    return SkippedRow(f"{name}, line {bad.line}", bad.reason, hint)


def _sound(lines: TextLines, name: str, refuse: OnBad) -> Iterator[str]:
    for line in lines:
        problem, lines.problem = lines.problem, None
        if problem is not None:
            refuse(_bad_line(problem, name))
        else:
            yield line


def _read_text(
    lines: TextLines, name: str, options: StreamOptions, names: tuple[str, ...], refuse: OnBad
) -> Iterator[tuple[int, Row]]:
    matcher = None if options.pattern is None else re.compile(options.pattern)
    for line in _sound(lines, name, refuse):
        text = line.removesuffix("\n").removesuffix("\r")
        if matcher is None:
            yield lines.number, {names[0]: text}
        elif (match := matcher.fullmatch(text)) is not None:
            yield lines.number, match.groupdict()
        else:
            reason = f"{shorten(text)} does not fit the pattern (groups {listing(names)})"
            hint = "If lines have no label, --reading plain takes each one as a text; --pattern sets another pattern."
            refuse(SkippedRow(f"{name}, line {lines.number}", reason, hint))


def _read_jsonl(
    lines: TextLines, name: str, column_names: tuple[str, ...], refuse: OnBad
) -> Iterator[tuple[int, Row]]:
    has_rows = False
    for line in _sound(lines, name, refuse):
        if not line.strip():
            continue
        has_rows, place = True, f"{name}, line {lines.number}"
        row, reason = parse_line(line.strip())
        if reason:
            refuse(SkippedRow(place, reason, "Each line must be one JSON object."))
        elif column_names and isinstance(row, list) and len(row) == len(column_names):
            yield lines.number, dict(zip(column_names, row, strict=True))
        elif column_names:
            shown = f"{line.strip()[:40]!r} is not a list of values for {listing(column_names, 6)}"
            refuse(SkippedRow(place, shown, "--column-names is for rows that are lists."))
        elif isinstance(row, dict):
            yield lines.number, row
        else:
            shown = f"{line.strip()[:40]!r} is not a JSON object"
            refuse(SkippedRow(place, shown, 'Each line must be one, such as {"text": "..."}.'))
    if not has_rows:
        raise DataError(f"{name} holds no rows: all its lines are blank.")


def _read_cells(names: tuple[str, ...], rows: Cells, name: str, refuse: OnBad) -> Iterator[tuple[int, Row]]:
    for number, cells in rows:
        if isinstance(cells, BadLine):
            refuse(_bad_line(cells, name))
        else:
            yield number, dict(zip(names, cells, strict=True))


def _sound_tables(tables: Generator[pa.Table], name: str, refuse: OnBad) -> Iterator[Window]:
    """Tables with the numbers of their rows, without rows whose bytes are not text."""
    first = 1
    with closing(tables):
        for table in tables:
            numbers = np.arange(first, first + table.num_rows)
            try:
                table.validate(full=True)
                window = Window(numbers.tolist(), table)
            except pa.ArrowInvalid:
                piece = arrow_piece(table, name, first=first)  # which names the rows, or says what is damaged
                for row in piece.bad:
                    refuse(replace(row, hint="Fix the row, or leave such rows out with --skip-bad-rows."))
                window = Window(numbers.tolist(), table).keep(np.isin(numbers, piece.places.number_N))
            first += len(numbers)
            yield window


def _cut_rows(
    rows: Iterable[tuple[int, Row]], texts: Collection[str], max_rows: int, max_characters: int
) -> Iterator[Window]:
    numbers: list[int] = []
    window: list[Row] = []
    num_characters = 0
    for number, row in rows:
        numbers.append(number)
        window.append(row)
        for column in texts:
            cell = row.get(column)
            num_characters += len(cell) if isinstance(cell, str) else 0
        if len(window) >= max_rows or num_characters >= max_characters:
            yield Window(numbers, window)
            numbers, window, num_characters = [], [], 0
    if window:
        yield Window(numbers, window)


def _cut_table(window: Window, texts: Collection[str], max_rows: int, max_characters: int) -> Iterator[Window]:
    table = window.rows
    assert isinstance(table, pa.Table)
    length_N = np.zeros(table.num_rows, np.int64)
    for column in set(texts).intersection(table.column_names):
        cells = table.column(column)
        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            length_N += pc.fill_null(pc.utf8_length(cells), 0).to_numpy()
    start = 0
    while start < table.num_rows:
        over = np.flatnonzero(np.cumsum(length_N[start : start + max_rows]) >= max_characters)
        stop = start + (int(over[0]) + 1 if len(over) else max_rows)
        yield Window(window.numbers[start:stop], table.slice(start, stop - start))
        start = stop


def window_rows(window: Window, name: str, unit: str, *, wanted: Sequence[str]) -> Piece:
    """The wanted columns of a window in the form of a source, so that the rest of the flow sees no difference.

    A column that no row of the window has is all missing. `Piece.bad`: rows whose value is of another kind than the
    column's, set aside as the readers of whole files do.
    """
    numbers = np.array(window.numbers, np.int64)
    if isinstance(window.rows, list):
        records = RecordTable(frozenset(wanted))
        records.add_all(window.rows, window.numbers)
        piece = records.finish(name, unit)
    else:
        present = [column for column in wanted if column in window.rows.column_names]
        piece = arrow_piece(window.rows.select(present), name)
        piece = replace(piece, places=Places.of_file(name, unit, numbers))
    missing = pa.nulls(len(piece.places))
    found = set(piece.table.column_names)
    fields = [
        piece.table.schema.field(column) if column in found else pa.field(column, pa.null()) for column in wanted
    ]
    columns = [piece.table.column(column) if column in found else missing for column in wanted]
    return replace(piece, table=pa.Table.from_arrays(columns, schema=pa.schema(fields)))
