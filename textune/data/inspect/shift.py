"""Whether the labels of held-out rows are distributed otherwise than those of the training rows; used by `audit.py`.

Two things are asked, since neither alone is enough: how large the difference is (total variation distance), and
whether rows drawn from one distribution would show it by chance (Pearson's chi-squared test of homogeneity).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from textune.data.inspect.overlap import MAX_CHANCE

MIN_DISTANCE, LARGE_DISTANCE = 0.1, 0.2
"""Distances from which a shift is worth a note, and a warning."""
MIN_EXPECTED = 5.0
"""Classes with fewer expected rows than this are tested together (Cochran's rule)."""


@dataclass(frozen=True)
class Shift:
    """How two label distributions differ."""

    distance: float
    """Total variation distance, from 0 to 1: the share of the rows that would need another label."""
    chance: float
    """How often rows drawn from one distribution would differ as much; 1 where there is nothing to test."""
    largest: int
    """The class whose share differs most."""

    @property
    def is_certain(self) -> bool:
        """Whether the difference is no accident."""
        return self.distance >= MIN_DISTANCE and self.chance < MAX_CHANCE

    @property
    def is_large(self) -> bool:
        """Whether it is one that changes what a score means."""
        return self.is_certain and self.distance >= LARGE_DISTANCE


def label_shift(train_C: np.ndarray, held_out_C: np.ndarray) -> Shift:
    """Compare the rows of each class (int64 [C]) in the training rows and in held-out rows; neither may be empty."""
    first_C, second_C = train_C / train_C.sum(), held_out_C / held_out_C.sum()
    difference_C = np.abs(first_C - second_C)
    return Shift(float(difference_C.sum() / 2), homogeneity(train_C, held_out_C), largest=int(difference_C.argmax()))


def homogeneity(first_C: np.ndarray, second_C: np.ndarray) -> float:
    """p-value of Pearson's chi-squared test that two rows of counts have one distribution; 1 with fewer than two
    classes to test."""
    counts_2C = np.stack([first_C, second_C]).astype(np.float64)
    share_2 = counts_2C.sum(axis=1, keepdims=True) / counts_2C.sum()
    rare_C = (share_2 * counts_2C.sum(axis=0)).min(axis=0) < MIN_EXPECTED
    counts_2C = np.concatenate([counts_2C[:, ~rare_C], counts_2C[:, rare_C].sum(axis=1, keepdims=True)], axis=1)
    expected_2C = share_2 * counts_2C.sum(axis=0)
    tested_C = expected_2C.min(axis=0) >= MIN_EXPECTED
    freedom = int(tested_C.sum()) - 1
    if freedom < 1:
        return 1.0
    statistic = float((((counts_2C - expected_2C) ** 2 / np.maximum(expected_2C, 1e-12))[:, tested_C]).sum())
    return _chi_squared_tail(statistic, freedom)


def _chi_squared_tail(statistic: float, freedom: int) -> float:
    """How often chi-squared of so many degrees of freedom is at least this large: from 1 or 2 degrees up, two at a
    time (Abramowitz and Stegun, 26.4.4 and 26.4.5)."""
    half = statistic / 2
    tail = math.erfc(math.sqrt(half)) if freedom % 2 else math.exp(-half)
    if half == 0:
        return 1.0
    for lower in range(2 - freedom % 2, freedom, 2):
        tail += math.exp(lower / 2 * math.log(half) - half - math.lgamma(lower / 2 + 1))
    return min(tail, 1.0)
