"""Which evaluation was the best so far, and whether to stop early."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from textune.config import EarlyStopping

_STATE = ("best_value", "best_step", "last_value", "_reference", "_evaluations_without")


@dataclass(frozen=True)
class Improvement:
    """What one evaluation meant for the run."""

    is_best: bool
    """Better than every evaluation before it, by any margin: the model to keep."""
    should_stop: bool
    """`patience` evaluations in a row did not improve by `threshold`."""


class BestTracker:
    """Follows one metric over the evaluations of a run.

    The best model is the one with the best value, by any margin, or simply the last one; patience counts only
    improvements larger than the threshold. A value that is not a number is never best, but may be the last.
    """

    def __init__(
        self, section: EarlyStopping, *, higher_is_better: bool, keep: Literal["best", "last"] = "best"
    ) -> None:
        """`keep`: "last" takes every evaluation for better than those before it; patience does not."""
        self._section = section
        self._keep = keep
        self._sign = 1.0 if higher_is_better else -1.0
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.last_value: float | None = None
        """The last value, signed so that larger is better; None before the first evaluation and where it was not a
        number."""
        self._reference: float | None = None
        self._evaluations_without = 0

    def update(self, value: float, step: int) -> Improvement:
        """Record the value of the metric after `step` optimizer steps."""
        self.last_value = None if math.isnan(value) else self._sign * value
        is_best = self._keep == "last" or (
            not math.isnan(value) and (self.best_value is None or self._sign * (value - self.best_value) > 0)
        )
        if is_best:
            self.best_value, self.best_step = None if math.isnan(value) else value, step
        if not math.isnan(value) and (
            self._reference is None or self._sign * (value - self._reference) > self._section.threshold
        ):
            self._reference, self._evaluations_without = value, 0
        else:
            self._evaluations_without += 1
        return Improvement(is_best, should_stop=self.is_exhausted)

    def is_better(self, value: float | None, than: float) -> bool:
        """Whether one value of the metric is better than another; None is not."""
        return value is not None and (self._keep == "last" or self._sign * (value - than) > 0)

    @property
    def is_exhausted(self) -> bool:
        """Whether `patience` evaluations in a row did not improve."""
        return 0 < self._section.patience <= self._evaluations_without

    def state_dict(self) -> dict[str, float | int | None]:
        """Everything that decides later verdicts, as JSON stores it."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Take over what `state_dict` gave."""
        for name in _STATE:
            setattr(self, name, state[name])
