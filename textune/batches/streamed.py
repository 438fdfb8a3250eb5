"""Blocks of a stream to batches, tokenised on the fly: the counterpart of `loader.py` for rows not known
beforehand."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textune.ahead import ahead
from textune.batches.assembler import Assembler
from textune.batches.batch import Batch
from textune.batches.encode import RowTexts, make_row_store
from textune.batches.loader import token_budget
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows, join_rows
from textune.batches.tokens import TextEncoder
from textune.data import Block, BlockReader, Cursor, RowStream
from textune.errors import DataError
from textune.wording import count


@dataclass(frozen=True)
class _Place:
    """Where the next batch begins: a number of rows after the beginning of a block."""

    cursor: Cursor
    position: int


@dataclass(frozen=True, eq=False)
class _Tokenised:
    """A block as the loader reads it."""

    rows: TokenRows
    before: Cursor
    after: Cursor
    notices: tuple[str, ...]

    @property
    def is_last(self) -> bool:
        return self.after.epoch > self.before.epoch


class StreamLoader:
    """Batches of a stream in order, from any step on; one thread reads and tokenises blocks ahead, another prepares
    batches.

    Its whole state is the number of the next step, the cursor of the block in which that step begins, how many rows of
    the block are done, and the token budget. Resuming reads at most that block again. Three blocks are in memory: one
    in use, one ready, one in preparation.
    """

    def __init__(
        self,
        stream: RowStream,
        plan: Plan,
        assembler: Assembler,
        encoder: TextEncoder,
        *,
        prefetch: int,
        max_tokens: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`prefetch`, `max_tokens` and `state` as for `Loader`.

        DataError for a state of other shards; seed, order and the keys of the source must be those of the state.
        """
        self._stream = stream
        self._plan = plan
        self._assembler = assembler
        self._encoder = encoder
        self._prefetch = prefetch
        self._drop_longer = encoder.drop_longer
        self.max_tokens = token_budget(max_tokens, state)
        self._next_step = 0
        self._place = _Place(Cursor(), 0)
        self._current: TokenRows | None = None
        """The rows of the last batch that was handed out."""
        if state is not None:
            self._resume(state)

    def state_dict(self) -> dict[str, Any]:
        """Where to continue, and the token budget."""
        return {
            "next_step": self._next_step,
            "max_tokens": self.max_tokens,
            "cursor": self._place.cursor.to_dict(),
            "position": self._place.position,
            "shards": self._stream.fingerprint,
        }

    def _resume(self, state: Mapping[str, Any]) -> None:
        if state["shards"] != self._stream.fingerprint:
            raise DataError(
                f"the shards of data.train ({self._stream.name}) have changed since the run began.",
                hint="Restore them with the same names and sizes, or start a new run.",
            )
        self._next_step = state["next_step"]
        self._place = _Place(Cursor.from_dict(state["cursor"]), state["position"])

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""
        with closing(ahead(self._produce(), self._prefetch, name="textune-loader")) as batches:
            for batch, rows, place in batches:
                self._next_step, self._current, self._place = batch.step + 1, rows, place
                # The budget may have been lowered after this batch was prepared.
                yield batch if batch.max_tokens == self.max_tokens else self.lower_budget(batch, self.max_tokens)

    def lower_budget(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, the last one handed out, and all that follow by a new `max_tokens`."""
        assert self._current is not None, "no batch has been handed out"
        self.max_tokens = max_tokens
        return self._assemble(self._current, batch.step, batch.notices)

    def _produce(self) -> Generator[tuple[Batch, TokenRows, _Place]]:
        """Every batch, its rows, and where the next one begins."""
        step, skip = self._next_step, self._place.position
        waiting: list[TokenRows] = []
        notices: list[str] = []
        depth = 1 if self._prefetch else 0
        with closing(ahead(self._blocks(self._place.cursor), depth, name="textune-stream")) as blocks:
            for block in blocks:
                notices += block.notices
                at, skip = skip, 0
                while True:
                    missing = self._plan.batch_size - sum(map(len, waiting))
                    piece = block.rows.at(np.arange(at, min(at + missing, len(block.rows))))
                    at += len(piece)
                    if len(piece):
                        waiting.append(piece)
                    at_end = at == len(block.rows)
                    if len(piece) < missing and not (at_end and block.is_last and waiting):
                        break
                    place = _Place(block.after, 0) if at_end else _Place(block.before, at)
                    rows = join_rows(waiting)
                    yield self._assemble(rows, step, tuple(notices)), rows, place
                    waiting, notices, step = [], [], step + 1
                    if at_end:
                        break

    def _assemble(self, rows: TokenRows, step: int, notices: tuple[str, ...]) -> Batch:
        batch = self._assembler.batch(rows, np.arange(len(rows)), step=step, max_tokens=self.max_tokens)
        return replace(batch, notices=notices)

    def _blocks(self, cursor: Cursor) -> Generator[_Tokenised]:
        with closing(
            BlockReader(self._stream, seed=self._plan.seed, shuffles=self._plan.order == "shuffle")
        ) as reader:
            while True:
                block = self._tokenised(reader.read(cursor))
                yield block
                cursor = block.after

    def _tokenised(self, block: Block) -> _Tokenised:
        examples, after = block.examples, block.after
        store = make_row_store(RowTexts.of(examples), self._encoder)
        limit = self._drop_longer
        kept = np.arange(len(examples)) if limit is None else store.shorter_examples(limit)
        num_longer = len(examples) - len(kept)
        num_rows = block.before.rows + len(kept)
        if num_longer:
            after = replace(after, longer=after.longer + num_longer, rows=0 if block.is_last else num_rows)
        if block.is_last and not num_rows:
            raise DataError(f"tokens.drop_longer = {limit} leaves no row of {self._stream.name}.", hint="Raise it.")
        rows = TokenRows(
            store.in_epoch(self._plan.seed, block.before.epoch).whole(), kept, block.targets, examples.weight
        )
        return _Tokenised(rows, block.before, after, tuple(self._notices(block, after, num_rows)))

    def _notices(self, block: Block, after: Cursor, num_rows: int) -> Generator[str]:
        """Notices about a block: rows left out (the first, tenth, hundredth, ...), and a wrong number of rows."""
        before, skipped = block.before, block.examples.skipped
        if len(str(after.skipped)) > len(str(before.skipped)) or (skipped and not before.skipped):
            first = skipped[0]
            yield f"{count(after.skipped, 'row')} of the stream skipped so far, such as {first.place}: {first.reason}"
        if len(str(after.longer)) > len(str(before.longer)) or (after.longer and not before.longer):
            yield f"{count(after.longer, 'row')} of the stream skipped so far: longer than {self._drop_longer} tokens"
        declared = self._stream.section.num_rows
        if block.is_last and before.epoch == 0 and declared is not None and declared != num_rows:
            yield (
                f"data.train.num_rows = {declared:,}, but the stream has {count(num_rows, 'usable row')}:"
                " epochs are counted by the number in the configuration"
            )
