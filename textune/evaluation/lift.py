"""What each column of `data.metadata` is worth: the same rows scored without it; after `joint.py`."""

from __future__ import annotations

from dataclasses import dataclass

from textune.evaluation.heads import ScoredRows
from textune.evaluation.joint import Resamples
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.paired import difference_interval


@dataclass(frozen=True)
class Lift:
    """How much better the main metric is with one column than without it."""

    column: str
    num_rows: int
    """Rows that have a value there."""
    without: float
    """The main metric where the column is left out of every row; NaN where undefined."""
    lift: float
    """Its improvement by the column: above 0 where the column helps, whether more or less of the metric is better."""
    interval: tuple[float, float] | None
    """95 % interval of `lift` over the choice of rows: both ways of scoring are resampled together."""
    reason: str = ""
    """Why there is no interval, as the end of a sentence; empty where it was not asked for."""


def measure_lift(
    column: str,
    main: MainMetric,
    scored: ScoredRows,
    without: ScoredRows,
    *,
    num_rows: int,
    samples: int = 1000,
    seed: int = 0,
) -> Lift:
    """The lift of a column from the same rows scored with all columns and `without` it; `num_rows` have a value there.
    `samples`: resamples for the interval, 0 for none."""
    value, other = main.of(scored), main.of(without)
    sign = 1.0 if main.higher_is_better else -1.0
    lift = sign * (value - other)
    better, worse = (scored, without) if main.higher_is_better else (without, scored)
    interval = difference_interval(main, better, worse, lift, Resamples(samples, seed), other_is=" without it")
    return Lift(column, num_rows, other, lift, interval.limits, interval.reason)
