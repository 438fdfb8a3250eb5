"""Plan to batches: a prefetching loader with state; after `assembler.py`, before the model."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from textune.ahead import ahead
from textune.batches.assembler import Assembler
from textune.batches.batch import Batch
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows


class Batches(Protocol):
    """What the training loop reads: batches in order from any step on, with a state from which another loader
    continues."""

    max_tokens: int
    """The token budget: a micro-batch has at most so many tokens, unless a single row has more."""

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""

    def state_dict(self) -> dict[str, Any]:
        """Where to continue (after the batches handed out, not those merely prefetched), and the token budget; as a
        JSON object."""

    def lower_budget(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, the last one handed out, and all that follow by a new `max_tokens`: the same rows, the same
        step.

        Ranks that exchange anything must lower it together, at the same step and to the same number: if gradients are
        exchanged at the end of a step, all ranks or none redo the step; in lockstep, the number of micro-batches
        follows from the budget.
        """


class Loader:
    """Batches of a run in order, from any step on, prepared ahead in a thread.

    Its whole state is the number of the next step, the way of drawing the order and the token budget: the plan is a
    pure function of (lengths, weights, seed, epoch, batch size, drawing), and only memory decides the budget. None of
    them depends on the number of ranks: a run saved with four resumes with two.
    """

    def __init__(
        self,
        rows: TokenRows,
        plan: Plan,
        assembler: Assembler,
        *,
        prefetch: int,
        max_tokens: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`prefetch`: batches prepared ahead. `max_tokens`: the token budget; None for that of `state`, or for no
        limit.

        `state`: what `state_dict` gave; None for the first step.
        """
        self._rows = rows
        # Of other rows than the run's own, as in a benchmark, an epoch has as many steps as they fill.
        planned = replace(plan, num_rows=len(rows))
        self._plan = planned if state is None else planned.resumed(state)
        # A weight that decides how often a row is drawn must not count in the loss as well.
        self._counted = replace(rows, example_weights=None) if plan.order == "weighted" else rows
        self._assembler = assembler
        self._prefetch = prefetch
        self._next_step: int = 0 if state is None else state["next_step"]
        self.max_tokens = token_budget(max_tokens, state)

    def state_dict(self) -> dict[str, Any]:
        """Where to continue, the token budget, and how the order is drawn."""
        return {"next_step": self._next_step, "max_tokens": self.max_tokens, "drawing": self._plan.drawing}

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""
        batches = ahead(self._produce(), self._prefetch, name="textune-loader")
        try:
            for batch in batches:
                self._next_step = batch.step + 1
                # The budget may have been lowered after this batch was prepared.
                yield batch if batch.max_tokens == self.max_tokens else self.lower_budget(batch, self.max_tokens)
        finally:
            batches.close()

    def lower_budget(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, and all that follow, by a new `max_tokens`."""
        self.max_tokens = max_tokens
        epoch, _ = self._plan.place_of(batch.step)
        rows = self._counted.in_epoch(self._plan.seed, epoch)
        return self._assembler.batch(rows, batch.chosen, step=batch.step, max_tokens=max_tokens)

    def _produce(self) -> Generator[Batch]:
        step = self._next_step
        weights_N = self._rows.weights
        while True:
            epoch, done = self._plan.place_of(step)
            rows = self._counted.in_epoch(self._plan.seed, epoch)
            for chosen in self._plan.batches(epoch, rows.lengths, weights_N)[done:]:
                yield self._assembler.batch(rows, chosen, step=step, max_tokens=self.max_tokens)
                step += 1


def token_budget(max_tokens: int | None, state: Mapping[str, Any] | None) -> int:
    """The budget given, or else that of a loader's state, or else none."""
    if max_tokens is not None:
        return max_tokens
    return sys.maxsize if state is None else int(state["max_tokens"])
