"""Blocks of a stream to batches, tokenised on the fly: what `loader.py` is for rows that are known, with the same interface."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textune.ahead import ahead
from textune.batches.loader import Batch, Loader, TrainingRows
from textune.batches.tokens import TextEncoder, TokenStore
from textune.config import TrainSection
from textune.data import Block, BlockReader, Cursor, RowStream
from textune.errors import DataError
from textune.wording import count

BuildLoader = Callable[[TrainingRows], Loader]
"""Makes the loader that assembles a batch of these rows: with the layout of the model and the share of this process."""


@dataclass(frozen=True)
class _Place:
    """Where the next batch begins: so many rows behind the beginning of a block."""

    cursor: Cursor
    position: int


@dataclass(frozen=True, eq=False)
class _Tokenised:
    """A block as the loader reads it."""

    rows: TrainingRows
    before: Cursor
    after: Cursor
    notices: tuple[str, ...]

    @property
    def is_last(self) -> bool:
        return self.after.epoch > self.before.epoch


class StreamLoader:
    """Batches of a stream in order, from any step on; blocks are read and tokenised ahead in a thread, batches in another.

    Its whole state is the number of the next step, the cursor of the block in which it begins, the rows of that block that are
    behind it, and the bound by which batches are cut. Going on reads at most that block again. Three blocks are in memory: one
    in use, one ready, one in the making.
    """

    def __init__(
        self,
        stream: RowStream,
        section: TrainSection,
        encoder: TextEncoder,
        build: BuildLoader,
        *,
        drop_longer: int | None = None,
        max_tokens: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`drop_longer` is that of the section `tokens`; `max_tokens` stands for that of the section and that
        of the `state`, which is what `state_dict` gave.

        DataError for a state of other shards; seed, order and the keys of the source are taken to be those of the state.
        """
        self._stream = stream
        self._section = section
        self._encoder = encoder
        self._build = build
        self._drop_longer = drop_longer
        if max_tokens is None:
            max_tokens = None if state is None else state["max_tokens"]
        bound = section.max_tokens if max_tokens is None else max_tokens
        self.max_tokens = sys.maxsize if bound == "auto" else bound
        self._next_step = 0
        self._place = _Place(Cursor(), 0)
        self._current: Loader | None = None
        if state is not None:
            self._go_on_from(state)

    def state_dict(self) -> dict[str, Any]:
        """Where to go on (batches handed out, not merely prefetched), and the bound."""
        return {
            "next_step": self._next_step,
            "max_tokens": self.max_tokens,
            "cursor": self._place.cursor.to_dict(),
            "position": self._place.position,
            "shards": self._stream.fingerprint,
        }

    def _go_on_from(self, state: Mapping[str, Any]) -> None:
        if state["shards"] != self._stream.fingerprint:
            raise DataError(
                f"the shards of data.train ({self._stream.name}) are not those that the run was reading.",
                hint="Put them back as they were (names and sizes count), or start a new run.",
            )
        self._next_step = state["next_step"]
        self._place = _Place(Cursor.from_dict(state["cursor"]), state["position"])

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""
        with closing(ahead(self._produce(), self._section.prefetch, name="textune-loader")) as batches:
            for batch, loader, place in batches:
                self._next_step, self._current, self._place = batch.step + 1, loader, place
                # The bound may have been lowered after this batch was prepared.
                yield batch if batch.max_tokens == self.max_tokens else self.lower_bound(batch, self.max_tokens)

    def lower_bound(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, the last one handed out, and all that come after it by a new `max_tokens`."""
        assert self._current is not None, "no batch has been handed out"
        self.max_tokens = max_tokens
        return replace(self._current.lower_bound(batch, max_tokens), notices=batch.notices)

    def _produce(self) -> Generator[tuple[Batch, Loader, _Place]]:
        """Every batch, what assembled it, and where the next one begins."""
        step, skip = self._next_step, self._place.position
        waiting: list[TrainingRows] = []
        notices: list[str] = []
        depth = 1 if self._section.prefetch else 0
        with closing(ahead(self._blocks(self._place.cursor), depth, name="textune-stream")) as blocks:
            for block in blocks:
                notices += block.notices
                at, skip = skip, 0
                while True:
                    room = self._section.batch_size - sum(map(len, waiting))
                    piece = _stretch(block.rows, at, at + room)
                    at += len(piece)
                    if len(piece):
                        waiting.append(piece)
                    at_end = at == len(block.rows)
                    if len(piece) < room and not (at_end and block.is_last and waiting):
                        break
                    place = _Place(block.after, 0) if at_end else _Place(block.before, at)
                    batch, loader = self._assemble(step, joined_rows(waiting))
                    yield replace(batch, notices=tuple(notices)), loader, place
                    waiting, notices, step = [], [], step + 1
                    if at_end:
                        break

    def _assemble(self, step: int, rows: TrainingRows) -> tuple[Batch, Loader]:
        loader = self._build(rows)
        loader.max_tokens = self.max_tokens
        return loader.assemble(step, np.arange(len(rows))), loader

    def _blocks(self, cursor: Cursor) -> Generator[_Tokenised]:
        shuffles = self._section.order == "shuffle"
        with closing(BlockReader(self._stream, seed=self._section.seed, shuffles=shuffles)) as reader:
            while True:
                block = self._tokenised(reader.read(cursor))
                yield block
                cursor = block.after

    def _tokenised(self, block: Block) -> _Tokenised:
        examples, after = block.examples, block.after
        pairs = None if examples.text_pair is None else examples.text_pair.to_pylist()
        store = self._encoder.encode(examples.text.to_pylist(), pairs, place=examples.place)
        limit = self._drop_longer
        indices = np.arange(len(store)) if limit is None else np.flatnonzero(store.raw_lengths <= limit)
        num_longer = len(store) - len(indices)
        num_rows = block.before.rows + len(indices)
        if num_longer:
            after = replace(after, longer=after.longer + num_longer, rows=0 if block.is_last else num_rows)
        if block.is_last and not num_rows:
            raise DataError(f"tokens.drop_longer = {limit} leaves no row of {self._stream.name}.", hint="Raise it.")
        rows = TrainingRows(
            store, indices, block.targets[indices], None if examples.weight is None else examples.weight[indices]
        )
        return _Tokenised(rows, block.before, after, tuple(self._notices(block, after, num_rows)))

    def _notices(self, block: Block, after: Cursor, num_rows: int) -> Generator[str]:
        """What a person should know of a block: rows left out, at the first, tenth, hundredth, ...; a wrong number of rows."""
        before, skipped = block.before, block.examples.skipped
        if len(str(after.skipped)) > len(str(before.skipped)) or (skipped and not before.skipped):
            first = skipped[0]
            yield f"{count(after.skipped, 'row')} of the stream left out so far, such as {first.place}: {first.reason}"
        if len(str(after.longer)) > len(str(before.longer)) or (after.longer and not before.longer):
            yield f"{count(after.longer, 'row')} of the stream left out so far: longer than {self._drop_longer} tokens"
        declared = self._stream.section.num_rows
        if block.is_last and before.epoch == 0 and declared is not None and declared != num_rows:
            yield (
                f"data.train.num_rows = {declared:,}, but the stream has {count(num_rows, 'usable row')}:"
                " durations in epochs are counted by the key"
            )


def _stretch(rows: TrainingRows, start: int, stop: int) -> TrainingRows:
    """Neighbouring rows, with the same store."""
    weights = None if rows.weights is None else rows.weights[start:stop]
    return TrainingRows(rows.store, rows.indices[start:stop], rows.targets[start:stop], weights)


def joined_rows(parts: Sequence[TrainingRows]) -> TrainingRows:
    """Rows of several stores as those of one, in their order; of one store, as they are."""
    if len(parts) == 1:
        return parts[0]
    stores = [(part.store, index) for part in parts for index in part.indices]
    spans = [(store, slice(store.offsets[index], store.offsets[index + 1])) for store, index in stores]
    types = [store.types[span] for store, span in spans if store.types is not None]
    store = TokenStore(
        ids=np.concatenate([store.ids[span] for store, span in spans]),
        types=np.concatenate(types) if types else None,
        offsets=np.cumsum([0, *(span.stop - span.start for _, span in spans)], dtype=np.int64),
        raw_lengths=np.array([store.raw_lengths[index] for store, index in stores], np.int32),
    )
    weights = [part.weights for part in parts if part.weights is not None]
    targets = np.concatenate([part.targets for part in parts])
    return TrainingRows(store, np.arange(len(spans)), targets, np.concatenate(weights) if weights else None)
