"""Tails of the binomial distribution and exact limits, compared with scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from textune.evaluation.binomial import at_least, at_most, lower_limit, upper_limit

CASES = [
    (hits, total, share)
    for total in (1, 2, 7, 40, 1_000, 200_000)
    for share in (0.001, 0.3, 0.5, 0.98)
    for hits in sorted(
        {0, 1, total // 3, round(total * share), min(total, round(total * share) + 1), total - 1, total}
    )
]


@pytest.mark.parametrize(("hits", "total", "share"), CASES)
def test_tails(hits: int, total: int, share: float) -> None:
    assert at_most(hits, total, share) == pytest.approx(stats.binom.cdf(hits, total, share), rel=1e-8, abs=1e-300)
    assert at_least(hits, total, share) == pytest.approx(stats.binom.sf(hits - 1, total, share), rel=1e-8, abs=1e-300)


def test_impossible_counts_and_shares() -> None:
    assert (at_most(-1, 5, 0.5), at_most(5, 5, 0.5), at_least(0, 5, 0.5), at_least(6, 5, 0.5)) == (0, 1, 1, 0)
    assert (at_most(2, 5, 0.0), at_most(2, 5, 1.0)) == (1, 0)


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (3, 10), (97, 100), (4_900, 5_000)])
def test_limits(hits: int, total: int) -> None:
    exact = stats.binomtest(hits, total)
    lower = exact.proportion_ci(0.90, method="exact").low  # two-sided 90 % has one-sided limits of 95 %
    upper = exact.proportion_ci(0.90, method="exact").high
    assert lower_limit(hits, total, 0.95) == pytest.approx(lower, abs=1e-9)
    assert upper_limit(hits, total, 0.95) == pytest.approx(upper, abs=1e-9)
