"""When a run sees which rows: its steps, epochs and batches, asked of one object. After `order.py`, before
`loader.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textune.batches.order import DRAWING, FIRST_DRAWING, plan_epoch, require_known
from textune.batches.rows import TokenRows
from textune.config import Duration, Rounding, RowOrder, TrainSection


@dataclass(frozen=True)
class Plan:
    """The steps of a run and the rows of each. It does not depend on devices or the number of processes."""

    num_rows: int | None
    """Training rows of an epoch; None for a stream of unknown length, whose durations are all in steps."""
    batch_size: int
    """Rows per optimizer step."""
    duration: Duration
    order: RowOrder = "shuffle"
    seed: int = 0
    drawing: int = DRAWING
    """Which way of drawing the order; a run keeps the one it began with."""
    rounding: Rounding = "nearest"
    """What becomes of parts of a step."""

    @classmethod
    def of(cls, section: TrainSection, num_rows: int | None) -> Plan:
        """The plan of a run with this section `train` and this number of training rows."""
        return cls(
            num_rows,
            section.batch_size,
            section.duration,
            section.order,
            section.drawing_seed,
            rounding=section.rounding,
        )

    def resumed(self, state: Mapping[str, Any]) -> Plan:
        """The plan of a run that continues from a loader's state: with the order it began with.

        RunError if this version cannot draw it.
        """
        return replace(self, drawing=require_known(state.get("drawing", FIRST_DRAWING)))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see every row once; the last one may have fewer rows.

        If the number of rows is unknown, the whole run counts as one epoch.
        """
        if self.num_rows is None:
            return self.duration.steps(0)
        return -(-self.num_rows // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.duration.steps(self.steps_per_epoch, rounding=self.rounding)

    @property
    def num_epochs(self) -> float | None:
        """Epochs of the whole run; None where the number of rows is unknown."""
        return None if self.num_rows is None else self.epochs_at(self.total_steps)

    def steps(self, duration: Duration) -> int:
        """Optimizer steps in `duration`; 0 only for a duration of 0."""
        return duration.steps(self.steps_per_epoch, self.total_steps, rounding=self.rounding)

    def epochs_at(self, step: int) -> float:
        """Epochs done after `step` optimizer steps."""
        return step / self.steps_per_epoch

    def place_of(self, step: int) -> tuple[int, int]:
        """The epoch that contains a step, and the step's number in that epoch; all count from 0."""
        return divmod(step, self.steps_per_epoch)

    def batches(self, epoch: int, lengths_N: np.ndarray, weights_N: np.ndarray | None = None) -> list[np.ndarray]:
        """The optimizer batches of one epoch, as positions into `lengths_N`; see `plan_epoch`."""
        return plan_epoch(
            lengths_N,
            batch_size=self.batch_size,
            order=self.order,
            seed=self.seed,
            epoch=epoch,
            weights_N=weights_N,
            drawing=self.drawing,
        )

    def num_tokens(self, rows: TokenRows, *, streamed: bool) -> int:
        """About how many tokens the whole run computes; `rows` are the training rows, or the first ones of a
        stream."""
        if streamed:
            return int(rows.lengths.mean() * self.total_steps * self.batch_size)
        first = np.concatenate(self.batches(0, rows.lengths, rows.weights))
        return int(rows.lengths[first].sum()) * self.total_steps // self.steps_per_epoch
