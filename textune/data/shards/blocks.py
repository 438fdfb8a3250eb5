"""The order of a stream: shards in random order, several read side by side, their rows cut into blocks.

    find_shards -> ShardStream --BlockReader--> blocks of raw rows -> a maker of rows of tokens

What a block holds follows from (shards, section, seed, order) and the cursor before it, so a cursor of a few numbers
is all that continuing needs. Batch size and number of processes do not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from textune.config import OnBadRow, StreamSource
from textune.data.reading import Piece, Rows, SkippedRow, missing_column, refuse
from textune.data.shards.memory import RowsReader
from textune.data.shards.reader import BEGINNING, Position, ShardFormat, ShardReader, open_reader, shard_format
from textune.data.shards.remote import find_shards
from textune.data.shards.shard import Shard
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import count

_OF_ROWS = 1 << 39
"""Number of the first shard in memory among the orders of an epoch; those of shards and blocks are smaller."""


@dataclass(frozen=True)
class ShardStream:
    """Training rows that are read block by block: shards, and in which form they are."""

    section: StreamSource
    shards: tuple[Shard, ...]
    formats: tuple[ShardFormat, ...]

    @property
    def name(self) -> str:
        """For messages."""
        first, more = self.shards[0].name, len(self.shards) - 1
        return f"{first} and {count(more, 'more shard')}" if more else first

    @property
    def fingerprint(self) -> str:
        """Hash of the names and sizes of the shards in order; their content is unknown until it is read. Of rows in
        memory, it is that of these."""
        listed = json.dumps([shard.listed for shard in self.shards], allow_nan=False)
        return hashlib.sha256(f"textune stream 2 {listed}".encode()).hexdigest()[:32]

    def column_names(self) -> list[str]:
        """The columns that the first rows of the first shards have, as many shards as are read side by side."""
        names: dict[str, None] = {}
        chosen = list(zip(self.shards, self.formats, strict=True))[: self.section.interleave]
        for shard, kind in chosen:
            with closing(open_reader(shard, kind, BEGINNING, wanted=frozenset())) as reader:
                names |= dict.fromkeys(reader.all_columns().table.column_names)
        return list(names)


def open_shards(section: StreamSource) -> ShardStream:
    """Find the shards; DataError as `find_shards`, and for a format that cannot be streamed."""
    shards = find_shards(section.files, section.exclude)
    return ShardStream(section, shards, tuple(shard_format(shard, section.format) for shard in shards))


def shard_of_rows(rows: Rows) -> ShardStream:
    """Rows in memory as a stream of one shard."""
    shard = Shard("", rows.source, 0, rows=rows)
    return ShardStream(StreamSource(num_rows=max(1, len(rows))), (shard,), ("rows",))


class NeededColumns(NamedTuple):
    """Which columns of a stream are read."""

    keys: Mapping[str, str]
    """The columns that every shard has, and the configuration key that names each."""
    optional: frozenset[str] = frozenset()
    """Columns that are read where a shard has them."""


@dataclass(frozen=True)
class Cursor:
    """Where a block begins: the whole state of reading a stream."""

    epoch: int = 0
    block: int = 0
    """Number of the block in its epoch."""
    opened: int = 0
    """How many shards of the epoch's order have been opened."""
    slots: tuple[tuple[int, Position], ...] = ()
    """The open shards, and where each continues."""
    rows: int = 0
    """Usable rows of this epoch so far."""
    skipped: int = 0
    """Bad rows left out since the run began."""
    longer: int = 0
    """Rows left out since the run began because of `tokens.drop_longer`."""
    read: int = 0
    """Documents read since the run began; of a classifier's texts it stays 0, as do the next two."""
    short: int = 0
    """Documents left out since the run began because of `metadata.min_tokens`."""
    bad_entries: int = 0
    """Pieces of metadata left out since the run began because of `metadata.on_bad_metadata`."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """What the maker of rows cut since the run began, by its own names; of a classifier's texts, nothing."""

    def to_dict(self) -> dict[str, object]:
        """As a JSON object; what is counted of documents and still 0 is left out."""
        names = ("read", "short", "bad_entries", "cut")
        counts = {name: number for name in names if (number := getattr(self, name))}
        told = {name: value for name, value in asdict(self).items() if name not in names}
        return told | counts | {"slots": [[shard, *position] for shard, position in self.slots]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Cursor:
        """The cursor that `to_dict` wrote."""
        slots = tuple((int(shard), Position(int(offset), int(number))) for shard, offset, number in state["slots"])
        return cls(**(dict(state) | {"slots": slots}))


class ShardPiece(NamedTuple):
    """Rows of one shard as a reader gives them."""

    shard: Shard
    piece: Piece

    def rows(self, on_bad_row: OnBadRow) -> Rows:
        """The rows as those of a source with the shard's fingerprint; DataError for one that cannot be read, unless
        those are skipped."""
        piece = self.piece
        if piece.bad and on_bad_row == "error":
            raise refuse(piece.bad, self.shard.name)
        return Rows(
            piece.table,
            self.shard.name,
            self.shard.fingerprint,
            piece.bad,
            piece.places,
            piece.class_names,
            partial=True,
        )


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of several shards, in the order of reading."""

    pieces: tuple[ShardPiece, ...]
    before: Cursor
    after: Cursor
    """Where the next block begins; its counts of rows are still those of `before`, as only who uses the rows can
    count them."""
    seed: int | None
    """Of the order in which the rows are used; None for that of reading."""

    @property
    def is_last(self) -> bool:
        """Whether its epoch ends with this block."""
        return self.after.epoch > self.before.epoch

    def order(self, num: int) -> np.ndarray:
        """In which order `num` things that were made of this block are used, int64 [num]."""
        if self.seed is None:
            return np.arange(num)
        return _permutation(num, self.seed, self.before.epoch, 1 + self.before.block)

    def counted(self, *, rows: int, cut: Mapping[str, int] = MappingProxyType({}), **counts: int) -> Cursor:
        """The cursor after the block, where so many of its rows are used; `cut` and `counts`: what to add to its
        others, such as `skipped`."""
        totals: dict[str, Any] = {name: getattr(self.before, name) + number for name, number in counts.items()}
        totals["cut"] = dict(Counter(self.before.cut) + Counter(cut))
        return replace(self.after, rows=0 if self.is_last else self.before.rows + rows, **totals)


class BlockReader:
    """Reads block after block; continuing after the last one is free, any other cursor opens its shards again."""

    def __init__(self, stream: ShardStream, needed: NeededColumns, *, seed: int, shuffles: bool) -> None:
        """Without `shuffles`, rows come in file order, shard after shard, and `seed` has no effect."""
        self._stream = stream
        self._needed = needed
        self._wanted = frozenset(needed.keys) | needed.optional
        self._seed = seed
        self._shuffles = shuffles
        self._readers: list[tuple[int, ShardReader]] = []
        self._epoch = 0

    def read(self, cursor: Cursor) -> Block:
        """The block that begins there; it may be empty. DataError for what cannot be read.

        Every open shard gives its share of `block_rows`; when one ends, the next takes its place.
        """
        stream = self._stream
        order = self._shard_order(cursor.epoch)
        width = stream.section.interleave if self._shuffles else 1
        opened, slots = cursor.opened, list(cursor.slots)
        while len(slots) < width and opened < len(order):
            slots.append((order[opened], BEGINNING))
            opened += 1
        self._open(slots, cursor.epoch)
        pieces: list[ShardPiece] = []
        open_now: list[tuple[int, ShardReader]] = []
        for number, share in enumerate(_shares(stream.section.block_rows, len(slots))):
            shard, reader = self._readers[number]
            while True:
                taken = self._read_share(shard, reader, share, pieces)
                share -= taken
                if share == 0:  # also where the shard happens to end here: the next block will see
                    open_now.append((shard, reader))
                    break
                reader.close()
                if opened == len(order):
                    break
                shard = order[opened]
                opened += 1
                reader = self._reader(shard, BEGINNING, cursor.epoch)
                self._readers[number] = (shard, reader)
        self._readers = open_now
        positions = tuple((shard, reader.position) for shard, reader in open_now)
        after = (
            replace(cursor, block=cursor.block + 1, opened=opened, slots=positions)
            if open_now
            else replace(cursor, epoch=cursor.epoch + 1, block=0, opened=0, slots=(), rows=0)
        )
        return Block(tuple(pieces), cursor, after, self._seed if self._shuffles else None)

    def _read_share(self, shard: int, reader: ShardReader, share: int, pieces: list[ShardPiece]) -> int:
        if share == 0:
            return 0
        at_start = reader.position == BEGINNING
        piece, taken = reader.read(share)
        if taken:
            whole = self._completed(shard, piece, reader, at_start=at_start)
            pieces.append(ShardPiece(self._stream.shards[shard], whole))
        return taken

    def _completed(self, shard: int, piece: Piece, reader: ShardReader, *, at_start: bool) -> Piece:
        """The piece with every column that is needed; one that no row of a jsonl shard has here is all missing.

        DataError where the shard cannot have the column at all.
        """
        missing = sorted(self._needed.keys.keys() - set(piece.table.column_names))
        if not missing:
            return piece
        # Rows of jsonl may leave a key out; but a key that none of a shard's first rows has must be wrong.
        num_rows = len(piece.places)
        if self._stream.formats[shard] != "jsonl" or (at_start and num_rows):
            first_rows = reader.all_columns()
            absent = [column for column in missing if column not in first_rows.table.column_names]
            if absent:
                name = self._stream.shards[shard].name
                raise missing_column(absent[0], first_rows, source=name, key=self._needed.keys[absent[0]])
        table, empty = piece.table, pa.nulls(num_rows)
        for name in missing:
            # A table without columns has no rows either, whatever it was read from.
            table = table.append_column(name, empty) if table.num_columns else pa.table({name: empty})
        return replace(piece, table=table)

    def _open(self, slots: Sequence[tuple[int, Position]], epoch: int) -> None:
        """Have a reader for each slot; those of the last block are kept if they are at the right position."""
        if self._epoch == epoch and [(shard, reader.position) for shard, reader in self._readers] == list(slots):
            return
        self.close()
        self._epoch = epoch
        for shard, position in slots:
            self._readers.append((shard, self._reader(shard, position, epoch)))

    def _reader(self, shard: int, position: Position, epoch: int) -> ShardReader:
        opened = self._stream.shards[shard]
        if opened.rows is None:
            return open_reader(opened, self._stream.formats[shard], position, wanted=self._wanted)
        # Rows in memory can come in any order.
        number = _OF_ROWS + shard
        order_N = _permutation(len(opened.rows), self._seed, epoch, number) if self._shuffles else None
        return RowsReader(opened.rows, position, wanted=self._wanted, order_N=order_N)

    def _shard_order(self, epoch: int) -> list[int]:
        num_shards = len(self._stream.shards)
        return _permutation(num_shards, self._seed, epoch, 0).tolist() if self._shuffles else list(range(num_shards))

    def close(self) -> None:
        """Close all shards."""
        for _, reader in self._readers:
            reader.close()
        self._readers = []


def no_rows(name: str, skipped: Sequence[SkippedRow]) -> DataError:
    """The error for a stream without a usable row in an epoch."""
    if skipped:
        return DataError(f"{name}: no row can be used. {skipped[0].place}: {skipped[0].reason}.", hint=skipped[0].hint)
    return DataError(f"{name} holds no rows.", hint="Check data.train.files.")


def _shares(num_rows: int, num_slots: int) -> list[int]:
    """Rows divided over slots as evenly as possible."""
    return [num_rows // num_slots + (slot < num_rows % num_slots) for slot in range(num_slots)]


def _permutation(num: int, seed: int, epoch: int, number: int) -> np.ndarray:
    """A random order, int64 [num], that follows from the other numbers."""
    return Draws.of_key(seed, (epoch << 40) + number).permutation(num)
