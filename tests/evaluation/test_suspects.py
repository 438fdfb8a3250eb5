"""Suspect labels: compared with cleanlab, and on labels of which some are known to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint, estimate_joint, get_confident_thresholds
from cleanlab.filter import find_label_issues

from textune.evaluation.suspects import confident_classes, find_suspects


def noisy(
    num_rows: int, num_classes: int, seed: int, *, share: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities of a fair model of the truth, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, num_classes, num_rows)
    logits = rng.standard_normal((num_rows, num_classes)) + 3.0 * np.eye(num_classes)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = rng.random(num_rows) < share
    labels = np.where(wrong, (true + rng.integers(1, num_classes, num_rows)) % num_classes, true)
    return labels, probabilities, wrong


@pytest.mark.parametrize(("num_rows", "num_classes"), [(40, 2), (500, 2), (500, 5), (2_000, 30)])
def test_the_suspects_are_those_of_cleanlab(num_rows: int, num_classes: int) -> None:
    labels, probabilities, _ = noisy(num_rows, num_classes, seed=num_classes)
    joint, rows = compute_confident_joint(labels, probabilities, return_indices_of_off_diagonals=True, calibrate=False)
    found = find_suspects(labels, probabilities, exclusive=True)
    assert np.array_equal(np.sort(found.rows), np.sort(rows))
    assert np.array_equal(
        np.sort(found.rows), np.flatnonzero(find_label_issues(labels, probabilities, filter_by="confident_learning"))
    )
    assert joint.sum() - np.trace(joint) == len(found)
    assert found.noise == pytest.approx(
        estimate_joint(labels, probabilities), abs=0.01
    )  # cleanlab rounds to whole rows
    assert get_confident_thresholds(labels, probabilities) == pytest.approx(
        [probabilities[labels == one, one].mean() for one in range(num_classes)], abs=1e-6
    )


def test_several_labels_are_asked_one_by_one() -> None:
    rng = np.random.default_rng(3)
    true = rng.random((800, 4)) < [0.5, 0.2, 0.1, 0.4]
    probabilities = 1 / (1 + np.exp(-(4.0 * true - 2.0 + rng.standard_normal(true.shape))))
    wrong = rng.random(true.shape) < 0.05
    labels = (true ^ wrong).astype(np.uint8)
    found = find_suspects(labels, probabilities, exclusive=False)
    for label in range(4):
        own = found.labels == label
        both = np.stack([1 - probabilities[:, label], probabilities[:, label]], axis=1)
        _, rows = compute_confident_joint(
            labels[:, label].astype(int), both, return_indices_of_off_diagonals=True, calibrate=False
        )
        assert np.array_equal(np.sort(found.rows[own]), np.sort(rows))
        assert np.array_equal(found.given[own], labels[found.rows[own], label])
    assert np.array_equal(found.given + found.proposed, np.ones(len(found)))
    assert wrong[found.rows, found.labels].mean() > 0.6


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_wrong_labels_are_found_and_come_first(share: float) -> None:
    labels, probabilities, wrong = noisy(5_000, 6, seed=1, share=share)
    found = find_suspects(labels, probabilities, exclusive=True)
    assert wrong[found.rows].sum() / wrong.sum() > 0.6
    first = found.rows[: int(wrong.sum()) // 2]
    assert wrong[first].mean() > 0.95
    assert np.all(np.diff(found.margins) <= 0)
    assert 1 - np.trace(found.noise) == pytest.approx(share, abs=0.03)


def test_labels_that_are_right_are_hardly_suspect() -> None:
    labels, probabilities, _ = noisy(5_000, 6, seed=2, share=0.0)
    sharp = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert len(find_suspects(labels, sharp, exclusive=True)) < 0.05 * 5_000


def test_a_class_without_rows_is_never_proposed() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    assert 2 not in confident_classes(labels, probabilities)
    found = find_suspects(labels, probabilities, exclusive=True)
    assert found.rows.tolist() == [2] and found.proposed.tolist() == [0]
    assert found.margins == pytest.approx([0.85])
