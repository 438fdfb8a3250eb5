"""Rows in and rows out, a window at a time: what `textune predict` reads and writes, in bounded memory and in order.

Rows are dictionaries with their columns as they stood in the input, so that what is written keeps all of them. Cells of csv
and tsv are strings; jsonl and parquet keep their types.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, Self, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.delimited import read_cells
from textune.data.files import COMPRESSION, BadLine, TextLines, raw_blocks
from textune.errors import DataError

StreamFormat = Literal["csv", "tsv", "jsonl", "parquet", "text"]
STANDARD = "-"
"""The path that means standard input or output."""
Row = dict[str, Any]

_PIPE_BYTES = 1 << 16


@dataclass(frozen=True)
class StreamOptions:
    """How the rows of a stream are written down."""

    format: StreamFormat
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Literal["auto", "standard", "none"] = "auto"
    column_names: tuple[str, ...] = ()
    """Names for the columns of csv or tsv without a header; for text the one column is named `text`."""

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


def read_rows(path: str, options: StreamOptions, *, text_column: str) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) from a file or from standard input; DataError names the line of a row that cannot be read."""
    name = "standard input" if path == STANDARD else path
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
            yield f"{name}, line {lines.number}", {text_column: line.removesuffix("\n").removesuffix("\r")}
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


def _read_jsonl(lines: TextLines, name: str) -> Iterator[tuple[str, Row]]:
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
        yield place, row


def _read_csv(lines: TextLines, name: str, options: StreamOptions) -> Iterator[tuple[str, Row]]:
    names, rows = read_cells(
        lines, name, delimiter=options.separator, quoting=options.quoted, column_names=options.column_names
    )
    for number, cells in rows:
        if isinstance(cells, BadLine):
            raise _refusal(cells, name)
        yield f"{name}, line {number}", dict(zip(names, cells, strict=True))


def _read_parquet(path: str, name: str) -> Iterator[tuple[str, Row]]:
    if path == STANDARD:
        raise DataError("parquet cannot be read from standard input.", hint="Give the file with --input.")
    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield f"{name}, row {number}", row
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", hint="Check the path.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable parquet file: {str(error).splitlines()[0]}.") from None


def parquet_schema(path: str, options: StreamOptions) -> pa.Schema | None:
    """Column types of a parquet file; None for another format."""
    if options.format != "parquet" or path == STANDARD:
        return None
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}.") from None


class RowWriter:
    """Writes windows of rows in one format; a file appears under its name only when it is complete."""

    def __init__(self, path: str, options: StreamOptions, *, schema: pa.Schema | None = None) -> None:
        """`schema`: types of columns that come from a parquet file, which keep them in parquet."""
        self._path = path
        self._options = options
        self._schema = schema
        self._aside = None if path == STANDARD else Path(path).with_name(Path(path).name + ".writing")
        self._names: list[str] | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._text: IO[str] | None = None

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
        if self._parquet is not None:
            self._parquet.close()
        if self._text is not None and self._aside is not None:
            self._text.close()
        elif self._text is not None:
            self._text.flush()
        if self._aside is not None and self._aside.exists():
            if kind is None:
                self._aside.replace(self._path)
            else:
                self._aside.unlink()

    def write(self, rows: list[Row]) -> None:
        """Append rows; all rows of csv, tsv and parquet have the columns of the first."""
        if not rows:
            return
        if self._options.format == "parquet":
            self._write_parquet(rows)
            return
        assert self._text is not None
        if self._options.format == "jsonl":
            self._text.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
            return
        self._write_csv(rows)

    def _write_csv(self, rows: list[Row]) -> None:
        assert self._text is not None
        options = self._options
        plain = csv.writer(self._text, delimiter=options.separator, lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        quoting = csv.writer(self._text, delimiter=options.separator, lineterminator="\n")
        # Python before 3.13 leaves a lone carriage return unquoted, which readers take for the end of the line.
        quoting_all = csv.writer(self._text, delimiter=options.separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        if self._names is None:
            self._names = list(rows[0])
            if not options.column_names:
                (quoting if options.quoted else plain).writerow(self._names)
        for row in rows:
            cells = [_cell(row.get(name)) for name in self._names]
            if options.quoted:
                (quoting_all if any("\r" in cell for cell in cells) else quoting).writerow(cells)
            else:
                # Where quotes are plain characters nothing can enclose a tab or a line end: a blank takes their place.
                plain.writerow([" ".join(cell.replace(options.separator, " ").splitlines()) for cell in cells])

    def _write_parquet(self, rows: list[Row]) -> None:
        assert self._aside is not None
        try:
            if self._parquet is None:
                schema = pa.Table.from_pylist(rows).schema
                for field in self._schema or ():
                    schema = schema.set(schema.get_field_index(field.name), field)
                self._parquet = pq.ParquetWriter(self._aside, schema)
            self._parquet.write_table(pa.Table.from_pylist(rows, schema=self._parquet.schema))
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self._path} cannot be written as parquet: {str(error).splitlines()[0]}.", hint="Write jsonl instead."
            ) from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
