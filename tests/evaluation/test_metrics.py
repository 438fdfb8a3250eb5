"""Every metric: known answers, definitions counted by hand, and undefined values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from kits.metrics import metrics_for, scored_rows
from scipy import stats
from sklearn import metrics as library

from textune.evaluation.metrics import METRICS, compute_metrics, per_class

PROBLEMS = ("binary", "multiclass", "multilabel", "regression")


def nearly(value: Any) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def make(problem: str, seed: int, *, num_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Random targets and scores, with ties; as the seed has it, with classes without rows or never predicted."""
    random = np.random.default_rng(seed)
    num_rows = int(random.integers(2, 60)) if num_rows is None else num_rows
    if problem == "regression":
        targets = random.normal(size=num_rows).round(1) + 0.05
        return targets, targets + random.normal(size=num_rows).round(1)
    num_classes = 2 if problem == "binary" else 6
    logits = random.normal(scale=2, size=(num_rows, num_classes)).round(int(random.integers(1, 4)))
    if problem == "multilabel":
        labels = random.random((num_rows, num_classes)) < random.random(num_classes) / 2
        return labels.astype(np.float32), 1 / (1 + np.exp(-logits))
    if seed % 3 == 0 and num_classes > 2:
        logits[:, 1] = -9.0  # never predicted
    targets = random.integers(0, num_classes - (seed % 2 if num_classes > 2 else 0), num_rows)
    return targets, softmax(logits)


def measure(problem: Any, targets: Any, scores: Any) -> dict[str, float]:
    return compute_metrics(scored_rows(problem, np.asarray(targets), np.asarray(scores, dtype=np.float64)))


# --- known answers ---------------------------------------------------------------------------------------------------


def test_binary() -> None:
    positive = [0.1, 0.2, 0.95, 0.9, 0.8, 0.7, 0.3, 0.4]
    # of five positive rows three are found, of three negative ones one is taken for positive
    given = [0.9, 0.8, 0.05, 0.9, 0.8, 0.7, 0.3, 0.4]  # the probability of what is true
    assert measure("binary", [0, 0, 0, 1, 1, 1, 1, 1], [(1 - score, score) for score in positive]) == nearly(
        {
            "accuracy": 5 / 8,
            "balanced_accuracy": (2 / 3 + 3 / 5) / 2,
            "precision": 3 / 4,
            "recall": 3 / 5,
            "f1": 2 / 3,
            "f_half": 1.25 * 3 / (1.25 * 3 + 0.25 * 2 + 1),
            "f1_macro": (4 / 7 + 2 / 3) / 2,
            "f1_micro": 5 / 8,
            "f1_weighted": (3 * 4 / 7 + 5 * 2 / 3) / 8,
            "precision_macro": (2 / 4 + 3 / 4) / 2,
            "precision_micro": 5 / 8,
            "precision_weighted": (3 * 2 / 4 + 5 * 3 / 4) / 8,
            "recall_macro": (2 / 3 + 3 / 5) / 2,
            "recall_micro": 5 / 8,
            "recall_weighted": (3 * 2 / 3 + 5 * 3 / 5) / 8,
            "f_half_macro": (1.25 * 2 / (1.25 * 2 + 0.25 * 1 + 2) + 1.25 * 3 / (1.25 * 3 + 0.25 * 2 + 1)) / 2,
            "mcc": (3 * 2 - 1 * 2) / math.sqrt(4 * 5 * 3 * 4),
            "roc_auc": 10 / 15,
            "average_precision": (1 / 2 + 2 / 3 + 3 / 4 + 4 / 5 + 5 / 6) / 5,
            "log_loss": -sum(math.log(probability) for probability in given) / 8,
            "brier": sum((1 - probability) ** 2 for probability in given) / 8,
        }
    )


def test_multiclass() -> None:
    # answers: a a b | b a | c c c; the fourth class is neither true nor predicted
    scores = [
        (0.6, 0.2, 0.1, 0.1),
        (0.5, 0.3, 0.1, 0.1),
        (0.3, 0.4, 0.2, 0.1),
        (0.2, 0.6, 0.1, 0.1),
        (0.4, 0.3, 0.2, 0.1),
        (0.1, 0.1, 0.7, 0.1),
        (0.0, 0.1, 0.8, 0.1),
        (0.3, 0.2, 0.4, 0.1),
    ]
    assert measure("multiclass", [0, 0, 0, 1, 1, 2, 2, 0], scores) == nearly(
        {
            "accuracy": 5 / 8,
            "balanced_accuracy": (2 / 4 + 1 / 2 + 1) / 3,
            "f1_macro": (4 / 7 + 2 / 4 + 4 / 5) / 3,
            "f1_micro": 5 / 8,
            "f1_weighted": (4 * 4 / 7 + 2 * 2 / 4 + 2 * 4 / 5) / 8,
            "precision_macro": (2 / 3 + 1 / 2 + 2 / 3) / 3,
            "precision_micro": 5 / 8,
            "precision_weighted": (4 * 2 / 3 + 2 * 1 / 2 + 2 * 2 / 3) / 8,
            "recall_macro": (2 / 4 + 1 / 2 + 1) / 3,
            "recall_micro": 5 / 8,
            "recall_weighted": 5 / 8,
            "f_half_macro": (2.5 / (2.5 + 0.25 * 2 + 1) + 1.25 / (1.25 + 0.25 + 1) + 2.5 / (2.5 + 1)) / 3,
            # covariance of the 8 rows: right * rows - true . predicted, over both spreads
            "mcc": (5 * 8 - (4 * 3 + 2 * 2 + 2 * 3)) / math.sqrt((64 - 16 - 4 - 4) * (64 - 9 - 4 - 9)),
            "roc_auc": ((4 + 4 + 3 + 3) / 16 + (6 + 4.5) / 12 + 1) / 3,
            "average_precision": (
                (1 + 1 + 2 * 4 / 5) / 4  # at 0.6 and 0.5, then, behind a row of another class, twice at 0.3
                + (1 + 2 / 4) / 2  # at 0.6, then at 0.3, which a row of another class has as well
                + 1
            )
            / 3,
            "log_loss": -sum(math.log(given) for given in (0.6, 0.5, 0.3, 0.6, 0.3, 0.7, 0.8, 0.3)) / 8,
        }
    )


def test_multilabel() -> None:
    targets = [(1, 0, 0), (0, 1, 0), (0, 0, 0), (1, 1, 0)]
    scores = [(0.9, 0.1, 0.2), (0.6, 0.2, 0.1), (0.1, 0.3, 0.1), (0.8, 0.7, 0.5)]
    # answers: a | a | nothing | a b c; of label a 2 right of 3, of b 1 of 1 with one missed, of c none right of 1
    given = [0.9, 0.9, 0.8, 0.4, 0.2, 0.9, 0.9, 0.7, 0.9, 0.8, 0.7, 0.5]
    assert measure("multilabel", targets, scores) == nearly(
        {
            "f1_macro": (4 / 5 + 2 / 3 + 0) / 3,
            "f1_micro": 2 * 3 / (4 + 5),
            "f1_weighted": (2 * 4 / 5 + 2 * 2 / 3) / 4,
            "f1_samples": (1 + 0 + 0 + 4 / 5) / 4,
            "precision_macro": (2 / 3 + 1 + 0) / 3,
            "precision_micro": 3 / 5,
            "precision_weighted": (2 * 2 / 3 + 2 * 1) / 4,
            "precision_samples": (1 + 0 + 0 + 2 / 3) / 4,
            "recall_macro": (1 + 1 / 2 + 0) / 3,
            "recall_micro": 3 / 4,
            "recall_weighted": 3 / 4,
            "recall_samples": (1 + 0 + 0 + 1) / 4,
            "f_half_macro": (2.5 / (2.5 + 1) + 1.25 / (1.25 + 0.25) + 0) / 3,
            "subset_accuracy": 2 / 4,
            "hamming_loss": 3 / 12,
            "roc_auc": (1 + 3 / 4) / 2,
            "average_precision": (1 + (1 + 2 / 3) / 2) / 2,
            "average_precision_micro": (1 + 1 + 1 + 4 / 8) / 4,
            "log_loss": -sum(math.log(probability) for probability in given) / 12,
        }
    )


@pytest.mark.parity("HF-02", "regression-metrics")
def test_regression() -> None:
    assert measure("regression", [1.0, 2.0, 3.0, 5.0], [1.0, 3.0, 2.0, 8.0]) == nearly(
        {
            "pearson": 14.5 / math.sqrt(8.75 * 29),
            "spearman": 1 - 6 * 2 / (4 * 15),
            "r2": 1 - 11 / 8.75,
            "rmse": math.sqrt(11 / 4),
            "mse": 11 / 4,
            "mae": 5 / 4,
            "mape": (0 + 1 / 2 + 1 / 3 + 3 / 5) / 4,
        }
    )


# --- definitions, counted by hand ------------------------------------------------------------------------------------


def won_pairs(hits: np.ndarray, scores: np.ndarray) -> float:
    """Share of (hit, other) pairs where the hit scores higher; equal scores count half."""
    pairs = scores[hits][:, None] - scores[~hits]
    return float(((pairs > 0) + (pairs == 0) / 2).mean()) if pairs.size else math.nan


def mean_precision(hits: np.ndarray, scores: np.ndarray) -> float:
    """Mean, over the hits, of the precision among all rows that score at least as high."""
    found = [hits[scores >= score].mean() for score in scores[hits]]
    return float(np.mean(found)) if found else math.nan


def mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_classes_and_their_means_on_random_rows(problem: Any) -> None:
    for seed in range(9):
        targets, scores = make(problem, seed)
        num_classes = scores.shape[1]
        values = measure(problem, targets, scores)
        names = tuple(f"class {index}" for index in range(num_classes))
        rows = per_class(scored_rows(problem, targets, scores, names))
        hits = targets > 0.5 if problem == "multilabel" else targets[:, None] == np.arange(num_classes)
        answers = (
            scores >= 0.5 if problem == "multilabel" else scores.argmax(axis=1)[:, None] == np.arange(num_classes)
        )
        for index, row in enumerate(rows):
            hit, answer, score = hits[:, index], answers[:, index], scores[:, index]
            correct, predicted, support = int((hit & answer).sum()), int(answer.sum()), int(hit.sum())
            assert row.name == f"class {index}"
            assert (row.support, row.predicted, row.correct) == (support, predicted, correct)
            assert row.precision == nearly(correct / predicted if predicted else 0)
            assert row.recall == nearly(correct / support if support else 0)
            assert row.f1 == nearly(2 * correct / (predicted + support) if predicted + support else 0)
            assert row.roc_auc == nearly(won_pairs(hit, score))
            assert row.average_precision == nearly(mean_precision(hit, score))
        occurring = [row for row in rows if problem == "multilabel" or row.predicted or row.support]
        assert values["f1_macro"] == nearly(np.mean([row.f1 for row in occurring]))
        ranked = rows[1:] if problem == "binary" else rows
        assert values["roc_auc"] == nearly(mean_of_defined([row.roc_auc for row in ranked]))
        assert values["average_precision"] == nearly(mean_of_defined([row.average_precision for row in ranked]))
        if problem == "multilabel":
            assert values["average_precision_micro"] == nearly(mean_precision(hits.ravel(), scores.ravel()))
        else:
            assert values["balanced_accuracy"] == nearly(np.mean([row.recall for row in rows if row.support]))


def test_equal_values_share_their_mean_rank() -> None:
    # ranks 1.5 1.5 3 4 and 1 2.5 2.5 4
    assert measure("regression", [1.0, 1.0, 2.0, 9.0], [0.0, 5.0, 5.0, 6.0])["spearman"] == nearly(
        np.corrcoef([1.5, 1.5, 3, 4], [1, 2.5, 2.5, 4])[0, 1]
    )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_row_that_counts_twice_is_two_rows(problem: Any) -> None:
    for seed in range(4):
        scored = scored_rows(problem, *make(problem, seed))
        weights = np.random.default_rng(seed).integers(1, 4, len(scored))
        every = np.arange(len(scored))
        weighted, repeated = scored.take(every, weights), scored.take(np.repeat(every, weights))
        for metric in metrics_for(problem):
            assert metric.function(weighted) == nearly(metric.function(repeated)), (metric.name, seed)


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_cells_are_worth_their_rows(problem: Any) -> None:
    for seed in (3, 4):
        scored = scored_rows(problem, *make(problem, seed, num_rows=200))
        assert scored.cells.weights is not None
        assert len(scored.cells) < 200 == scored.cells.weights.sum()
        for metric in metrics_for(problem):
            if metric.uses == "decisions":
                assert metric.of(scored) == nearly(metric.function(scored)), (metric.name, seed)


# --- undefined and extreme values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
def test_one_row(problem: Any) -> None:
    for seed in range(3):
        targets, scores = make(problem, seed, num_rows=1)
        undefined = {name for name, value in measure(problem, targets, scores).items() if math.isnan(value)}
        assert undefined >= ({"pearson", "spearman", "r2"} if problem == "regression" else {"roc_auc"})
        assert all(METRICS[name].undefined for name in undefined)


def test_two_rows_of_numbers() -> None:
    values = measure("regression", [1.0, 2.0], [5.0, 3.0])
    assert (values["pearson"], values["spearman"]) == nearly((-1, -1))


def test_all_rows_of_one_class() -> None:
    _, scores = make("multiclass", 1, num_rows=20)
    values = measure("multiclass", np.full(20, 2), scores)
    assert math.isnan(values["roc_auc"])
    assert values["average_precision"] == nearly(1)
    assert values["mcc"] == 0
    _, scores = make("binary", 1, num_rows=20)
    negative = measure("binary", np.zeros(20, dtype=np.int64), scores)
    assert math.isnan(negative["roc_auc"]) and math.isnan(negative["average_precision"])
    assert negative["recall"] == negative["precision"] == negative["f1"] == negative["f_half"] == 0
    silent = measure("binary", np.zeros(3, dtype=np.int64), [(0.9, 0.1)] * 3)
    assert (silent["accuracy"], silent["balanced_accuracy"], silent["f1"], silent["mcc"]) == (1, 1, 0, 0)
    positive = measure("binary", np.ones(3, dtype=np.int64), [(0.1, 0.9)] * 3)
    assert (positive["f1"], positive["mcc"]) == (1, 0)
    assert positive["brier"] == nearly(0.01)


def test_constant_predictions() -> None:
    targets, _ = make("multiclass", 1, num_rows=30)
    values = measure("multiclass", targets, np.broadcast_to([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (30, 6)))
    assert values["roc_auc"] == 0.5
    assert values["mcc"] == 0
    numbers, _ = make("regression", 1, num_rows=30)
    values = measure("regression", numbers, np.full(30, 0.1))
    assert math.isnan(values["pearson"]) and math.isnan(values["spearman"])
    nearly_constant = 1 + np.arange(30) * np.finfo(np.float64).eps
    assert -1 <= measure("regression", numbers, nearly_constant)["pearson"] <= 1


def test_perfect_and_certain_predictions() -> None:
    targets = np.array([0, 1, 2, 1])
    values = measure("multiclass", targets, np.eye(3)[targets])
    assert values["accuracy"] == values["f1_macro"] == values["mcc"] == values["roc_auc"] == 1
    assert values["log_loss"] == nearly(0)
    values = measure("multiclass", targets, np.eye(3)[(targets + 1) % 3])
    assert values["accuracy"] == 0
    assert 30 < values["log_loss"] < 40


def test_multilabel_without_any_label() -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.3]])
    values = measure("multilabel", np.zeros((2, 2), dtype=np.float32), scores)
    for name in ("roc_auc", "average_precision", "average_precision_micro"):
        assert math.isnan(values[name])
    assert values["subset_accuracy"] == 0.5
    quiet = measure("multilabel", np.zeros((2, 2), dtype=np.float32), scores / 10)
    assert quiet["subset_accuracy"] == 1 and quiet["f1_samples"] == 0 and quiet["f1_micro"] == 0


def test_constant_targets_have_no_rounding_in_r2() -> None:
    targets = np.full(3, 0.1)  # whose mean is not 0.1 in floating point
    assert measure("regression", targets, targets + 1)["r2"] == 0
    assert measure("regression", targets, targets)["r2"] == 1


def test_a_target_of_zero_has_no_relative_error() -> None:
    assert math.isnan(measure("regression", [0.0, 1.0], [1.0, 1.0])["mape"])


def test_regression_has_no_classes() -> None:
    assert per_class(scored_rows("regression", np.array([1.0]), np.array([1.0]))) == ()


def test_float32_scores_and_small_integer_targets_are_welcome() -> None:
    targets, scores = make("multiclass", 4, num_rows=50)
    narrow = measure("multiclass", targets.astype(np.int8), scores.astype(np.float32))
    wide = measure("multiclass", targets, scores.astype(np.float32).astype(np.float64))
    assert narrow == wide
    above = measure("binary", [0, 1], [(1 + 5e-7, 0.0), (0.0, 1 + 5e-7)])
    assert above["log_loss"] == nearly(0) and above["brier"] == 0


@pytest.mark.parametrize("size", [1e-100, 1e-3, 1.0, 1e100])
def test_numbers_of_any_size_and_weight_are_those_of_the_libraries(size: float) -> None:
    targets, scores = (values * size for values in make("regression", 1, num_rows=50))
    times = np.random.default_rng(0).integers(1, 4, 50)
    found = compute_metrics(scored_rows("regression", targets, scores).take(np.arange(50), times))
    sides = np.repeat(targets, times), np.repeat(scores, times)
    assert found == {
        "pearson": pytest.approx(stats.pearsonr(*sides).statistic),
        "spearman": pytest.approx(stats.spearmanr(*sides).statistic),
        "r2": pytest.approx(library.r2_score(*sides)),
        "rmse": pytest.approx(library.root_mean_squared_error(*sides)),
        "mse": pytest.approx(library.mean_squared_error(*sides)),
        "mae": pytest.approx(library.mean_absolute_error(*sides)),
        "mape": pytest.approx(np.mean(np.abs((sides[0] - sides[1]) / sides[0]))),
    }
