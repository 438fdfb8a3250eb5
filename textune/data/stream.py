"""Rows in and rows out, a window at a time: what `textune predict` reads and writes, in bounded memory and in order.

Rows are dictionaries with their columns as they stood in the input, so that what is written keeps all of them. Cells of csv
and tsv are strings; jsonl and parquet keep their types. `window_rows` makes of a window what `sources.py` makes of a file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, Self, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.columnar import arrow_piece
from textune.data.delimited import read_cells
from textune.data.files import COMPRESSION, BadLine, TextLines, raw_blocks
from textune.data.records import RecordTable
from textune.data.rows import Rows, listing, repeated_names, shorten
from textune.errors import DataError

StreamFormat = Literal["csv", "tsv", "jsonl", "parquet", "text"]
STANDARD = "-"
"""The path that means standard input or output."""
Row = dict[str, Any]

_PIPE_BYTES = 1 << 16
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, TypeError)
"""What pyarrow raises over damaged bytes, and over values that its types cannot hold."""
_INSTEAD = "Write jsonl instead."


@dataclass(frozen=True)
class StreamOptions:
    """How the rows of a stream are written down."""

    format: StreamFormat
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Literal["auto", "standard", "none"] = "auto"
    column_names: tuple[str, ...] = ()
    """Names for the columns of csv or tsv without a header; for text the one column is named `text`."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise DataError(f"--delimiter {self.delimiter!r} is not one character.", hint='Such as "," or ";" or a tab.')

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
    raise DataError(
        f"{path}: the format {name!r} is not one of {', '.join(get_args(StreamFormat))}.", hint="Name one with --format."
    )


def stream_name(path: str) -> str:
    """The path for messages."""
    return "standard input" if path == STANDARD else path


def read_rows(path: str, options: StreamOptions, *, text_column: str) -> Iterator[tuple[int, Row]]:
    """Yield (number of the line, in parquet of the row; row) from a file or from standard input.

    DataError names the line of a row that cannot be read.
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
        for line in _sound(lines, name):
            yield lines.number, {text_column: line.removesuffix("\n").removesuffix("\r")}
    elif options.format == "jsonl":
        yield from _read_jsonl(lines, name)
    else:
        yield from _read_csv(lines, name, options)


def _standard_blocks() -> Iterator[bytes]:
    """Standard input as it comes, without waiting for a whole block."""
    binary = cast(io.BufferedReader, sys.stdin.buffer)
    while block := binary.read1(_PIPE_BYTES):
        yield block


def _sound(lines: TextLines, name: str) -> Iterator[str]:
    for line in lines:
        if lines.problem is not None:
            raise _refusal(lines.problem, name)
        yield line


def _refusal(bad: BadLine, name: str) -> DataError:
    return DataError(
        f"{name}, line {bad.line}: {bad.reason}.", hint="Mend the line, or check --encoding, --delimiter and --quoting."
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


def _read_csv(lines: TextLines, name: str, options: StreamOptions) -> Iterator[tuple[int, Row]]:
    names, rows = read_cells(
        lines, name, delimiter=options.separator, quoting=options.quoted, column_names=options.column_names
    )
    for number, cells in rows:
        if isinstance(cells, BadLine):
            raise _refusal(cells, name)
        yield number, dict(zip(names, cells, strict=True))


def _read_parquet(path: str, name: str) -> Iterator[tuple[int, Row]]:
    if path == STANDARD:
        raise DataError("parquet cannot be read from standard input.", hint="Give the file with --input.")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist.", hint="Check the path.")
    return DataError(f"{path} is not a readable parquet file: {_first_line(error)}.")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def parquet_schema(path: str, options: StreamOptions) -> pa.Schema | None:
    """Column types of a parquet file; None for another format."""
    if options.format != "parquet" or path == STANDARD:
        return None
    try:
        schema = pq.read_schema(path)
        names = list(schema.names)
    except _DAMAGE as error:
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
        raise DataError(f"{first.place}: {first.reason}.", hint=f"{first.hint} Mend the row, or leave it out.".strip())
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
    except _DAMAGE as error:
        raise DataError(f"{name}: column {column!r} ({kind}) cannot be read as text: {_first_line(error)}.") from None
    return pa.table(columns)


class RowWriter:
    """Writes windows of rows in one format; a file appears under its name only when it is complete."""

    def __init__(self, path: str, options: StreamOptions, *, schema: pa.Schema | None = None) -> None:
        """`schema`: types that columns have in parquet whatever their first rows hold."""
        self._path = path
        self._options = options
        self._schema = schema
        self._aside = None if path == STANDARD else Path(path).with_name(Path(path).name + ".writing")
        self._names: list[str] | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._text: IO[str] | None = None
        self.num_changed = 0
        """Cells in which a blank took the place of a delimiter or line end, for want of quotes."""

    def __enter__(self) -> Self:
        if self._options.format == "parquet":
            if self._aside is None:
                raise DataError("parquet cannot be written to standard output.", hint="Give a file with --output.")
        elif self._aside is None:
            self._text = sys.stdout
        else:
            try:
                opened = pa.output_stream(self._aside, compression=COMPRESSION.get(Path(self._path).suffix.lower()))
            except OSError as error:
                raise DataError(f"{self._path} cannot be written: {error}.", hint="Choose another --output.") from None
            self._text = io.TextIOWrapper(opened, encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._options.format == "parquet" and self._parquet is None:
                self._open_parquet(self._schema or pa.schema([]))
            with contextlib.suppress(*_DAMAGE) if kind is not None else contextlib.nullcontext():
                self._close()
            if kind is None and self._aside is not None:
                self._aside.replace(self._path)
        finally:
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self._text is not None and self._aside is not None:
            self._text.close()
        elif self._text is not None:
            self._text.flush()

    def write(self, rows: list[Row], places: Sequence[str] = ()) -> None:
        """Append rows. In csv, tsv and parquet all have the columns of the first; what a row lacks stays empty there.

        DataError where a row cannot be written in the format; `places` say where each comes from.
        """
        if not rows:
            return
        if self._options.format == "jsonl":
            self._write_jsonl(rows, places)
            return
        if self._names is None:
            self._names = list(rows[0])
            if self._options.format != "parquet":
                self._write_header(self._names)
        known = set(self._names)
        for index, row in enumerate(rows):
            if not row.keys() <= known:
                key = next(key for key in row if key not in known)
                raise DataError(
                    f"{_place(places, index)}: the key {shorten(ascii(key)[1:-1], 40)} is not in the first row, whose keys are"
                    f" the columns of the {self._options.format} output.",
                    hint=_INSTEAD,
                )
        if self._options.format == "parquet":
            self._write_parquet(rows)
        else:
            self._write_csv(rows, places)

    def _write_jsonl(self, rows: list[Row], places: Sequence[str]) -> None:
        assert self._text is not None
        for index, row in enumerate(rows):
            try:
                try:
                    self._text.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                except UnicodeEncodeError:  # half of a surrogate pair, or a terminal that knows fewer characters
                    self._text.write(json.dumps(row, default=str) + "\n")
            except (RecursionError, ValueError, TypeError) as error:
                raise DataError(f"{_place(places, index)} cannot be written as JSON: {_first_line(error)}.") from None

    def _write_header(self, names: list[str]) -> None:
        if not self._options.column_names:
            self._write_csv([dict(zip(names, names, strict=True))], ["the names of the columns"])

    def _write_csv(self, rows: list[Row], places: Sequence[str]) -> None:
        assert self._text is not None and self._names is not None
        separator = self._options.separator
        plain = csv.writer(self._text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        quoting = csv.writer(self._text, delimiter=separator, lineterminator="\n")
        # Python before 3.13 leaves a lone carriage return unquoted, which readers take for the end of the line.
        quoting_all = csv.writer(self._text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        # Where quotes are plain characters nothing can enclose a tab or a line end: a blank takes their place.
        unsafe, blank = re.compile(f"\r\n|[\r\n{re.escape(separator)}]"), "_" if separator == " " else " "
        for index, row in enumerate(rows):
            try:
                cells = [_cell(row.get(name)) for name in self._names]
                if self._options.quoted:
                    (quoting_all if any("\r" in cell for cell in cells) else quoting).writerow(cells)
                else:
                    safe = [unsafe.sub(blank, cell) for cell in cells]
                    self.num_changed += sum(a != b for a, b in zip(cells, safe, strict=True))
                    plain.writerow(safe)
            except (RecursionError, ValueError, TypeError, csv.Error) as error:
                raise DataError(
                    f"{_place(places, index)} cannot be written as {self._options.format}: {_first_line(error)}.", hint=_INSTEAD
                ) from None

    def _write_parquet(self, rows: list[Row]) -> None:
        assert self._names is not None
        try:
            if self._parquet is None:
                schema = pa.Table.from_pylist(rows).select(self._names).schema
                for field in self._schema or ():
                    if field.name in self._names:
                        schema = schema.set(schema.get_field_index(field.name), field)
                self._open_parquet(schema)
            assert self._parquet is not None
            self._parquet.write_table(pa.Table.from_pylist(rows, schema=self._parquet.schema))
        except (*_DAMAGE, RecursionError) as error:
            raise DataError(f"{self._path} cannot be written as parquet: {_first_line(error)}.", hint=_INSTEAD) from None

    def _open_parquet(self, schema: pa.Schema) -> None:
        try:
            self._parquet = pq.ParquetWriter(self._aside, schema)
        except OSError as error:
            raise DataError(f"{self._path} cannot be written: {error}.", hint="Choose another --output.") from None


def _place(places: Sequence[str], index: int) -> str:
    return places[index] if places else f"row {index + 1}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
