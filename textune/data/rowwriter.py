"""Rows out, a window at a time: the other end of `stream.py`, for `textune predict`."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.files import COMPRESSION
from textune.data.rows import shorten
from textune.data.stream import DAMAGE, STANDARD, Row, StreamOptions, first_line
from textune.errors import DataError

Formatted: TypeAlias = str | pa.Table
"""Rows as they are written: a table for parquet, text for all other formats."""
Place = Callable[[int], str]
"""Where a row of a window comes from, by its index."""

_INSTEAD = "Write jsonl instead."
_ENCODE = json.JSONEncoder(ensure_ascii=False, default=str).encode


class RowWriter:
    """Formats windows of rows and writes them; a file appears under its name only when it is complete.

    `format` touches nothing that `write` does, so that a thread may format a window while another is written.
    """

    def __init__(self, path: str, options: StreamOptions, *, schema: pa.Schema | None = None) -> None:
        """`schema`: types that columns have in parquet whatever their first rows hold."""
        self._path = path
        self._options = options
        self._schema = schema
        # A name that nobody else has: neither a file of the user's nor that of another process with the same target.
        self._aside = None if path == STANDARD else Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}.writing")
        self._names: list[str] | None = None
        self._row_schema: pa.Schema | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._text: IO[str] | None = None
        self.num_changed = 0
        """Cells in which a blank took the place of a delimiter or line end, for want of quotes."""

    def __enter__(self) -> Self:
        if self._aside is None:
            if self._options.format == "parquet":
                raise DataError("parquet cannot be written to standard output.", hint="Give a file with --output.")
            self._text = sys.stdout
            return self
        try:
            self._aside.touch()  # whether it can be written shows now, though parquet's columns are known later
            if self._options.format != "parquet":
                opened = pa.output_stream(self._aside, compression=COMPRESSION.get(Path(self._path).suffix.lower()))
                self._text = io.TextIOWrapper(opened, encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._options.format == "parquet" and self._parquet is None:
                self._open_parquet(self._schema or pa.schema([]))
            with contextlib.suppress(*DAMAGE) if kind is not None else contextlib.nullcontext():
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

    def format(self, rows: list[Row], place: Place = "row {}".format) -> Formatted:
        """Rows as they will be written. In csv, tsv and parquet all have the columns of the first; what a row lacks stays empty
        there.

        DataError where a row cannot be written in the format; `place` says where it comes from.
        """
        if self._options.format == "jsonl":
            return self._json_lines(rows, place)
        header = ""
        if self._names is None:
            self._names = list(rows[0])
            if self._options.format != "parquet" and not self._options.column_names:
                header = self._csv_lines(
                    [dict(zip(self._names, self._names, strict=True))], lambda _: "the names of the columns"
                )
        known = set(self._names)
        for index, row in enumerate(rows):
            if not row.keys() <= known:
                key = next(key for key in row if key not in known)
                raise DataError(
                    f"{place(index)}: the key {shorten(ascii(key)[1:-1], 40)} is not in the first row, whose keys are"
                    f" the columns of the {self._options.format} output.",
                    hint=_INSTEAD,
                )
        return self._table(rows) if self._options.format == "parquet" else header + self._csv_lines(rows, place)

    def write(self, formatted: Formatted) -> None:
        """Append what `format` made."""
        if isinstance(formatted, str):
            assert self._text is not None
            self._text.write(formatted)
            if self._aside is None:
                self._text.flush()  # whoever reads the other end should not wait for the next window
            return
        try:
            if self._parquet is None:
                self._open_parquet(formatted.schema)
            assert self._parquet is not None
            self._parquet.write_table(formatted)
        except DAMAGE as error:
            raise self._no_parquet(error) from None

    def _is_writable(self, text: str) -> bool:
        """Whether the encoding of the output has all of these characters; half of a surrogate pair is in none."""
        encoding, errors = getattr(self._text, "encoding", None) or "utf-8", getattr(self._text, "errors", None) or "strict"
        try:
            text.encode(encoding, errors)
        except UnicodeEncodeError:
            return False
        return True

    def _json_lines(self, rows: list[Row], place: Place) -> str:
        lines = []
        for index, row in enumerate(rows):
            try:
                lines.append(_ENCODE(row))
            except (RecursionError, ValueError, TypeError) as error:
                raise DataError(f"{place(index)} cannot be written as JSON: {first_line(error)}.") from None
        text = "\n".join([*lines, ""])
        if self._is_writable(text):
            return text
        plain = [
            line if self._is_writable(line) else json.dumps(row, default=str) for line, row in zip(lines, rows, strict=True)
        ]
        return "\n".join([*plain, ""])

    def _csv_lines(self, rows: list[Row], place: Place) -> str:
        assert self._names is not None
        separator, text = self._options.separator, io.StringIO(newline="")
        plain = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        quoting = csv.writer(text, delimiter=separator, lineterminator="\n")
        # Python before 3.13 leaves a lone carriage return unquoted, which readers take for the end of the line.
        quoting_all = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        # Where quotes are plain characters nothing can enclose a tab or a line end: a blank takes their place.
        unsafe, blank = re.compile(f"\r\n|[\r\n{re.escape(separator)}]"), "_" if separator == " " else " "
        starts = []
        for index, row in enumerate(rows):
            starts.append(text.tell())
            try:
                cells = [_cell(row.get(name)) for name in self._names]
                if self._options.quoted:
                    (quoting_all if any("\r" in cell for cell in cells) else quoting).writerow(cells)
                else:
                    safe = [unsafe.sub(blank, cell) for cell in cells]
                    self.num_changed += sum(a != b for a, b in zip(cells, safe, strict=True))
                    plain.writerow(safe)
            except (RecursionError, ValueError, TypeError, csv.Error) as error:
                raise self._no_csv(place(index), first_line(error)) from None
        written = text.getvalue()
        if not self._is_writable(written):
            lines = [written[start:stop] for start, stop in pairwise([*starts, len(written)])]
            index = next(index for index, line in enumerate(lines) if not self._is_writable(line))
            raise self._no_csv(place(index), "it holds characters that the encoding of the output lacks")
        return written

    def _no_csv(self, place: str, reason: str) -> DataError:
        return DataError(f"{place} cannot be written as {self._options.format}: {reason}.", hint=_INSTEAD)

    def _table(self, rows: list[Row]) -> pa.Table:
        assert self._names is not None
        try:
            if self._row_schema is None:
                schema = pa.Table.from_pylist(rows).select(self._names).schema
                for field in self._schema or ():
                    if field.name in self._names:
                        schema = schema.set(schema.get_field_index(field.name), field)
                self._row_schema = schema
            return pa.Table.from_pylist(rows, schema=self._row_schema)
        except (*DAMAGE, RecursionError) as error:
            raise self._no_parquet(error) from None

    def _no_parquet(self, error: Exception) -> DataError:
        return DataError(f"{self._path} cannot be written as parquet: {first_line(error)}.", hint=_INSTEAD)

    def _open_parquet(self, schema: pa.Schema) -> None:
        try:
            self._parquet = pq.ParquetWriter(self._aside, schema)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"{self._path} cannot be written: {error.strerror or error}.", hint="Choose another --output.")


def _cell(value: Any) -> str:
    """A value as csv has it: text as it stands, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # what JSON makes of them, but faster
    return _ENCODE(value)
