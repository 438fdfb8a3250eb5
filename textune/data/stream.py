"""Rows in, a window at a time: what `textune predict` reads, in bounded memory and in order; `rowwriter.py` writes them.

Rows are dictionaries with their columns as they stood in the input, so that what is written keeps all of them. Cells of csv
and tsv are strings; jsonl and parquet keep their types. `window_rows` makes of a window what `sources.py` makes of a file.
"""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.columnar import arrow_piece
from textune.data.delimited import CellOptions, Cells, named_columns
from textune.data.files import BadLine, TextLines, raw_blocks, skip_lines
from textune.data.foreign import PARQUET, refuse_foreign_file
from textune.data.records import RecordTable
from textune.data.rows import Rows, listing, repeated_names
from textune.errors import DataError

StreamFormat = Literal["csv", "tsv", "jsonl", "parquet", "text"]
STANDARD = "-"
"""The path that means standard input or output."""
Row = dict[str, Any]

_PIPE_BYTES = 1 << 16
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, TypeError)
"""What pyarrow raises over damaged bytes, and over values that its types cannot hold."""


@dataclass(frozen=True)
class StreamOptions:
    """How the rows of a stream are written down."""

    format: StreamFormat
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Literal["auto", "standard", "none"] = "auto"
    column_names: tuple[str, ...] = ()
    """Names for the columns of csv or tsv without a header; for text the one column is named `text`."""

    skip_lines: int = 0
    """Lines of csv, tsv and text to leave out before the header or the first row."""
    extra_cells: Literal["error", "ignore"] = "error"
    """Rows of csv and tsv with more cells than columns: stop, or ignore the extra cells and say how many rows had them."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise DataError(f"--delimiter {self.delimiter!r} is not one character.", hint='Such as "," or ";" or a tab.')

    @property
    def cells(self) -> CellOptions:
        """How csv and tsv are read."""
        tabs = self.format == "tsv"
        return CellOptions(tabs, self.delimiter, self.quoting, self.column_names, self.skip_lines, self.extra_cells)

    @property
    def separator(self) -> str:
        """Between two cells."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def quoted(self) -> bool:
        """Whether double quotes enclose cells."""
        return self.quoting == "standard" or (self.quoting == "auto" and self.format == "csv")


def stream_format(path: str, wanted: str | None, *, default: StreamFormat | None = None) -> StreamFormat:
    """The format of a path by its ending, unless one is wanted; DataError lists the formats."""
    name = wanted or Path(path.removesuffix(".gz").removesuffix(".zst")).suffix.lstrip(".").lower()
    name = {"txt": "text", "ndjson": "jsonl", "pq": "parquet"}.get(name, name)
    for known in get_args(StreamFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    if default is not None and wanted is None:
        return default
    refuse_foreign_file(Path(path), path)
    raise DataError(
        f"{path}: the format {name!r} is not one of {', '.join(get_args(StreamFormat))}.", hint="Name one with --format."
    )


def stream_name(path: str) -> str:
    """The path for messages."""
    return "standard input" if path == STANDARD else path


def read_rows(
    path: str, options: StreamOptions, *, text_column: str, notice: Callable[[str], None] = lambda sentence: None
) -> Generator[tuple[int, Row]]:
    """Yield (number of the line, in parquet of the row; row) from a file or from standard input.

    DataError names the line of a row that cannot be read. `notice` is told what was decided on the way.
    """
    name = stream_name(path)
    if options.format == "parquet":
        yield from _read_parquet(path, name)
        return
    blocks = _standard_blocks() if path == STANDARD else raw_blocks(Path(path))
    first = next(blocks, b"")
    if not first:
        return
    lines = TextLines(name, chain([first], blocks), options.encoding)
    if options.format == "text":
        skip_lines(lines, options.skip_lines, name)
        for line in _sound(lines, name):
            yield lines.number, {text_column: line.removesuffix("\n").removesuffix("\r")}
    elif options.format == "jsonl":
        yield from _read_jsonl(lines, name)
    else:
        yield from _read_csv(lines, name, options, notice)


def _standard_blocks() -> Iterator[bytes]:
    """Standard input as it comes, without waiting for a whole block.

    Read below its buffer where there is one: a thread that waits in there would hold the buffer's lock when the process ends.
    """
    binary = sys.stdin.buffer
    source = getattr(binary, "raw", binary)
    while (block := source.read(_PIPE_BYTES)) != b"":
        if block is None:  # nothing there yet, where whoever opened the pipe made it so
            select.select([source], [], [])
        else:
            yield block


def _sound(lines: TextLines, name: str) -> Iterator[str]:
    for line in lines:
        if lines.problem is not None:
            raise _refusal(lines.problem, name)
        yield line


def _refusal(bad: BadLine, name: str) -> DataError:
    return DataError(
        f"{name}, line {bad.line}: {bad.reason}.", hint="Fix the line, or check --encoding, --delimiter and --quoting."
    )


def _read_jsonl(lines: TextLines, name: str) -> Iterator[tuple[int, Row]]:
    for line in _sound(lines, name):
        if not line.strip():
            continue
        place = f"{name}, line {lines.number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON ({error}).", hint="Each line must be one JSON object.") from None
        if not isinstance(row, dict):
            raise DataError(
                f"{place}: {line.strip()[:40]!r} is not a JSON object.", hint='Each line must be one, such as {"text": "..."}.'
            )
        yield lines.number, row


def _read_csv(lines: TextLines, name: str, options: StreamOptions, notice: Callable[[str], None]) -> Iterator[tuple[int, Row]]:
    found = Cells(lines, name, options.cells)
    names = named_columns(found.names)
    for number, cells in found:
        if isinstance(cells, BadLine):
            raise _refusal(cells, name)
        yield number, dict(zip(names, cells, strict=True))
    for note in found.notes:
        notice(note)


def _read_parquet(path: str, name: str) -> Iterator[tuple[int, Row]]:
    if path == STANDARD:
        raise DataError("parquet cannot be read from standard input.", hint="Give the file with --input.")
    refuse_foreign_file(Path(path), path, expected=PARQUET)
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except DAMAGE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist.", hint="Check the path.")
    return DataError(f"{path} is not a readable parquet file: {first_line(error)}.")


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def parquet_schema(path: str, options: StreamOptions) -> pa.Schema | None:
    """Column types of a parquet file; None for another format."""
    if options.format != "parquet" or path == STANDARD:
        return None
    refuse_foreign_file(Path(path), path, expected=PARQUET)
    try:
        schema = pq.read_schema(path)
        names = list(schema.names)
    except DAMAGE as error:
        raise _unreadable(path, error) from None
    if twice := repeated_names(names):
        raise DataError(f"{path} has two columns of the same name: {listing(repr(one) for one in twice)}.")
    return schema


def window_rows(
    window: Sequence[tuple[int, Row]],
    path: str,
    options: StreamOptions,
    *,
    wanted: Sequence[str],
    schema: pa.Schema | None = None,
) -> Rows:
    """The wanted columns of a window as a source has them, so that the rest of the flow cannot tell the two apart.

    A column that no row of the window has is all missing. DataError names the first row whose value is of another kind than
    the column's, as the readers of whole files do. `schema`: as `parquet_schema` gives it.
    """
    name, unit = stream_name(path), "row" if options.format == "parquet" else "line"
    numbers = [number for number, _ in window]
    if schema is None:
        records = RecordTable(frozenset(wanted))
        records.add_all([row for _, row in window], numbers)
        piece = records.finish(name, unit)
    else:
        piece = arrow_piece(_typed_table(window, name, wanted, schema), name)
    if piece.bad:
        first = piece.bad[0]
        raise DataError(f"{first.place}: {first.reason}.", hint=f"{first.hint} Fix the row, or leave it out.".strip())
    table = piece.table
    for column in wanted:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows))
    return Rows(table, name, "", (), piece.places)


def _typed_table(window: Sequence[tuple[int, Row]], name: str, wanted: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The columns of parquet rows in the types of their file."""
    columns = {}
    try:
        for column in wanted:
            kind = schema.field(column).type
            while isinstance(kind, pa.ExtensionType):
                kind = kind.storage_type
            columns[column] = pa.array([row[column] for _, row in window], kind)
    except DAMAGE as error:
        raise DataError(f"{name}: column {column!r} ({kind}) cannot be read as text: {first_line(error)}.") from None
    return pa.table(columns)
