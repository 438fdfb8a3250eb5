"""Two label distributions compared: the test beside scipy's, and what counts as a shift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency

from textune.data.inspect.shift import homogeneity, label_shift


@pytest.mark.parametrize("num_classes", [2, 3, 10, 77])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_p_value_is_scipys(num_classes: int, strength: float) -> None:
    draw = np.random.default_rng(num_classes)
    share_C = draw.dirichlet(np.full(num_classes, 20.0))
    other_C = (1 - strength) * share_C + strength * draw.dirichlet(np.full(num_classes, 20.0))
    first_C, second_C = draw.multinomial(20_000, share_C), draw.multinomial(3_000, other_C)
    wanted = chi2_contingency(np.stack([first_C, second_C]), correction=False).pvalue
    assert homogeneity(first_C, second_C) == pytest.approx(wanted, rel=1e-9)


def test_rare_classes_are_tested_together() -> None:
    first_C, second_C = np.array([500, 400, 3, 2, 2]), np.array([55, 35, 2, 0, 1])
    kept = np.array([[500, 400], [55, 35]])  # even together the rare ones are too few
    share_2 = np.array([[907], [93]]) / 1000
    expected = share_2 * kept.sum(axis=0)
    assert homogeneity(first_C, second_C) == pytest.approx(chi2.sf(((kept - expected) ** 2 / expected).sum(), 1))
    many_C, few_C = np.array([500, 400, 60, 40, 30]), np.array([50, 40, 3, 5, 1])
    merged = np.array([[500, 400, 60, 70], [50, 40, 3, 6]])
    assert homogeneity(many_C, few_C) == pytest.approx(chi2_contingency(merged, correction=False).pvalue)


def test_one_class_has_nothing_to_test() -> None:
    assert homogeneity(np.array([10, 0]), np.array([5, 0])) == 1.0


def test_tiny_splits_raise_no_alarm() -> None:
    """Of 1,000 pairs of small samples of one distribution, next to none differ beyond chance."""
    draw = np.random.default_rng(0)
    share_C = np.array([0.5, 0.3, 0.1, 0.05, 0.05])
    alarms = [
        label_shift(draw.multinomial(200, share_C), draw.multinomial(num, share_C)).is_certain
        for num in (1, 3, 10, 30, 100)
        for _ in range(200)
    ]
    assert sum(alarms) <= 5


def test_a_shift_has_a_size_and_a_class() -> None:
    shift = label_shift(np.array([500, 500]), np.array([90, 10]))
    assert (shift.distance, shift.largest) == (pytest.approx(0.4), 0)
    assert shift.is_certain and shift.is_large
    slight = label_shift(np.array([5000, 5000]), np.array([650, 350]))
    assert slight.is_certain and not slight.is_large
    small = label_shift(np.array([50_000, 50_000]), np.array([5500, 4500]))
    assert small.chance < 1e-6 and not small.is_certain
