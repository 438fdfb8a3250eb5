"""How far chance alone could move a metric: bootstrap intervals over the rows; after `metrics.py`, before `report.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from textune.evaluation.scored import Scored

if TYPE_CHECKING:
    from textune.evaluation.metrics import Metric

MAX_WORK = 15_000_000
"""Values that a metric looks at in all resamples together: some four seconds on one core."""
CALL = 4000
"""What one call of a metric costs beside its values, in values."""
MIN_SAMPLES = 100
"""Fewer resamples than these give no limits."""
MIN_ROWS = 1000
"""Fewer rows than these do not stand for a larger data set."""
PERCENTILES = (2.5, 97.5)


def bootstrap_interval(metric: Metric, scored: Scored, *, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `metric`, resampling rows; the same `seed` gives the same interval.

    A metric of decisions is resampled by cells, rows of equal target and decision as one, so that the number of rows hardly
    matters. Any other is computed on the rows; one that ranks, on those whose scores are kept, as its value is. Time is
    bounded by `MAX_WORK`: above it there are fewer resamples, down to `MIN_SAMPLES`, and if these are still too much they are
    drawn from a random part of m of the N rows, the deviations scaled by sqrt(m / N) (the m-out-of-n bootstrap). Undefined
    resamples are left out.

    Returns (nan, nan) for fewer than two rows, if the metric or more than half of the resamples are undefined, or if even
    `MIN_ROWS` rows would be too much work.
    """
    scored = metric.rows(scored)
    value = center = metric.of(scored)
    if len(scored) < 2 or samples < 1 or math.isnan(value):
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    part, scale = metric.units(scored), 1.0
    fixed, per_row = _work(metric, scored)
    max_rows = (MAX_WORK // min(samples, MIN_SAMPLES) - fixed) // per_row
    if len(part) > max_rows:
        if max_rows < MIN_ROWS:
            return math.nan, math.nan
        smaller = scored.take(np.sort(generator.choice(len(scored), max_rows, replace=False)))
        part, scale, center = metric.units(smaller), math.sqrt(max_rows / len(scored)), metric.of(smaller)
    samples = min(samples, max(MIN_SAMPLES, MAX_WORK // (fixed + per_row * len(part))))
    values = np.array([metric.function(_resample(part, generator)) for _ in range(samples)])
    defined = values[~np.isnan(values)]
    if len(defined) * 2 < samples or math.isnan(center):
        return math.nan, math.nan
    lower, upper = (float(limit) for limit in value + scale * (np.percentile(defined, PERCENTILES) - center))
    # scaled deviations may reach past the best value that there is
    return (lower, min(upper, 1.0)) if metric.higher_is_better else (max(lower, 0.0), upper)


def _work(metric: Metric, scored: Scored) -> tuple[int, int]:
    """Work of one resample: what it takes whatever the rows, and what each row adds."""
    if metric.uses == "decisions":
        return CALL, max(1, scored.num_classes // 8) if scored.problem == "multilabel" else 1  # labels come cheaper than scores
    columns = scored.num_classes if metric.uses == "ranks" and scored.problem in ("multiclass", "multilabel") else 1
    return CALL * columns, columns


def _resample(scored: Scored, generator: np.random.Generator) -> Scored:
    """As many rows as there are, drawn with replacement: each row that was drawn, with how often it was."""
    if scored.weights is None:
        times = np.bincount(generator.integers(0, len(scored), len(scored)), minlength=len(scored))
    else:
        num_rows = scored.weights.sum()
        times = generator.multinomial(num_rows, scored.weights / num_rows)
    drawn = np.flatnonzero(times)
    return scored.take(drawn, times[drawn])
