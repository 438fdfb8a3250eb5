"""How far chance alone could move a metric: bootstrap intervals over the rows; after `metrics.py`, before `report.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from textune.evaluation.scored import Scored

if TYPE_CHECKING:
    from textune.data.labels import Problem
    from textune.evaluation.metrics import Metric

MAX_WORK = 500_000_000
"""Values looked at in all resamples together: ten to twenty seconds on one core, at most."""
MIN_ROWS = 1000
"""Fewer rows than these do not stand for a larger data set."""
PERCENTILES = (2.5, 97.5)

Draw = Callable[[np.random.Generator], np.ndarray]
"""Makes one resample: int64 [N] how often each row is in it."""


def bootstrap_interval(
    metric: Metric, problem: Problem, targets: np.ndarray, scores: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `metric`, resampling rows; the same `seed` gives the same interval.

    Time is bounded. A metric of decisions is resampled by cells, rows of equal target and decision as one, so that the number
    of rows hardly matters. Any other is computed on the rows; above `MAX_WORK` it is resampled on a random part of m of the N
    rows, and the deviations are scaled by sqrt(m / N) (the m-out-of-n bootstrap). Undefined resamples are left out.

    Returns (nan, nan) for fewer than two rows, if the metric or more than half of the resamples are undefined, or if even
    `MIN_ROWS` rows would be too much work.
    """
    return interval_of(metric, Scored(problem, targets, scores), samples=samples, seed=seed)


def interval_of(metric: Metric, scored: Scored, *, samples: int, seed: int) -> tuple[float, float]:
    """The same, for rows that are scored already."""
    value = metric.function(scored, None)
    if len(scored) < 2 or samples < 1 or math.isnan(value):
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    width = scored.num_classes if metric.uses == "ranks" or scored.problem == "multilabel" else 1
    width = 4 if scored.problem == "regression" else width  # moments and ranks pass over the rows several times
    part, draw = _cells(scored) if metric.uses == "decisions" else (scored, _draw_rows(len(scored)))
    scale, center = 1.0, value
    if len(part) * width * samples > MAX_WORK:
        num_rows = MAX_WORK // (width * samples)
        if num_rows < MIN_ROWS:
            return math.nan, math.nan
        part = scored.take(np.sort(generator.choice(len(scored), min(num_rows, len(scored)), replace=False)))
        draw, scale, center = _draw_rows(len(part)), math.sqrt(len(part) / len(scored)), metric.function(part, None)
    values = np.array([metric.function(part, draw(generator)) for _ in range(samples)])
    defined = values[~np.isnan(values)]
    if len(defined) * 2 < samples or math.isnan(center):
        return math.nan, math.nan
    lower, upper = (float(limit) for limit in value + scale * (np.percentile(defined, PERCENTILES) - center))
    # scaled deviations may reach past the best value that there is
    return (lower, min(upper, 1.0)) if metric.higher_is_better else (max(lower, 0.0), upper)


def _draw_rows(num_rows: int) -> Draw:
    return lambda generator: np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows)


def _cells(scored: Scored) -> tuple[Scored, Draw]:
    """One row for each pair of target and decision, and a draw of how often each occurs in a resample of all rows."""
    if scored.problem == "multilabel":
        bits = np.packbits(np.concatenate([scored.targets > 0.5, scored.predictions], axis=1), axis=1)
        _, first, counts = np.unique(bits, axis=0, return_index=True, return_counts=True)
    else:
        pairs = scored.targets.astype(np.int64) * scored.num_classes + scored.predictions
        _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    num_rows = len(scored)
    if len(first) * 4 > num_rows:  # drawing rows is then the quicker way
        return scored, _draw_rows(num_rows)
    shares = counts / num_rows
    return scored.take(first), lambda generator: generator.multinomial(num_rows, shares)
