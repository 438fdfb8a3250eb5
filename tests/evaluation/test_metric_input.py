"""The table of metrics, and values that cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from kits.metrics import head_of, metrics_for, scored_rows

from textune.errors import DataError, ModelError
from textune.evaluation.metrics import METRICS
from textune.evaluation.naming import resolve_metric
from textune.tasks.task import problems_measured_by

PROBLEMS = ("binary", "multiclass", "multilabel", "regression")


def test_the_table_is_complete_and_described() -> None:
    assert {problem: len(metrics_for(problem)) for problem in PROBLEMS} == {
        "binary": 21,
        "multiclass": 16,
        "multilabel": 19,
        "regression": 7,
    }
    for problem in PROBLEMS:
        answers = head_of(problem).answers
        assert {answers.measures.main, answers.measures.plain} <= set(answers.measures.names) <= set(METRICS)
        assert resolve_metric("auto", [head_of(problem)]).name == answers.measures.main
    for name, metric in METRICS.items():
        assert metric.name == name and metric.description
        assert bool(problems_measured_by(name)) == (name != "loss")  # which is reported only where it is asked for
    losses = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    of_texts = {"bits_per_character", "bits_per_byte", "perplexity"}
    assert losses == {"hamming_loss", "log_loss", "loss", "brier", "rmse", "mse", "mae", "mape"} | of_texts


# --- bad input -------------------------------------------------------------------------------------------------------


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores = np.array([[0.5, 0.5], [math.nan, 0.5], [math.inf, 0.5]])
    with pytest.raises(ModelError, match="for 2 of 3 rows, the first of them row 2"):
        scored_rows("binary", np.array([0, 1, 1]), scores)
    with pytest.raises(ModelError, match="diverged"):
        scored_rows("regression", np.array([0.0]), np.array([math.nan]))


@pytest.mark.parametrize(
    ("problem", "targets", "scores", "reason"),
    [
        ("binary", np.zeros(0, dtype=np.int64), np.zeros((0, 2)), "no rows"),
        ("binary", np.array([0]), np.array([[0.1, 0.2, 0.7]]), "do not fit"),
        ("binary", np.array([0, 1]), np.array([[0.1, 0.9]]), "do not fit"),
        ("binary", np.array([0]), np.array([0.1]), "do not fit"),
        ("multiclass", np.array([[0]]), np.array([[0.1, 0.2, 0.7]]), "do not fit"),
        ("multiclass", np.array([3]), np.array([[0.1, 0.2, 0.7]]), "class ids up to 2"),
        ("multiclass", np.array([-1]), np.array([[0.1, 0.2, 0.7]]), "class ids up to 2"),
        ("multiclass", np.array([1.0]), np.array([[0.1, 0.2, 0.7]]), "class ids up to 2"),
        ("multiclass", np.array([0]), np.array([[0.1, 4.0, -2.0]]), "probabilities"),
        ("multilabel", np.array([[1]]), np.array([[0.1]]), "two labels or more"),
        ("multilabel", np.array([[0.5, 1]]), np.array([[0.1, 0.2]]), "0 or 1"),
        ("regression", np.array([math.nan]), np.array([1.0]), "not a number"),
        ("regression", np.array([1.0]), np.array([[1.0]]), "do not fit"),
    ],
)
def test_input_that_cannot_be_is_refused(problem: Any, targets: np.ndarray, scores: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        scored_rows(problem, targets, scores)
