"""What each column of `data.metadata` is worth: the same rows scored without it; after `joint.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import MIN_ERRORS, MIN_RESAMPLED, Around, Interval
from textune.evaluation.joint import Resamples, bootstrap, mean_of, part_of
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import is_undefined


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
    interval = (
        Interval(None) if samples < 1 or is_undefined(lift) else _paired(main, scored, without, lift, samples, seed)
    )
    return Lift(column, num_rows, other, lift, interval.limits, interval.reason)


def _paired(
    main: MainMetric, scored: ScoredRows, without: ScoredRows, lift: float, samples: int, seed: int
) -> Interval:
    """The BCa bootstrap of the difference, over rows with both of their scores."""
    counted = [head for head in main.by_head if head in scored.by_head]
    parts = [part_of(main.by_head[head], rows.by_head[head]) for rows in (scored, without) for head in counted]
    if reason := _too_few(main, scored, without, counted):
        return Interval(None, reason=reason)
    sign, half = 1.0 if main.higher_is_better else -1.0, len(counted)

    def improvement(values: Sequence[float]) -> float:
        return sign * (mean_of(values[:half]) - mean_of(values[half:]))

    around = Around(lift, lift, 1.0, higher_is_better=True, bounded=False)
    return bootstrap(parts, improvement, around, scored.num_rows, Resamples(samples, seed))


def _too_few(main: MainMetric, scored: ScoredRows, without: ScoredRows, counted: Sequence[str]) -> str:
    """Why resamples of these rows cannot stand for other rows; empty if they can."""
    if scored.num_rows < MIN_RESAMPLED:
        return f"there are only {scored.num_rows} rows, too few to resample"
    if any(one.uses != "decisions" for head in counted for one in main.by_head[head].parts or (main.by_head[head],)):
        return ""
    changed = sum(_num_changed(scored.by_head[head], without.by_head[head]) for head in counted)
    return f"only {changed} answers are others without it, too few to resample" if changed < MIN_ERRORS else ""


def _num_changed(scored: Scored, without: Scored) -> int:
    """Rows of one head that are answered otherwise without the column."""
    return int((scored.predictions != without.predictions).reshape(len(scored), -1).any(axis=1).sum())
