"""Whether a fitted rule is better than the usual one, on rows that it was not fitted on: paired tests of ratios of
counts, one for each label.

A rule is kept where it is better by more than chance would make it. The level of all labels of a head together is
`LEVEL` (Holm 1979): on scores that know nothing, the chance that any threshold moves is at most that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from textune.evaluation.binomial import at_least

LEVEL = 0.05
"""The chance of keeping a rule that is no better."""
MIN_ROWS = 10
"""Rows with a label, and rows without it, below which its threshold is left where it is."""
_NORMAL = NormalDist()


class Ratio(NamedTuple):
    """A ratio of two sums over rows, and by how much each row moves it."""

    value: float
    influence_N: np.ndarray
    """float64 [N]; their mean is 0, and their spread / sqrt(N) is the standard error of the value."""


def ratio(above_N: np.ndarray, below_N: np.ndarray) -> Ratio:
    """sum(above) / sum(below), 0 where nothing is below; float64 or bool [N] each."""
    above, below = above_N.astype(np.float64), below_N.astype(np.float64)
    total = below.sum()
    if not total:
        return Ratio(0.0, np.zeros(len(above)))
    value = float(above.sum() / total)
    return Ratio(value, (above - value * below) * len(above) / total)


def f1_of(has_N: np.ndarray, given_N: np.ndarray) -> Ratio:
    """F1 of a label; bool [N] which rows have it, and which are given it."""
    return ratio(2.0 * (has_N & given_N), 1.0 * has_N + given_N)


def precision_of(has_N: np.ndarray, given_N: np.ndarray) -> Ratio:
    """Precision of a label; arguments as in `f1_of`."""
    return ratio(has_N & given_N, given_N)


def recall_of(has_N: np.ndarray, given_N: np.ndarray) -> Ratio:
    """Recall of a label; arguments as in `f1_of`."""
    return ratio(has_N & given_N, has_N)


def chance_of_lead(one: Ratio, other: Ratio) -> float:
    """How often a lead of `one` over `other` on the same rows would come about by chance, were there none: the p-value
    of the paired, one-sided test by the normal law."""
    return chance_of(one.value - other.value, one.influence_N - other.influence_N)


def chance_of_mean(gains_N: np.ndarray) -> float:
    """The same for the mean of what each row gains, float64 [N]."""
    mean = float(gains_N.mean()) if len(gains_N) else 0.0
    return chance_of(mean, gains_N - mean)


def chance_of(lead: float, influence_N: np.ndarray) -> float:
    """The same for a lead of which each row moves so much."""
    if lead <= 0 or len(influence_N) < 2:
        return 1.0
    error = float(influence_N.std(ddof=1)) / math.sqrt(len(influence_N))
    return 1 - _NORMAL.cdf(lead / error) if error > 0 else 0.0


def chance_of_luck(has_N: np.ndarray, given_N: np.ndarray, share: float) -> float:
    """How often so many of the given rows would have the label, or more, were it `share` of such rows that have it:
    exact. The normal law is no law for a few rows, of which all are right: they would seem to be without error."""
    return at_least(int((has_N & given_N).sum()), int(given_N.sum()), share)


def is_below(one: Ratio, floor: float) -> bool:
    """Whether a ratio is below `floor` by more than chance."""
    return chance_of(floor - one.value, one.influence_N) <= LEVEL


def leading(chances: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several leads are more than chance, at one level for all of them together, by Holm's steps."""
    order = np.argsort(chances, kind="stable")
    found = [False] * len(chances)
    for step, index in enumerate(order.tolist()):
        if chances[index] > level / (len(chances) - step):
            break
        found[index] = True
    return found
