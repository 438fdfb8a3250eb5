"""The learning rate as a pure function of the step.

To add a schedule: give it a section in `config/updaterules.py`, and write its shape here with a row in `SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textune.config import InverseRootSchedule, PolynomialSchedule, RestartedCosineSchedule, Schedule


@dataclass(frozen=True)
class Moment:
    """A step after the warm-up, and the peak of the rate."""

    step: int
    """Counted from 0, with those of the warm-up."""
    peak: float
    warmup_steps: int
    total_steps: int

    @property
    def progress(self) -> float:
        """The share of the steps after the warm-up that is done, 0 to 1."""
        return min(1.0, (self.step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))


def learning_rate(step: int, *, schedule: Schedule, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of optimizer step `step` (from 0): a linear rise over `warmup_steps`, then the shape of
    `schedule`.

    The same values as transformers' schedules of these names: step 0 of a warm-up has rate 0.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * SCHEDULES[schedule.kind].shape(schedule, Moment(step, peak, warmup_steps, total_steps))


def depends_on_the_end(values: Mapping[str, object]) -> bool:
    """Whether the rates of a run change with its length; `values` are its configuration by dotted key."""
    shape = SCHEDULES.get(str(values.get("train.schedule.kind")))
    return shape is None or shape.ends or str(values.get("train.schedule.warmup")).endswith("%")


# --- shapes: the share of the peak after the warm-up -----------------------------------------------------------------


def _linear(schedule: Schedule, moment: Moment) -> float:
    return 1 - moment.progress


def _cosine(schedule: Schedule, moment: Moment) -> float:
    return 0.5 * (1 + math.cos(math.pi * moment.progress))


def _cosine_with_restarts(schedule: RestartedCosineSchedule, moment: Moment) -> float:
    if moment.progress >= 1:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (schedule.num_cycles * moment.progress % 1)))


def _polynomial(schedule: PolynomialSchedule, moment: Moment) -> float:
    end = schedule.lr_end / moment.peak
    return end + (1 - end) * math.pow(1 - moment.progress, schedule.power)


def _constant(schedule: Schedule, moment: Moment) -> float:
    return 1.0


def _inverse_sqrt(schedule: InverseRootSchedule, moment: Moment) -> float:
    timescale = schedule.timescale or moment.warmup_steps or 10_000
    return 1 / math.sqrt(1 + (moment.step - moment.warmup_steps) / timescale)


@dataclass(frozen=True)
class Shape:
    """A kind of schedule."""

    shape: Callable[[Any, Moment], float]
    """The section and a moment to the share of the peak."""
    ends: bool
    """Whether it knows the end of the run, so that a longer run has other rates from the start."""


SCHEDULES: dict[str, Shape] = {
    "linear": Shape(_linear, ends=True),
    "cosine": Shape(_cosine, ends=True),
    "cosine_with_restarts": Shape(_cosine_with_restarts, ends=True),
    "polynomial": Shape(_polynomial, ends=True),
    "constant": Shape(_constant, ends=False),
    "constant_with_warmup": Shape(_constant, ends=False),
    "inverse_sqrt": Shape(_inverse_sqrt, ends=False),
}
"""`train.schedule.kind` to its shape."""
