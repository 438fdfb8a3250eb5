"""The interval of a mean over several heads: all heads are resampled together, row by row; after `intervals.py`.

The heads answer the same rows, and what is hard for one is often hard for another. A resample therefore draws rows,
each with its labels for all heads. It is the BCa bootstrap, whatever the metric: the methods for shares and confusion
matrices know of one head only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import (
    MAX_WORK,
    MIN_ERRORS,
    MIN_RESAMPLED,
    MIN_ROWS,
    MIN_SAMPLES,
    TOO_MUCH_WORK,
    Around,
    Interval,
    Units,
    confidence_interval,
    resampled,
    too_few_to_rank,
    work,
)
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import Metric
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import UNDEFINED, is_undefined, mean_of_defined


class Resamples(NamedTuple):
    """How many resamples, by which seed, and how many values these may look at, if not `MAX_WORK`."""

    samples: int
    seed: int
    max_work: int | None = None


@dataclass(frozen=True)
class Part:
    """The rows of one head, n of N."""

    metric: Metric
    scored: Scored
    numbers: np.ndarray
    """int64 [n] which of the N rows they are."""

    def value(self, times_N: np.ndarray) -> float:
        """The metric, where each of the N rows counts so often; NaN where none of these does."""
        times = times_N[self.numbers]
        drawn = np.flatnonzero(times)
        return self.metric.function(self.scored.take(drawn, times[drawn])) if len(drawn) else UNDEFINED

    def within(self, chosen: np.ndarray) -> Part:
        """Of these rows only (int64 [m], ascending), which are numbered anew."""
        kept = np.flatnonzero(np.isin(self.numbers, chosen))
        return Part(self.metric, self.scored.take(kept), np.searchsorted(chosen, self.numbers[kept]))


def main_interval(
    main: MainMetric, scored: ScoredRows, *, samples: int = 1000, seed: int = 0, max_work: int | None = None
) -> Interval:
    """95 % interval of the main metric over the choice of rows, as `confidence_interval`."""
    counted = {head: metric for head, metric in main.by_head.items() if head in scored.by_head}
    if len(counted) == 1:
        ((head, metric),) = counted.items()
        return confidence_interval(metric, scored.by_head[head], samples=samples, seed=seed, max_work=max_work)
    value = main.of(scored)
    if samples < 1 or is_undefined(value):
        return Interval(None)
    parts = [part_of(metric, scored.by_head[head]) for head, metric in counted.items()]
    if reason := _too_few(parts, scored.num_rows):
        return Interval(None, reason=reason)
    around = Around(value, value, 1.0, main.higher_is_better, main.bounded)
    resamples = Resamples(samples, seed, max_work)
    return bootstrap(parts, mean_of, around, scored.num_rows, resamples)


def mean_of(values: Sequence[float]) -> float:
    """The mean over heads of those that are defined."""
    return mean_of_defined(np.array(values, dtype=np.float64))


def part_of(metric: Metric, scored: Scored) -> Part:
    """What a metric is measured on of the rows of one head."""
    rows = metric.rows(scored)
    return Part(metric, rows, np.arange(len(rows)) if rows.rows is None else rows.rows)


def _too_few(parts: Sequence[Part], num_rows: int) -> str:
    """Why resamples of these rows cannot stand for other rows; empty if they can."""
    if any(one.uses == "decisions" for part in parts for one in part.metric.parts or (part.metric,)):
        wrong = len(np.unique(np.concatenate([part.numbers[~part.scored.right] for part in parts])))
        if wrong < MIN_ERRORS:
            return (
                f"only {wrong} of {num_rows:,} rows have a wrong answer, too few to resample"
                if wrong
                else "every answer is right"
            )
    reasons = (too_few_to_rank(part.metric, part.scored) for part in parts)
    few = f"there are only {num_rows} rows, too few to resample" if num_rows < MIN_RESAMPLED else ""
    return next((reason for reason in reasons if reason), few)


def bootstrap(
    parts: list[Part],
    together: Callable[[Sequence[float]], float],
    around: Around,
    num_rows: int,
    resamples: Resamples,
) -> Interval:
    """The BCa bootstrap over the rows of all parts, its work bounded as that of one head. `together` makes one value
    of those of the parts; `around`: what the interval lies around, before any rows are left out."""
    each = [work(part.metric, part.scored) for part in parts]
    fixed, per_row = sum(one for one, _ in each), sum(one for _, one in each) + len(parts)
    samples, generator = resamples.samples, np.random.default_rng(resamples.seed)
    max_work = resamples.max_work or MAX_WORK
    max_rows, scale = (max_work // min(samples, MIN_SAMPLES) - fixed) // per_row, 1.0
    if num_rows > max_rows:
        if max_rows < MIN_ROWS:
            return Interval(None, reason=TOO_MUCH_WORK)
        chosen = np.sort(generator.choice(num_rows, max_rows, replace=False))
        parts, scale, num_rows = [part.within(chosen) for part in parts], math.sqrt(max_rows / num_rows), max_rows
    samples = min(samples, max(MIN_SAMPLES, max_work // (fixed + per_row * num_rows)))

    def value(times_N: np.ndarray) -> float:
        return together([part.value(times_N) for part in parts])

    units = Units(np.ones(num_rows, np.int64), value)
    return resampled(units, replace(around, center=value(units.counts), scale=scale), samples, generator)
