"""Spreads over runs, beside scipy's t and a plain simulation of what an interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from textune.studies.spread import interval_over_folds, interval_over_seeds, spread_of, t_quantile, t_within


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 14, 29, 100])
def test_students_t_is_that_of_scipy(freedom: int) -> None:
    for limit in (0.0, 0.1, 1.0, 2.5, 12.0):
        assert t_within(limit, freedom) == pytest.approx(2 * stats.t.cdf(limit, freedom) - 1, abs=1e-13)
    for level in (0.5, 0.95, 0.999):
        assert t_quantile(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def test_intervals_are_those_of_the_papers() -> None:
    values = [0.81, 0.79, 0.84, 0.80, 0.83, 0.78]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    low, high = stats.t.interval(0.95, 5, mean, deviation * math.sqrt(1 / 6))
    assert interval_over_seeds(values) == pytest.approx((low, high))
    # Nadeau and Bengio 2003, with a test set of 1/2 of the training set in each of three folds
    low, high = stats.t.interval(0.95, 5, mean, deviation * math.sqrt(1 / 6 + 1 / 2))
    assert interval_over_folds(values, 3) == pytest.approx((low, high))
    assert interval_over_seeds(values[:1]) is None and interval_over_folds(values[:1], 5) is None


def test_what_is_undefined_stays_so() -> None:
    one = spread_of([0.5])
    assert (one.mean, one.low, one.high) == (0.5, 0.5, 0.5) and math.isnan(one.deviation)
    none = spread_of([0.5, math.nan], interval_over_seeds([0.5, math.nan]))
    assert all(math.isnan(value) for value in (none.mean, none.deviation, none.low, none.high))
    assert none.to_dict() == {
        "values": [0.5, None],
        "mean": None,
        "deviation": None,
        "low": None,
        "high": None,
        "interval_95": [None, None],
    }


def test_the_corrected_interval_covers_where_the_usual_one_does_not() -> None:
    """Nearest-mean classifiers in five folds of 60 rows, 400 times: how often the interval holds what such a
    classifier reaches on endless rows, on average over training sets."""
    generator = np.random.default_rng(0)
    gap, rows, folds = 0.7, 60, 5

    def drawn(num: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(num) % 2
        return labels, generator.normal(gap * (2 * labels - 1))

    def threshold(labels: np.ndarray, values: np.ndarray) -> float:
        return float((values[labels == 0].mean() + values[labels == 1].mean()) / 2)

    cuts = np.array([threshold(*drawn(rows - rows // folds)) for _ in range(4000)])
    truth = np.mean((stats.norm.cdf(gap + cuts) + stats.norm.cdf(gap - cuts)) / 2)
    held = {"corrected": 0, "usual": 0}
    for _ in range(400):
        labels, values = drawn(rows)
        fold = generator.permutation(np.arange(rows) % folds)
        scores = []
        for one in range(folds):
            cut = threshold(labels[fold != one], values[fold != one])
            scores.append(float(np.mean((values[fold == one] > cut) == labels[fold == one])))
        for name, interval in (
            ("corrected", interval_over_folds(scores, folds)),
            ("usual", interval_over_seeds(scores)),
        ):
            assert interval is not None
            held[name] += interval[0] <= truth <= interval[1]
    assert held["corrected"] >= 0.95 * 400 > held["usual"], held
