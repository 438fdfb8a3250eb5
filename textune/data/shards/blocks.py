"""The order of a stream: shards in random order, several read side by side, their rows cut into shuffled blocks.

    find_shards -> RowStream --BlockReader--> blocks of labelled examples -> batches/streamed.py

The content of a block follows from (shards, section, seed, order) and the cursor before it, so a cursor of a few
numbers is all that continuing needs. Batch size and number of processes do not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from textune.config import Columns, Labels, MetadataPrefix, OnBadRow, StreamSource
from textune.data.columns import Examples, label_columns, select_columns, text_columns
from textune.data.labels import LabelMaps, encode_by_head, tasks_in
from textune.data.reading import Piece, Places, Rows, SkippedRow, missing_column, refuse
from textune.data.shards.reader import BEGINNING, Position, ShardFormat, ShardReader, open_reader, shard_format
from textune.data.shards.remote import Shard, find_shards
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import count

_SAMPLE_SEED = 0
"""Rows of the block that facts and estimates are taken from before a run."""


@dataclass(frozen=True)
class RowStream:
    """The training rows of a `stream` source: its shards, and how their rows become labelled examples."""

    section: StreamSource
    columns: Columns
    labels: Labels
    on_bad_row: OnBadRow
    shards: tuple[Shard, ...]
    formats: tuple[ShardFormat, ...]
    prefix: MetadataPrefix | None = None
    """Columns that are written before each text."""
    label_maps: LabelMaps = field(default_factory=dict)
    """By head; those of a single head are known once the first rows have been read."""

    @property
    def name(self) -> str:
        """For messages."""
        first, more = self.shards[0].name, len(self.shards) - 1
        return f"{first} and {count(more, 'more shard')}" if more else first

    @property
    def fingerprint(self) -> str:
        """Hash of the names and sizes of the shards in order; their content is unknown until it is read."""
        listed = json.dumps([[shard.name, shard.size] for shard in self.shards], allow_nan=False)
        return hashlib.sha256(f"textune stream 2 {listed}".encode()).hexdigest()[:32]

    def first_examples(self) -> Examples:
        """The first usable rows, with labels as written; DataError where no shard has any, or a column is missing."""
        skipped: list[SkippedRow] = []
        cursor = Cursor()
        with closing(BlockReader(self, seed=_SAMPLE_SEED, shuffles=True)) as reader:
            while cursor.epoch == 0:
                pieces, cursor = reader.read_pieces(cursor)
                for piece in pieces:
                    examples = self.select(piece)
                    skipped += examples.skipped
                    if len(examples):
                        return examples
        raise no_rows(self.name, skipped)

    def sample(self) -> Block:
        """The first block, roughly as a run will see it."""
        with closing(BlockReader(self, seed=_SAMPLE_SEED, shuffles=True)) as reader:
            return reader.read(Cursor())

    def select(self, piece: Piece) -> Examples:
        """Texts, weights and labels of a piece of one shard; DataError for a bad row, unless those are skipped."""
        if piece.bad and self.on_bad_row == "error":
            raise refuse(piece.bad, piece.places.origins[0][0])
        rows = Rows(
            piece.table,
            piece.places.origins[0][0],
            self.fingerprint,
            piece.bad,
            piece.places,
            piece.class_names,
            partial=True,
        )
        tasks = tasks_in(self.label_maps)
        examples = select_columns(
            rows, self.columns, with_labels=True, tasks=tasks, prefix=self.prefix, on_bad_row=self.on_bad_row
        )
        if tasks and examples.weight is not None and examples.weight.ndim == 1:  # other pieces may have lists
            return replace(examples, weight=np.repeat(examples.weight[:, None], len(tasks), axis=1))
        return examples


def open_stream(
    section: StreamSource,
    columns: Columns,
    labels: Labels,
    *,
    on_bad_row: OnBadRow,
    prefix: MetadataPrefix | None = None,
) -> RowStream:
    """Find the shards; DataError as `find_shards`, and for a format that cannot be streamed."""
    shards = find_shards(section.files)
    formats = tuple(shard_format(shard, section.format) for shard in shards)
    return RowStream(section, columns, labels, on_bad_row, shards, formats, prefix)


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

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self) | {"slots": [[shard, *position] for shard, position in self.slots]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Cursor:
        """The cursor that `to_dict` wrote."""
        slots = tuple((int(shard), Position(int(offset), int(number))) for shard, offset, number in state["slots"])
        return cls(**(dict(state) | {"slots": slots}))


@dataclass(frozen=True, eq=False)
class Block:
    """Examples in the order in which they are trained on; `targets` [N] or [N, C] by head go with
    them."""

    examples: Examples
    targets: dict[str, np.ndarray]
    before: Cursor
    after: Cursor

    @property
    def is_last(self) -> bool:
        """Whether its epoch ends with this block."""
        return self.after.epoch > self.before.epoch


class BlockReader:
    """Reads block after block; continuing after the last one is free, any other cursor opens its shards again."""

    def __init__(self, stream: RowStream, *, seed: int, shuffles: bool) -> None:
        """Without `shuffles`, rows come in file order, shard after shard, and `seed` has no effect."""
        self._stream = stream
        self._seed = seed
        self._shuffles = shuffles
        self._readers: list[tuple[int, ShardReader]] = []
        columns = stream.columns
        self._texts = text_columns(columns.model_copy(update={"text_pair": None}))
        others = (*label_columns(columns), *filter(None, (columns.text_pair, columns.weight)))
        self._fields = () if stream.prefix is None else stream.prefix.columns
        self._wanted = frozenset((*self._texts, *others, *self._fields))

    def read(self, cursor: Cursor) -> Block:
        """The block that begins there; it may be empty. DataError for what cannot be read, or an epoch without a
        row."""
        pieces, after = self.read_pieces(cursor)
        stream, label_maps = self._stream, self._stream.label_maps
        assert label_maps, "labels are settled before blocks are read"
        no_targets = {name: label_map.no_targets() for name, label_map in label_maps.items()}
        selected = [stream.select(piece) for piece in pieces]
        encoded = [
            encode_by_head(examples, label_maps, stream.labels, on_bad_row=stream.on_bad_row)
            if len(examples)
            else (examples, no_targets)
            for examples in selected
        ]
        examples = _joined([examples for examples, _ in encoded], stream)
        num_skipped = len(examples.skipped)
        if after.epoch > cursor.epoch:
            after = replace(after, skipped=cursor.skipped + num_skipped, longer=cursor.longer)
            if not cursor.rows + len(examples):
                raise no_rows(stream.name, examples.skipped)
        else:
            after = replace(after, rows=cursor.rows + len(examples), skipped=cursor.skipped + num_skipped)
        targets = {
            name: np.concatenate([nothing, *(of_piece[name] for _, of_piece in encoded)])
            for name, nothing in no_targets.items()
        }
        if self._shuffles:
            order_N = self._permutation(len(examples), cursor.epoch, 1 + cursor.block)
            examples = examples.take(order_N)
            targets = {name: of_head[order_N] for name, of_head in targets.items()}
        return Block(examples, targets, cursor, after)

    def read_pieces(self, cursor: Cursor) -> tuple[list[Piece], Cursor]:
        """The pieces of the block, in the order of reading, and the cursor after it, whose row counts are not set yet.

        Every open shard gives its share of `block_rows`; when one ends, the next takes its place.
        """
        stream = self._stream
        order = self._shard_order(cursor.epoch)
        width = stream.section.interleave if self._shuffles else 1
        opened, slots = cursor.opened, list(cursor.slots)
        while len(slots) < width and opened < len(order):
            slots.append((order[opened], BEGINNING))
            opened += 1
        self._open(slots)
        pieces: list[Piece] = []
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
                reader = self._reader(shard, BEGINNING)
                self._readers[number] = (shard, reader)
        self._readers = open_now
        if not open_now:
            return pieces, Cursor(epoch=cursor.epoch + 1)
        positions = tuple((shard, reader.position) for shard, reader in open_now)
        return pieces, replace(cursor, block=cursor.block + 1, opened=opened, slots=positions)

    def _read_share(self, shard: int, reader: ShardReader, share: int, pieces: list[Piece]) -> int:
        if share == 0:
            return 0
        at_start = reader.position == BEGINNING
        piece, taken = reader.read(share)
        if taken:
            pieces.append(self._completed(shard, piece, reader, at_start=at_start))
        return taken

    def _completed(self, shard: int, piece: Piece, reader: ShardReader, *, at_start: bool) -> Piece:
        """The piece with every column that is used; a column that no row of a jsonl shard has here is all missing.

        DataError where the shard cannot have the column at all.
        """
        missing = sorted(self._wanted - set(piece.table.column_names))
        if not missing:
            return piece
        columns = self._stream.columns
        label_key = "labels" if columns.labels else "label"
        keys = {name: label_key for name in label_columns(columns)}
        keys |= {columns.text_pair or "": "text_pair", columns.weight or "": "weight"}
        text_key = "text" if columns.template is None else "template"
        # Rows of jsonl may leave a key out; but a key that none of a shard's first rows has must be wrong.
        refused = (
            missing
            if self._stream.formats[shard] == "parquet"
            else missing
            if at_start and piece.table.num_rows
            else []
        )
        if refused:
            key = f"data.columns.{keys.get(refused[0], text_key)}"
            key = "data.metadata.columns" if refused[0] in self._fields else key
            name = self._stream.shards[shard].name
            raise missing_column(refused[0], reader.all_columns(), source=name, key=key)
        table = piece.table
        for name in missing:
            table = table.append_column(name, pa.nulls(table.num_rows))
        return replace(piece, table=table)

    def _open(self, slots: Sequence[tuple[int, Position]]) -> None:
        """Have a reader for each slot; those of the last block are kept if they are at the right position."""
        if [(shard, reader.position) for shard, reader in self._readers] == list(slots):
            return
        self.close()
        for shard, position in slots:
            self._readers.append((shard, self._reader(shard, position)))

    def _reader(self, shard: int, position: Position) -> ShardReader:
        stream = self._stream
        return open_reader(stream.shards[shard], stream.formats[shard], position, wanted=self._wanted)

    def _shard_order(self, epoch: int) -> list[int]:
        num_shards = len(self._stream.shards)
        return self._permutation(num_shards, epoch, 0).tolist() if self._shuffles else list(range(num_shards))

    def _permutation(self, num: int, epoch: int, number: int) -> np.ndarray:
        """A random order, int64 [num], that follows from (seed, epoch, number)."""
        return Draws.of_key(self._seed, (epoch << 40) + number).permutation(num)

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


def _joined(pieces: Sequence[Examples], stream: RowStream) -> Examples:
    """Examples of several shards as those of one source; labels are not kept."""
    text = pa.chunked_array([chunk for one in pieces for chunk in one.text.chunks], pa.large_string())
    pair: pa.ChunkedArray | None = None
    if stream.columns.text_pair is not None:
        pair = pa.chunked_array([chunk for one in pieces for chunk in one.text_pair.chunks], pa.large_string())  # type: ignore[union-attr]
    weight: np.ndarray | None = None
    if stream.columns.weight is not None:
        weights = [one.weight for one in pieces if one.weight is not None]
        weight = np.concatenate(weights) if weights else np.zeros(0, np.float32)
    names = () if stream.prefix is None else stream.prefix.columns
    fields = tuple(
        pa.chunked_array([chunk for one in pieces for chunk in one.fields[column].chunks], pa.large_string())
        for column in range(len(names))
    )
    places = Places.concat([one.rows.places.take(one.indices) for one in pieces])
    skipped = tuple(row for one in pieces for row in one.skipped)
    rows = Rows(pa.table({"text": text}), stream.name, stream.fingerprint, skipped, places, partial=True)
    return Examples(
        rows=rows,
        text=text,
        text_pair=pair,
        label=None,
        weight=weight,
        indices=np.arange(len(text), dtype=np.int64),
        skipped=skipped,
        label_names=stream.columns.labels,
        label_column=", ".join(label_columns(stream.columns)),
        fields=fields,
    )
