"""How far chance alone could move a metric: 95 % intervals over the choice of rows. After `metrics.py`.

Three methods, each where it holds (`tests/evaluation/test_coverage.py` simulates how often):

- Shares of rows (accuracy, subset accuracy, binary precision and recall): Wilson's score interval (Wilson 1927; Brown,
  Cai and DasGupta 2001, Statistical Science 16, 101).
- Other metrics of the confusion matrix: draws of the matrix from its posterior under a Dirichlet prior, which for two
  classes is Jeffreys' (Caelen 2017, Annals of Mathematics and Artificial Intelligence 81, 429). Unlike resamples,
  draws
  include errors that happen not to occur among these rows.
- All others: the BCa bootstrap over rows (Efron 1987, Journal of the American Statistical Association 82, 171).

The mean of several metrics has the interval of its own values: the mean is computed of every draw or resample, so that
it accounts for how its parts move together. It is resampled where one part is, and on the ranked rows where one part
ranks. If none of the methods holds, there is no interval, and the reason is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from textune.evaluation.scored import Scored
from textune.evaluation.undefined import UNDEFINED, is_undefined

if TYPE_CHECKING:
    from textune.evaluation.metrics import Metric

Method = Literal["", "Wilson", "Dirichlet", "BCa bootstrap"]

MAX_WORK = 15_000_000
"""Values that a metric looks at in all resamples together: some four seconds on one core."""
CALL = 4000
"""What one call of a metric costs beside its values, in values."""
MIN_SAMPLES = 100
"""Fewer resamples than these give no limits."""
MIN_ROWS = 1000
"""Fewer rows than these do not stand for a larger data set."""
MAX_CELLS = 4096
"""Cells of a confusion matrix that are drawn; a larger matrix is mostly empty, and its prior would be most of a
draw."""
PRIOR = 2.0
"""Rows that the Dirichlet prior counts for, half of them right, half wrong: for two classes one half a cell
(Jeffreys)."""
GROUPS = 100
"""Values of the jackknife at most; of more rows, groups are left out."""
MIN_RESAMPLED = 5
"""Fewer rows than these have too few resamples to be corrected for bias and skewness."""
MIN_SIDE = 10
"""Rows that a class, and the rest, must have each for the resamples of a ranking metric to stand for others."""
MIN_ERRORS = 5
"""Rows with a wrong answer below which resamples hardly ever show another number of errors."""
NORMAL = NormalDist()
QUANTILE = NORMAL.inv_cdf(0.975)
"""Half of a 95 % interval, in standard deviations."""


TOO_MUCH_WORK = "rows x classes x resamples are too much work"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, or why there is none."""

    limits: tuple[float, float] | None
    method: Method = ""
    reason: str = ""
    """Why there are no limits, as the end of a sentence; empty where they were not asked for."""


def confidence_interval(
    metric: Metric, scored: Scored, *, samples: int = 1000, seed: int = 0, max_work: int | None = None
) -> Interval:
    """95 % interval of `metric` over the choice of rows; the same `seed` gives the same interval.

    `samples`: draws or resamples; 0 asks for no interval. `max_work`: instead of `MAX_WORK`. The value itself
    always lies inside the limits.
    """
    rows = metric.rows(scored)
    value = metric.of(scored)
    if samples < 1 or is_undefined(value):
        return Interval(None)
    if len(rows) < 2:
        return Interval(None, reason="there is only one row")
    if metric.share is not None:
        return _wilson(*metric.share(rows))
    generator = np.random.default_rng(seed)
    if metric.uses == "decisions" and rows.answers.label_map.exclusive:
        matrix = _matrix(rows)
        if len(matrix) <= MAX_CELLS:
            return _limits(_drawn(metric, matrix, samples, generator), value, "Dirichlet")
    if reason := _too_few(metric, rows):
        return Interval(None, reason=reason)
    return _bootstrap(metric, rows, value, samples, generator, max_work)


# --- Wilson ----------------------------------------------------------------------------------------------------------


def _wilson(hits: int, total: int) -> Interval:
    """The score interval of a share; Wilson (1927), Journal of the American Statistical Association 22, 209."""
    if total < 1:
        return Interval(None, reason="there is no row to take a share of")
    share, spread = hits / total, QUANTILE**2 / total
    center = (share + spread / 2) / (1 + spread)
    half = QUANTILE / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    # at the ends the formula meets them, but for rounding
    lower = 0.0 if hits == 0 else center - half
    upper = 1.0 if hits == total else center + half
    return Interval((lower, upper), "Wilson")


# --- Dirichlet -------------------------------------------------------------------------------------------------------


def _matrix(rows: Scored) -> Scored:
    """The confusion matrix of the classes that occur, one row a cell, weighted by its rows; cells may be empty."""
    cells = rows.cells
    classes = np.union1d(cells.targets, cells.predictions)
    if len(rows.answers.ranked) == 1:  # metrics of two classes ask for the second one, whether it occurs or not
        classes = np.arange(rows.num_classes, dtype=cells.targets.dtype)
    width = len(classes)
    counts = np.zeros((width, width))
    counts[np.searchsorted(classes, cells.targets), np.searchsorted(classes, cells.predictions)] = cells.weights
    true, predicted = np.repeat(classes, width), np.tile(classes, width)
    return Scored(rows.head, true, predicted, weights=counts.ravel())


def _drawn(metric: Metric, matrix: Scored, samples: int, generator: np.random.Generator) -> np.ndarray:
    """The metric of matrices drawn from the posterior of this one."""
    assert matrix.weights is not None
    num_rows, cells = matrix.weights.sum(), np.arange(len(matrix))
    right = matrix.right
    prior = np.where(right, PRIOR / 2 / right.sum(), PRIOR / 2 / max((~right).sum(), 1))
    posterior = matrix.weights + prior
    return np.array(
        [metric.function(matrix.take(cells, generator.dirichlet(posterior) * num_rows)) for _ in range(samples)]
    )


# --- BCa -------------------------------------------------------------------------------------------------------------


def _too_few(metric: Metric, rows: Scored) -> str:
    """Why resamples of these rows cannot stand for other rows; empty if they can."""
    if metric.parts:
        return next((reason for part in metric.parts if (reason := _too_few(part, rows))), "")
    if metric.uses == "decisions":
        wrong = int((~rows.right).sum())
        if wrong < MIN_ERRORS:
            return (
                f"only {wrong} of {len(rows):,} rows are wrong, too few to resample" if wrong else "every row is right"
            )
    few = f"there are only {len(rows)} rows, too few to resample" if len(rows) < MIN_RESAMPLED else ""
    return too_few_to_rank(metric, rows) or few


def too_few_to_rank(metric: Metric, rows: Scored) -> str:
    """Why resamples say nothing about how rows rank; empty if they do, or if the metric does not rank."""
    if metric.uses != "ranks" or rows.answers.choices is None:
        return ""
    positives = rows.hits[:, rows.answers.ranked.start :]
    sides = np.minimum(positives.sum(axis=0), (~positives).sum(axis=0))
    sides = sides[sides > 0]
    if len(sides) and sides.max() < MIN_SIDE:
        return f"fewer than {MIN_SIDE} rows belong to a class, or to the rest, too few to resample"
    return ""


@dataclass(frozen=True)
class Units:
    """What is drawn with replacement to make a resample: rows, or cells of equal rows."""

    counts: np.ndarray
    """int64 [n] how many rows each one stands for."""
    value: Callable[[np.ndarray], float]
    """The metric, where each unit counts int64 [n] times; NaN where undefined."""
    of_rows: bool = True
    """Whether each one is a row."""


def units_of(metric: Metric, part: Scored) -> Units:
    """Rows or cells of one head."""

    def value(times: np.ndarray) -> float:
        drawn = np.flatnonzero(times)
        return metric.function(part.take(drawn, times[drawn]))

    if part.weights is None:
        return Units(np.ones(len(part), np.int64), value)
    return Units(part.weights, value, of_rows=False)


def _bootstrap(
    metric: Metric, rows: Scored, value: float, samples: int, generator: np.random.Generator, max_work: int | None
) -> Interval:
    """The BCa bootstrap over rows.

    A metric of decisions is resampled by cells, rows of equal target and decision as one. Any other is computed on the
    rows. Time is bounded by `max_work`: above it there are fewer resamples, down to `MIN_SAMPLES`, and if these are
    still too much they are drawn from a random part of m of the N rows, the deviations scaled by sqrt(m / N) (the
    m-out-of-n bootstrap). Undefined resamples are left out.
    """
    max_work = max_work or MAX_WORK
    part, scale, center = metric.units(rows), 1.0, value
    if metric.parts:  # a mean with a part that ranks is resampled on the ranked rows, where others have another value
        center = metric.function(part)
    fixed, per_row = work(metric, rows)
    max_rows = (max_work // min(samples, MIN_SAMPLES) - fixed) // per_row
    if len(part) > max_rows:
        if max_rows < MIN_ROWS:
            return Interval(None, reason=TOO_MUCH_WORK)
        smaller = rows.take(np.sort(generator.choice(len(rows), max_rows, replace=False)))
        part, scale, center = metric.units(smaller), math.sqrt(max_rows / len(rows)), metric.of(smaller)
    samples = min(samples, max(MIN_SAMPLES, max_work // (fixed + per_row * len(part))))
    around = Around(value, center, scale, metric.higher_is_better, metric.bounded)
    return resampled(units_of(metric, part), around, samples, generator)


@dataclass(frozen=True)
class Around:
    """The value that an interval lies around, and how the resamples stand to it."""

    value: float
    center: float
    """The value of what is resampled."""
    scale: float
    """By which the deviations of resamples are multiplied."""
    higher_is_better: bool
    bounded: bool = True
    """As `Metric.bounded`."""


def resampled(units: Units, around: Around, samples: int, generator: np.random.Generator) -> Interval:
    """The BCa interval from so many resamples of the units."""
    values = np.array([units.value(_resample(units, generator)) for _ in range(samples)])
    defined = values[~np.isnan(values)]
    if len(defined) * 2 < samples or is_undefined(around.center):
        return Interval(None, reason="most resamples of these rows have no value")
    if math.isclose(defined.min(), defined.max(), rel_tol=1e-12, abs_tol=1e-15):
        return Interval(None, reason="every resample of these rows gives the same value")
    shares = _bca_shares(defined, around.center, _acceleration(units, generator))
    quantiles = np.quantile(defined, shares)
    lower, upper = (float(limit) for limit in around.value + around.scale * (quantiles - around.center))
    if around.bounded and around.higher_is_better:  # scaled deviations may reach past the best value that there is
        upper = min(upper, 1.0)
    elif around.bounded:
        lower = max(lower, 0.0)
    return _around(around.value, lower, upper, "BCa bootstrap")


def _bca_shares(values: np.ndarray, value: float, acceleration: float) -> list[float]:
    """Which quantiles of the resamples are the limits, corrected for bias and for how the spread moves with the
    value."""
    near = 1e-12 * max(1.0, abs(value))
    below = (np.sum(values < value - near) + np.sum(values <= value + near)) / 2  # ties count half
    bias = NORMAL.inv_cdf(min(max(below, 1), len(values) - 1) / len(values))
    moved = [bias + side for side in (-QUANTILE, QUANTILE)]
    # of a strong bias the correction would pass through infinity and come back from the other side
    return [NORMAL.cdf(bias + one / max(1e-6, 1 - acceleration * one)) for one in moved]


def _acceleration(units: Units, generator: np.random.Generator) -> float:
    """A sixth of the skewness of what each row adds to the value, by the jackknife; of many rows, by groups of
    them."""
    counts = units.counts
    if len(counts) <= GROUPS:
        groups, times = [np.array([index]) for index in range(len(counts))], counts
    else:
        groups = np.array_split(generator.permutation(np.repeat(np.arange(len(counts)), counts)), GROUPS)
        times = np.ones(GROUPS, np.int64)
    values = np.array([_without(units, group) for group in groups])
    times = times * ~np.isnan(values)
    if not times.any():
        return 0.0
    gains = np.average(np.nan_to_num(values), weights=times) - np.nan_to_num(values)
    variance = float(times @ gains**2)
    if variance <= 1e-20:
        return 0.0
    # a quarter is the skewness of very few rows; beyond it the correction turns back on itself
    return float(np.clip(times @ gains**3 / (6 * variance**1.5), -0.25, 0.25))


def _without(units: Units, group: np.ndarray) -> float:
    """The value without one row of each of `group`."""
    left = units.counts - np.bincount(group, minlength=len(units.counts))
    return units.value(left) if left.any() else UNDEFINED


def _limits(values: np.ndarray, value: float, method: Method) -> Interval:
    """The middle 95 % of the draws, and the value."""
    lower, upper = (float(limit) for limit in np.quantile(values, (0.025, 0.975)))
    return _around(value, lower, upper, method)


def _around(value: float, lower: float, upper: float, method: Method) -> Interval:
    """The limits, and the value: at the ends of its range it can lie beside them. None where that has no width."""
    lower, upper = min(lower, value), max(upper, value)
    if math.isclose(lower, upper, rel_tol=1e-12, abs_tol=1e-15):
        return Interval(None, reason="rows like these always give the same value")
    return Interval((lower, upper), method)


def work(metric: Metric, scored: Scored) -> tuple[int, int]:
    """Work of one resample: what it takes whatever the rows, and what each row adds."""
    if metric.parts:
        each = [work(part, scored) for part in metric.parts]
        return sum(fixed for fixed, _ in each), sum(per_row for _, per_row in each)
    if metric.uses == "decisions":
        sets = not scored.answers.label_map.exclusive
        return CALL, max(1, scored.num_classes // 8) if sets else 1  # labels come cheaper than scores
    columns = len(scored.answers.ranked) if metric.uses == "ranks" else 1
    return CALL * columns, columns


def _resample(units: Units, generator: np.random.Generator) -> np.ndarray:
    """As many rows as there are, drawn with replacement: int64 [n] how often each unit was drawn."""
    num_units = len(units.counts)
    if units.of_rows:
        return np.bincount(generator.integers(0, num_units, num_units), minlength=num_units)
    num_rows = units.counts.sum()
    return generator.multinomial(num_rows, units.counts / num_rows)
