"""Thresholds beside a search of every cut; folds that do not depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from textune.evaluation.folds import fold_of_rows, strata_of
from textune.evaluation.thresholds import cuts_of, f1_threshold, precision_threshold


def drawn(seed: int, rows: int = 60, decimals: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    has = random.random(rows) < 0.3
    return has, np.round(np.clip(has * 0.2 + random.random(rows) * 0.8, 0, 1), decimals)


def every_cut(probabilities: np.ndarray) -> list[float]:
    """A grid that has every way to cut the rows: halfway between neighbours, and beyond both ends."""
    values = np.unique(probabilities)
    return [values[0] / 2, *((values[1:] + values[:-1]) / 2), (values[-1] + 1) / 2]


@pytest.mark.every_day(5)
@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("seed", range(8))
def test_no_cut_has_a_higher_f1(seed: int, decimals: int) -> None:
    has, probabilities = drawn(seed, decimals=decimals)
    found = f1_threshold(has, probabilities)
    assert found is not None
    best = max(f1_score(has, probabilities >= cut, zero_division=0) for cut in every_cut(probabilities))
    assert f1_score(has, probabilities >= found) == pytest.approx(best, abs=1e-6)
    assert any(found == pytest.approx(cut, abs=1e-12) for cut in every_cut(probabilities))  # on no row itself


@pytest.mark.every_day(5)
@pytest.mark.parametrize("floor", [0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_no_cut_of_enough_precision_has_a_higher_recall(seed: int, floor: float) -> None:
    has, probabilities = drawn(seed, decimals=2)
    possible = [
        recall_score(has, probabilities >= cut)
        for cut in every_cut(probabilities)
        if (probabilities >= cut).any() and precision_score(has, probabilities >= cut) >= floor
    ]
    found = precision_threshold(has, probabilities, floor=floor)
    if not possible or max(possible) == 0:
        assert found is None
        return
    assert found is not None
    assert precision_score(has, probabilities >= found) >= floor
    assert recall_score(has, probabilities >= found) == pytest.approx(max(possible), abs=1e-6)


def test_no_rows_with_the_label_have_no_threshold() -> None:
    nobody = np.zeros(5, dtype=bool)
    assert f1_threshold(nobody, np.linspace(0, 1, 5)) is None
    assert precision_threshold(nobody, np.linspace(0, 1, 5), floor=0.5) is None
    assert precision_threshold(np.array([True, False]), np.array([0.1, 0.9]), floor=0.9) is None


def test_of_equal_cuts_the_one_nearest_to_a_half_is_taken() -> None:
    assert f1_threshold(np.array([True, False]), np.array([0.9, 0.2])) == pytest.approx(0.55)
    has, probabilities = np.array([True, False, False, True]), np.array([0.9, 0.4, 0.35, 0.2])
    # F1 of 2/3 above 0.4 and below 0.2
    assert f1_threshold(has, probabilities) == pytest.approx(0.65)


def test_neighbours_in_float64_are_told_apart() -> None:
    below = np.nextafter(0.7, 0)
    cuts = cuts_of(np.array([True, False]), np.array([0.7, below]))
    assert cuts.thresholds_M[0] > below and cuts.given_M.tolist() == [1, 2]
    threshold = f1_threshold(np.array([True, False]), np.array([0.7, below]))
    assert threshold == 0.7


# --- folds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_have_the_same_rows_of_each_class(folds: int) -> None:
    targets = np.random.default_rng(0).integers(0, 4, 203)
    fold = fold_of_rows(strata_of(targets), np.arange(203), folds=folds, seed=3)
    assert np.ptp(np.bincount(fold)) <= 1
    for stratum in range(4):
        assert np.ptp(np.bincount(fold[targets == stratum], minlength=folds)) <= 1
    assert not np.array_equal(fold, fold_of_rows(strata_of(targets), np.arange(203), folds=folds, seed=4))


def test_without_one_fold_the_others_are_as_they_were() -> None:
    targets = np.random.default_rng(1).integers(0, 3, 200)
    rows = np.arange(200)
    fold = fold_of_rows(targets, rows, folds=5, seed=0)
    for left_out in range(5):
        others = fold != left_out
        again = fold_of_rows(targets[others], rows[others], folds=4, seed=0)
        assert np.array_equal(again, fold[others] - (fold[others] > left_out))


def test_a_fold_follows_from_the_row_not_from_its_place() -> None:
    targets = np.random.default_rng(2).integers(0, 3, 90)
    rows, order = np.arange(90), np.random.default_rng(3).permutation(90)
    fold = fold_of_rows(targets, rows, folds=5, seed=0)
    assert np.array_equal(fold_of_rows(targets[order], rows[order], folds=5, seed=0), fold[order])


def test_groups_stay_together() -> None:
    random = np.random.default_rng(4)
    targets, groups = random.integers(0, 2, 120), random.integers(0, 30, 120)
    fold = fold_of_rows(targets, np.arange(120), folds=5, seed=0, groups_N=groups)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    assert len(set(fold)) == 5


def test_rows_of_labels_are_dealt_by_their_rarest_label() -> None:
    targets = np.zeros((100, 3), int)
    targets[:, 0] = 1
    targets[:10, 1] = 1
    targets[95:] = 0
    strata = strata_of(targets)
    assert (strata[:10] != strata[10]).all() and len(set(strata[10:95])) == 1 and strata[99] not in strata[:95]
    fold = fold_of_rows(strata, np.arange(100), folds=5, seed=0)
    assert np.bincount(fold[:10]).tolist() == [2] * 5
