"""One pass over a file or a stream that is to be predicted: windows of its rows, each with the columns of its
texts."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from textune.config import Columns, MetadataPrefix
from textune.data import (
    Rows,
    SkippedRow,
    StreamOptions,
    Window,
    fields_in,
    given_fields,
    open_rows,
    stream_name,
    text_columns,
    window_rows,
)
from textune.errors import DataError, Setting, Words
from textune.wording import listing

WINDOW_ROWS = 8192
"""Rows that a window holds: enough to sort by length, few enough to stay in memory."""
WINDOW_CHARACTERS = 2_000_000
"""A window of long texts has fewer rows: this bounds the memory, and how long a slow model is silent."""


@dataclass(frozen=True)
class Input:
    """A file or a stream, how its texts are made, and what will be added to its rows."""

    path: str
    """`-` is standard input."""
    options: StreamOptions
    columns: Columns
    rename: Mapping[str, str]
    """The model's names of columns that the input may call otherwise, by the input's."""
    added: list[str]
    """Columns that the input must not have."""
    max_rows: int
    """Rows of a window at most, where there is reason for fewer than `WINDOW_ROWS`."""
    skips: bool
    """Leave out rows that cannot be read."""
    prefix: MetadataPrefix | None = None
    """Columns that stand before each text."""

    @property
    def name(self) -> str:
        """For messages."""
        return stream_name(self.path)

    def place(self, window: Window, index: int) -> str:
        """Where a row of a window stands."""
        return f"{self.name}, {self.options.unit} {window.numbers[index]}"


class InputPass:
    """The input read once, in windows."""

    def __init__(self, source: Input) -> None:
        """DataError for what cannot be opened, has no such column or already has one of the added ones."""
        self.source = source
        self.skipped: list[SkippedRow] = []
        """Rows left out so far."""
        on_bad = self.skipped.append if source.skips else None
        self._rows = open_rows(source.path, source.options, text_column=source.columns.text, on_bad=on_bad)
        self.notes = self._rows.notes
        """What else was noticed."""
        self._wanted = text_columns(source.columns)
        self._found = list(self._wanted)
        """What the input calls the wanted columns."""
        self._names: dict[str, None] = {}
        """The keys of all rows so far, where rows name their own."""
        self.num_rows, self.num_without = 0, [0] * (0 if source.prefix is None else len(source.prefix.columns))
        """Rows so far, and how many of them lack the field of each column of the prefix."""
        if self.schema is not None:
            self._require_free(self.schema.names)
            self._find_columns(self.schema.names)

    @property
    def schema(self) -> pa.Schema | None:
        """Columns and types, where they are known before the rows."""
        return self._rows.schema

    def windows(self) -> Generator[tuple[Window, Rows]]:
        """Each window as it was read, and the columns of its texts under the model's names; DataError at the first row
        that cannot be used."""
        source = self.source
        texts = {*self._wanted, *source.rename, *(() if source.prefix is None else source.prefix.columns)}
        windows = self._rows.windows(
            texts, max_rows=min(WINDOW_ROWS, source.max_rows), max_characters=WINDOW_CHARACTERS
        )
        for window in windows:
            if self.schema is None and isinstance(window.rows, list):
                names = dict.fromkeys(key for row in window.rows for key in row)
                self._require_free(names)
                if not names.keys() <= self._names.keys():
                    self._names |= names
                    self._find_columns(self._names)
            window, rows = self._texts(window)
            if window.numbers:
                self._count(rows)
                yield window, rows

    def leave_out(self, window: Window, rows: Rows, reasons: Mapping[int, str]) -> tuple[Window, Rows]:
        """A window without rows that turned out unusable, by index; they count as left out from now on."""
        kept_N = np.ones(len(rows), bool)
        kept_N[list(reasons)] = False
        self.skipped += [SkippedRow(rows.place(row), reason) for row, reason in reasons.items()]
        self._count(rows.take(np.flatnonzero(~kept_N)), -1)
        return window.keep(kept_N), rows.take(np.flatnonzero(kept_N))

    def _count(self, rows: Rows, sign: int = 1) -> None:
        self.num_rows += sign * len(rows)
        without = [field.null_count for field in given_fields(rows, self.source.prefix)]
        self.num_without = [num + sign * more for num, more in zip(self.num_without, without, strict=True)]

    def _texts(self, window: Window) -> tuple[Window, Rows]:
        """The columns of text of a window; the window without rows that have no usable text."""
        source = self.source
        piece = window_rows(window, source.name, source.options.unit, wanted=self._found)
        if piece.bad and not source.skips:
            first = piece.bad[0]
            raise DataError(
                f"{first.place}: {first.reason}.",
                hint=Words(
                    first.hint,
                    " Fix the row, or ",
                    Setting("data.on_bad_row", "skip", "set"),
                    " to leave such rows out.",
                ),
                place=first.place,
                reason=first.reason,
            )
        if piece.bad:
            self.skipped.extend(piece.bad)
            window = window.keep(np.isin(window.numbers, piece.places.number_N))
        return window, Rows(piece.table.rename_columns(self._wanted), source.name, "", (), piece.places)

    def _find_columns(self, found: Collection[str]) -> None:
        source = self.source
        old_names = {new: old for old, new in source.rename.items() if old in found}
        texts, named = text_columns(source.columns), dict(zip(old_names.values(), old_names, strict=True))
        fields = fields_in([named.get(name, name) for name in found], texts, source.prefix, source=source.name)
        self._wanted = tuple(dict.fromkeys((*texts, *fields)))
        self._found = [old_names.get(name, name) for name in self._wanted]
        for column in self._found:
            if column not in found:
                raise DataError(
                    f"{source.name} has no column {column!r}; its columns are: {listing(map(repr, found)) or 'none'}.",
                    hint=self._rows.hint or _NAME_COLUMNS,
                    key="data.columns.text",
                    value=column,
                    place=source.name,
                )

    def _require_free(self, found: Collection[str]) -> None:
        for column in self.source.added:
            if column in found:
                raise DataError(
                    f"{self.source.name} already has a column {column!r}, which the prediction would overwrite.",
                    hint="Rename it in the input first.",
                    value=column,
                    place=self.source.name,
                )


_NAME_COLUMNS = Words(
    "Name the text column with ",
    Setting("data.columns.text"),
    " (and the second of a pair with ",
    Setting("data.columns.text_pair"),
    ").",
)
