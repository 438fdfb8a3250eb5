"""Rows out, a window at a time: the other end of `windows.py`, for `textune predict`.

No value is changed on the way: if the input can be read twice (`survey`), the columns and types of all rows are
decided before the first one is written, otherwise by the first window; a row that does not fit is refused with its
place.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Self, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from textune.atomic import WRITING, publish, sync_tree
from textune.data.reading.files import COMPRESSION
from textune.data.reading.plainrows import as_cell, as_json, plain_rows, reason_of
from textune.data.reading.rowtypes import Misfit, RowTypes, Unwritable, columns_of
from textune.data.reading.streamoptions import STANDARD, StreamOptions
from textune.data.reading.tables import DAMAGE
from textune.data.reading.windows import Row, RowBlock
from textune.errors import DataError

Formatted: TypeAlias = str | pa.Table
"""Rows as they are written: a table for parquet, text for all other formats."""
Place = Callable[[int], str]
"""Where a row of a window comes from, by its index."""
Columns: TypeAlias = Mapping[str, Sequence[object]]
"""Columns to add after those of the rows."""

_INSTEAD = "Write jsonl instead."


class RowWriter:
    """Formats windows of rows and writes them; a file appears under its name only when it is complete.

    `format` touches nothing that `write` does, so one window may be formatted in a thread while another is written.
    """

    def __init__(
        self, path: str, options: StreamOptions, *, schema: pa.Schema | None = None, added: pa.Schema | None = None
    ) -> None:
        """`schema`: the columns of the input if they are known beforehand; `added`: the columns that will follow
        them."""
        self._path = path
        self._options = options
        self._given = schema
        self._added = added if added is not None else pa.schema([])
        self._types = RowTypes()
        self._columns: pa.Schema | None = None
        """Columns of the input as they are written, once they are decided."""
        # What a link points to is replaced, not the link.
        self._target = None if path == STANDARD else Path(os.path.realpath(path))
        # A unique name: neither one of the user's files nor that of another process with the same target.
        self._aside = self._target and self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex}{WRITING}")
        self._parquet: pq.ParquetWriter | None = None
        self._text: IO[str] | None = None
        self._has_header = options.format == "jsonl" or bool(options.column_names)

    def __enter__(self) -> Self:
        if self._aside is None:
            if self._options.format == "parquet":
                raise DataError("parquet cannot be written to standard output.", hint="Give a file with --output.")
            self._text = sys.stdout
            return self
        try:
            self._aside.touch()  # fail now if it cannot be written, although parquet's columns are known later
            if self._options.format != "parquet":
                opened = pa.output_stream(self._aside, compression=COMPRESSION.get(Path(self._path).suffix.lower()))
                self._text = io.TextIOWrapper(opened, encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
            with contextlib.suppress(*DAMAGE) if kind is not None else contextlib.nullcontext():
                self._close()
            if kind is None and self._aside is not None and self._target is not None:
                if self._target.exists():
                    shutil.copymode(self._target, self._aside)  # who may read it is the user's choice
                sync_tree(self._aside)
                publish(self._aside, self._target)
        finally:
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Write what even a file without rows has: its columns."""
        if self._columns is None:
            self.settle()
        if self._options.format == "parquet" and self._parquet is None:
            self._open_parquet(self.schema)
        elif self._options.format != "parquet":
            self.write(self._header())

    def _close(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self._text is not None and self._aside is not None:
            self._text.close()
        elif self._text is not None:
            self._text.flush()

    # --- which columns, of which types -------------------------------------------------------------------------------

    def survey(self, rows: RowBlock, place: Place = "row {}".format) -> None:
        """Look at rows that will be written later; DataError for one that cannot be."""
        if self._options.format == "parquet" and self._given is not None:
            return
        self._learn(rows, place)
        if self._options.format != "parquet":
            self._lines(plain_rows(rows), self._names, place)

    def _learn(self, rows: RowBlock, place: Place) -> None:
        if self._given is not None or not isinstance(rows, list) or self._options.format == "jsonl":
            return
        typed = self._options.format == "parquet"
        for index, row in enumerate(rows):
            try:
                self._types.take(row if typed else dict.fromkeys(row), partial(place, index))
            except Misfit as misfit:
                raise self._refusal(place(index), str(misfit)) from None

    def settle(self) -> None:
        """All rows have been surveyed: their columns and types are final."""
        try:
            self._columns = self._given if self._given is not None else self._settled()
        except Unwritable as error:
            raise self._refusal(error.place, error.reason) from None

    def _settled(self) -> pa.Schema:
        if self._options.format == "parquet":
            return self._types.schema()
        return pa.schema([(name, pa.null()) for name in self._types.names])

    @property
    def _names(self) -> list[str]:
        """Columns of the input, as far as they are known."""
        return self._types.names if self._given is None else list(self._given.names)

    @property
    def input_schema(self) -> pa.Schema:
        """Columns and types of the input, once they are decided: another writer that is given them as `schema` formats
        the same rows alike."""
        assert self._columns is not None
        return self._columns

    @property
    def schema(self) -> pa.Schema:
        """All columns, once they are decided, with the metadata of the file."""
        assert self._columns is not None
        return pa.schema([*self._columns, *self._added], self._columns.metadata)

    # --- formatting --------------------------------------------------------------------------------------------------

    def format(self, rows: RowBlock, columns: Columns | None = None, place: Place = "row {}".format) -> Formatted:
        """Rows as they will be written, followed by the `added` columns. In csv, tsv and parquet all rows have the
        same columns; missing values are empty there.

        DataError where a row cannot be written in the format; `place` says where it comes from.
        """
        if self._columns is None:
            self._learn(rows, place)
            self.settle()
        elif isinstance(rows, list) and self._given is None and self._options.format != "jsonl":
            self._require_settled(rows, place)
        if self._options.format == "parquet":
            return self._table(rows, columns or {})
        plain = plain_rows(rows)
        for name, values in (columns or {}).items():
            for row, value in zip(plain, values, strict=True):
                row[name] = value
        return self._header() + self._lines(plain, [*self._names, *(columns or {})], place)

    def _require_settled(self, rows: list[Row], place: Place) -> None:
        known = set(self._names)
        for index, row in enumerate(rows):
            try:
                if self._options.format == "parquet":
                    self._types.take(row, partial(place, index), fixed=True)
                elif not row.keys() <= known:
                    self._types.take(dict.fromkeys(row), partial(place, index), fixed=True)
            except Misfit as misfit:
                raise self._refusal(place(index), str(misfit)) from None

    def _table(self, rows: RowBlock, columns: Columns) -> pa.Table:
        assert self._columns is not None
        try:
            arrays = columns_of(rows, self._columns) if isinstance(rows, list) else rows.columns
            added = [pa.array(columns[field.name], field.type) for field in self._added]
            return pa.Table.from_arrays([*arrays, *added], schema=self.schema)
        except (*DAMAGE, RecursionError) as error:
            raise self._no_parquet(error) from None

    def _lines(self, rows: list[Row], names: list[str], place: Place) -> str:
        return (
            self._json_lines(rows, place) if self._options.format == "jsonl" else self._csv_lines(rows, names, place)
        )

    def _header(self) -> str:
        """The line of names, once."""
        if self._has_header or not (names := [*self._names, *self._added.names]):
            return ""
        self._has_header = True
        return self._csv_lines([dict(zip(names, names, strict=True))], names, lambda _: "the names of the columns")

    def _json_lines(self, rows: list[Row], place: Place) -> str:
        lines = []
        for index, row in enumerate(rows):
            try:
                line = as_json(row)
                lines.append(line if self._is_writable(line) else as_json(row, escape=True))
            except (RecursionError, ValueError, TypeError) as error:
                raise self._refusal(place(index), reason_of(error), hint="Write csv or parquet instead.") from None
        return "\n".join([*lines, ""])

    def _csv_lines(self, rows: list[Row], names: list[str], place: Place) -> str:
        separator, text = self._options.separator, io.StringIO(newline="")
        plain = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        quoting = csv.writer(text, delimiter=separator, lineterminator="\n")
        # Python before 3.13 leaves a lone carriage return unquoted, which readers take as the end of the line; they
        # take the byte-order mark at the start as not part of the text.
        quoting_all = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        unquoted = re.compile(f"[\n{re.escape(separator)}]")
        starts = []
        for index, row in enumerate(rows):
            starts.append(text.tell())
            try:
                cells = [as_cell(row.get(name)) for name in names]
                if not self._options.quoted:
                    self._require_plain(cells, names, unquoted)
                    plain.writerow(cells)
                elif any("\r" in cell for cell in cells) or cells[0].startswith("\ufeff"):
                    quoting_all.writerow(cells)
                else:
                    quoting.writerow(cells)
                if any("\0" in cell for cell in cells):
                    raise ValueError("it holds a NUL character")
            except (RecursionError, ValueError, TypeError, csv.Error) as error:
                raise self._refusal(place(index), reason_of(error)) from None
        written = text.getvalue()
        if not self._is_writable(written):
            lines = [written[start:stop] for start, stop in pairwise([*starts, len(written)])]
            index = next(index for index, line in enumerate(lines) if not self._is_writable(line))
            raise self._refusal(place(index), "it holds characters that the output's encoding does not have")
        return written

    def _require_plain(self, cells: list[str], names: list[str], unquoted: re.Pattern[str]) -> None:
        """ValueError for a cell with a tab or a line end, which cannot be written without quotes."""
        for name, cell in zip(names, cells, strict=True):
            if unquoted.search(cell) or (name == names[-1] and cell.endswith("\r")):
                raise ValueError(
                    f"column {name!r} holds a delimiter or a line end, which cannot be written without quotes"
                )

    def _is_writable(self, text: str) -> bool:
        """Whether the encoding of the output has all of these characters; half of a surrogate pair is in none."""
        try:
            text.encode(getattr(self._text, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return False
        return True

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, formatted: Formatted) -> None:
        """Append what `format` made."""
        if isinstance(formatted, str):
            assert self._text is not None
            self._text.write(formatted)
            if self._aside is None:
                self._text.flush()  # the reader at the other end should not wait for the next window
            return
        try:
            if self._parquet is None:
                self._open_parquet(formatted.schema)
            assert self._parquet is not None
            self._parquet.write_table(formatted)
        except OSError as error:
            raise self._unwritable(error) from None
        except DAMAGE as error:
            raise self._no_parquet(error) from None

    def _open_parquet(self, schema: pa.Schema) -> None:
        try:
            self._parquet = pq.ParquetWriter(self._aside, schema)
        except OSError as error:
            raise self._unwritable(error) from None

    def _refusal(self, place: str, reason: str, *, hint: str = _INSTEAD) -> DataError:
        return DataError(f"{place} cannot be written as {self._options.format}: {reason}.", hint=hint)

    def _no_parquet(self, error: Exception) -> DataError:
        return DataError(f"{self._path} cannot be written as parquet: {reason_of(error)}.", hint=_INSTEAD)

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"{self._path} cannot be written: {error.strerror or error}.", hint="Choose another --output."
        )
