"""Blocks of a stream to batches, made into rows of tokens on the fly: the counterpart of `loader.py` for rows not
known beforehand."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textune.ahead import ahead
from textune.batches.assembler import Assembler
from textune.batches.batch import Batch
from textune.batches.loader import token_budget
from textune.batches.maker import MadeRows, RowMaker
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows, join_rows
from textune.data import Block, BlockReader, Cursor
from textune.errors import DataError


@dataclass(frozen=True)
class _Place:
    """Where the next batch begins: a number of rows after the beginning of a block."""

    cursor: Cursor
    position: int


class StreamLoader:
    """Batches of a stream in order, from any step on; one thread reads blocks and makes rows of tokens of them
    ahead, another prepares batches.

    Its whole state is the number of the next step, the cursor of the block in which that step begins, how many rows of
    the block are done, and the token budget. Resuming reads at most that block again. Three blocks are in memory: one
    in use, one ready, one in preparation.
    """

    def __init__(
        self,
        maker: RowMaker,
        plan: Plan,
        assembler: Assembler,
        *,
        prefetch: int,
        max_tokens: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`maker`: what makes rows of tokens of the blocks of its source. The others as for `Loader`.

        DataError for a state of other shards; seed, order, the keys of the source and what the maker found out about
        the data must be those of the state.
        """
        self._maker = maker
        self._plan = plan
        self._assembler = assembler
        self._prefetch = prefetch
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
            "shards": self._maker.source.fingerprint,
        } | ({"maker": dict(self._maker.state)} if self._maker.state else {})

    def _resume(self, state: Mapping[str, Any]) -> None:
        source = self._maker.source
        if state["shards"] != source.fingerprint:
            raise DataError(
                f"the shards of data.train ({source.name}) have changed since the run began.",
                hint="Restore them with the same names and sizes, or start a new run.",
            )
        assert state.get("maker", {}) == dict(self._maker.state), "the maker is that of the state"
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
            for block, made in blocks:
                notices += made.notices
                at, skip = skip, 0
                while True:
                    missing = self._plan.batch_size - sum(map(len, waiting))
                    piece = made.rows.at(np.arange(at, min(at + missing, len(made.rows))))
                    at += len(piece)
                    if len(piece):
                        waiting.append(piece)
                    at_end = at == len(made.rows)
                    if len(piece) < missing and not (at_end and block.is_last and waiting):
                        break
                    place = _Place(made.after, 0) if at_end else _Place(block.before, at)
                    rows = join_rows(waiting)
                    yield self._assemble(rows, step, tuple(notices)), rows, place
                    waiting, notices, step = [], [], step + 1
                    if at_end:
                        break

    def _assemble(self, rows: TokenRows, step: int, notices: tuple[str, ...]) -> Batch:
        batch = self._assembler.batch(rows, np.arange(len(rows)), step=step, max_tokens=self.max_tokens)
        return replace(batch, notices=notices)

    def _blocks(self, cursor: Cursor) -> Generator[tuple[Block, MadeRows]]:
        maker, shuffles = self._maker, self._plan.order == "shuffle"
        with closing(BlockReader(maker.source, maker.needed, seed=self._plan.seed, shuffles=shuffles)) as reader:
            while True:
                block = reader.read(cursor)
                made = maker.make(block)
                yield block, made
                cursor = made.after
