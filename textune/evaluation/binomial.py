"""Tails of the binomial distribution, and exact limits of a share, in float64 without scipy."""

from __future__ import annotations

import math

import numpy as np

_SMALLEST = 1e-18
"""Terms of a sum that are smaller than this beside the first do not change it."""


def at_most(hits: int, total: int, share: float) -> float:
    """P(X <= hits) where X counts the hits among `total` rows, each a hit with probability `share`."""
    if hits < 0:
        return 0.0
    if hits >= total or share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    if hits <= total * share:
        return _lower_tail(hits, total, share)
    return 1.0 - _lower_tail(total - hits - 1, total, 1.0 - share)


def at_least(hits: int, total: int, share: float) -> float:
    """P(X >= hits); see `at_most`."""
    return at_most(total - hits, total, 1.0 - share)


def _lower_tail(hits: int, total: int, share: float) -> float:
    """P(X <= hits) for `hits` up to the mean: the last term times the sum of its ratios to those before."""
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(total - hits + 1)
        + hits * math.log(share)
        + (total - hits) * math.log1p(-share)
    )
    sum_of_ratios, ratio, count = 1.0, 1.0, hits
    while count > 0:
        # In pieces: the ratios fall, and after some standard deviations nothing is left to add.
        counts = np.arange(count, max(count - 4096, 0), -1, dtype=np.float64)
        ratios = ratio * np.cumprod(counts / (total - counts + 1) * ((1.0 - share) / share))
        sum_of_ratios += float(ratios.sum())
        ratio, count = float(ratios[-1]), count - len(counts)
        if ratio < _SMALLEST * sum_of_ratios:
            break
    return min(1.0, math.exp(log_term) * sum_of_ratios)


def lower_limit(hits: int, total: int, confidence: float) -> float:
    """The lower limit of the share of hits, one-sided: Clopper and Pearson (1934), Biometrika 26, 404."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / total
    for _ in range(60):  # a float64 has 53 bits
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(hits, total, middle) <= 1 - confidence else (low, middle)
    return low


def upper_limit(hits: int, total: int, confidence: float) -> float:
    """The upper limit of the share of hits, one-sided; see `lower_limit`."""
    return 1.0 - lower_limit(total - hits, total, confidence)
