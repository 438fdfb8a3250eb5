"""Rows as they come out of a source: an Arrow table, the place of each row, the rows left out, a fingerprint of the
content.

The first step of the flow `sources -> columns -> labels -> splits`; every message about a row takes its place from
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from textune.errors import Advice, DataError, Setting, Words
from textune.wording import count, listing, nearest

JSON_FIELD = {b"textune.json": b"1"}
"""Metadata of an Arrow field whose text is JSON: objects and lists that no Arrow list type can hold."""


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be used."""

    reason: str
    value: object = None
    """What it holds instead; None where something is missing."""
    hint: Advice = ""
    """What to do."""


@dataclass(frozen=True)
class SkippedRow:
    """A row that could not be used."""

    place: str
    """Such as `train.tsv, line 17`."""
    reason: str
    hint: Advice = ""
    value: object = None
    """As in `Fault`."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where each row comes from."""

    origins: tuple[tuple[str, str], ...]
    """File name and unit (`line`, `row`, `record`, `key`)."""
    origin_N: np.ndarray
    """int32 [N] index into `origins`."""
    number_N: np.ndarray
    """int64 [N] number of the line or row in its file."""

    @classmethod
    def of_file(cls, name: str, unit: str, number_N: np.ndarray) -> Places:
        """Places of rows that all come from one file."""
        return cls(((name, unit),), np.zeros(len(number_N), np.int32), number_N.astype(np.int64, copy=False))

    @classmethod
    def concat(cls, pieces: Sequence[Places]) -> Places:
        """Places of several pieces, one after the other."""
        origins: list[tuple[str, str]] = []
        shifted: list[np.ndarray] = []
        for piece in pieces:
            shifted.append(piece.origin_N + np.int32(len(origins)))
            origins.extend(piece.origins)
        if not pieces:
            return cls((), np.zeros(0, np.int32), np.zeros(0, np.int64))
        return cls(tuple(origins), np.concatenate(shifted), np.concatenate([piece.number_N for piece in pieces]))

    def take(self, indices: np.ndarray) -> Places:
        """Places of the chosen rows."""
        return Places(self.origins, self.origin_N[indices], self.number_N[indices])

    @property
    def ids(self) -> np.ndarray:
        """uint64 [N] file and number as one number, which two rows of a source share by chance only."""
        names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name, _ in self.origins]
        of_origin = np.frombuffer(b"".join(names), np.uint64)
        return np.asarray(of_origin[self.origin_N] + self.number_N.astype(np.uint64))

    def __len__(self) -> int:
        return len(self.number_N)

    def __getitem__(self, index: int) -> str:
        name, unit = self.origins[int(self.origin_N[index])]
        return f"{name}, {unit} {int(self.number_N[index])}"


@dataclass(frozen=True, eq=False)
class Piece:
    """What a reader makes of one file, before selection; pieces are joined into `Rows`."""

    table: pa.Table
    places: Places
    bad: tuple[SkippedRow, ...] = ()
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names that the file itself gives to the integers of a column."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Columns left out because they differ between files, and how."""
    unclear: dict[str, str] = field(default_factory=dict)
    """Columns whose integers only some files name, and which; together their meaning is unknown."""
    hint: Advice = ""
    """A suspicion to add to a message about a missing column."""
    notes: tuple[str, ...] = ()
    """What was decided or left out while reading, as sentences."""

    def take(self, indices: np.ndarray) -> Piece:
        """The chosen rows, in that order."""
        return replace(self, table=self.table.take(pa.array(indices)), places=self.places.take(indices))


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a source."""

    table: pa.Table
    source: str
    """Short name for messages, such as `train.tsv`."""
    fingerprint: str
    """Hash of column names and values: the same on every machine, for any path, format or chunks of the file."""
    skipped: tuple[SkippedRow, ...]
    """Rows that could not be read (`on_bad_row = "skip"`)."""
    places: Places
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names that the source itself gives to the integers of a column."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Columns left out because the files differ, and how."""
    unclear: dict[str, str] = field(default_factory=dict)
    """Columns whose integers only some of the files name, and which."""
    hint: Advice = ""
    """A suspicion to add to a message about a missing column."""
    notes: tuple[str, ...] = ()
    """What was decided or left out while reading, in sentences."""
    partial: bool = False
    """A section of a stream: what is missing here (a usable row, a second class) may come in another."""
    taken: np.ndarray | None = None
    """int64 the numbers of these rows in the whole source, where they are some of it."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def place(self, index: int) -> str:
        """Where a row comes from, such as `train.tsv, line 17`."""
        return self.places[index]

    def take(self, indices: np.ndarray) -> Rows:
        """The chosen rows, in that order, still as rows of the whole source."""
        taken = np.asarray(indices if self.taken is None else self.taken[indices])
        return replace(self, table=self.table.take(pa.array(indices)), places=self.places.take(indices), taken=taken)

    def numbers(self, indices: np.ndarray) -> np.ndarray:
        """int64 the numbers of the chosen rows in the whole source."""
        return np.asarray(indices if self.taken is None else self.taken[indices], np.int64)


def missing_column(name: str, where: Piece | Rows, *, source: str, key: str) -> DataError:
    """The error for a column that is not there: lists the columns found, names the nearest one and the key to
    change."""
    found = list(where.table.column_names)
    if name in where.dropped:
        reason = where.dropped[name]
        return DataError(
            f"{source}: column {name!r} cannot be used: {reason}.", key=key, value=name, place=source, reason=reason
        )
    close = nearest(name, found)
    hint = f"Did you mean {close!r}? " if close else ""
    message = f"{source} has no column {name!r}; columns found: {listing(repr(item) for item in found) or 'none'}."
    advice = Words(hint, Setting(key, verb="Set"), " to the right column.")
    return DataError(
        message, hint=where.hint or advice, key=key, value=name, place=source, reason="there is no such column"
    )


def refuse(bad: Sequence[SkippedRow], source: str) -> DataError:
    """The error for rows that cannot be used: the first one, and how many more."""
    first, rest = bad[0], len(bad) - 1
    more = f" {count(rest, 'more row')} of {source} cannot be used, either." if rest else ""
    skip = Setting("data.on_bad_row", "skip", "set")
    return DataError(
        f"{first.place}: {first.reason}.{more}",
        hint=Words(first.hint, " Fix the file, or ", skip, " to leave such rows out."),
        value=first.value,
        place=first.place,
        reason=first.reason,
    )
