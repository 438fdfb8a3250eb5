"""Every metric against scikit-learn and scipy, undefined values, and what a wrong metric name is told."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from textune.errors import ConfigError, DataError, ModelError
from textune.evaluation import METRICS, compute_metrics, metrics_for, per_class, resolve_metric
from textune.evaluation.metrics import MAIN_METRIC, class_table
from textune.evaluation.scored import Scored

PROBLEMS = ("binary", "multiclass", "multilabel", "regression")
AVERAGES = ("micro", "macro", "weighted")
EXACT = 1e-12
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "precision": reference.precision_score,
    "recall": reference.recall_score,
    "f1": reference.f1_score,
}
Reference = Callable[[np.ndarray, np.ndarray], float]


def nearly(value: float) -> Any:
    return pytest.approx(value, rel=EXACT, abs=EXACT, nan_ok=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def make(problem: str, seed: int, *, num_rows: int | None = None, num_classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Random targets and scores, with ties; as the seed has it, with classes without rows or never predicted."""
    random = np.random.default_rng(seed)
    num_rows = int(random.integers(2, 60)) if num_rows is None else num_rows
    if problem == "regression":
        targets = random.normal(size=num_rows).round(1) + 0.05
        return targets, targets + random.normal(size=num_rows).round(1)
    num_classes = 2 if problem == "binary" else num_classes
    logits = random.normal(scale=2, size=(num_rows, num_classes)).round(int(random.integers(1, 4)))
    if problem == "multilabel":
        return (random.random((num_rows, num_classes)) < random.random(num_classes) / 2).astype(np.float32), 1 / (
            1 + np.exp(-logits)
        )
    if seed % 3 == 0 and num_classes > 2:
        logits[:, 1] = -9.0  # never predicted
    targets = random.integers(0, num_classes - (seed % 2 if num_classes > 2 else 0), num_rows)
    return targets, softmax(logits)


def occurring(function: Callable[[np.ndarray, np.ndarray], float], both: bool) -> Reference:
    """Mean of a binary ranking metric over the classes that occur (and, for `both`, are not everywhere)."""

    def mean(hits: np.ndarray, scores: np.ndarray) -> float:
        shares = hits.mean(axis=0)
        used = [column for column in range(hits.shape[1]) if shares[column] > 0 and (shares[column] < 1 or not both)]
        return float(np.mean([function(hits[:, column], scores[:, column]) for column in used])) if used else math.nan

    return mean


def one_hot(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return targets[:, None] == np.arange(scores.shape[1])


def class_references(problem: str) -> dict[str, Reference]:
    def decided(scores: np.ndarray) -> np.ndarray:
        return scores >= 0.5 if problem == "multilabel" else scores.argmax(axis=1)

    def over(function: Callable[..., float], **options: Any) -> Reference:
        return lambda targets, scores: float(function(targets, decided(scores), **options))

    averages = (*AVERAGES, "samples") if problem == "multilabel" else AVERAGES
    table = {
        f"{name}_{average}": over(function, average=average, zero_division=0)
        for name, function in FUNCTIONS.items()
        for average in averages
    }
    table["f_half_macro"] = over(reference.fbeta_score, beta=0.5, average="macro", zero_division=0)
    if problem == "multilabel":
        table["subset_accuracy"] = over(reference.accuracy_score)
        table["hamming_loss"] = over(reference.hamming_loss)
        table["roc_auc"] = occurring(reference.roc_auc_score, both=True)
        table["average_precision"] = occurring(reference.average_precision_score, both=False)
        table["average_precision_micro"] = lambda targets, scores: (
            float(reference.average_precision_score(targets, scores, average="micro")) if targets.any() else math.nan
        )
        table["log_loss"] = lambda targets, scores: float(
            np.mean([reference.log_loss(hit, score, labels=[0, 1]) for hit, score in zip(targets.T, scores.T, strict=True)])
        )
        return table
    table["accuracy"] = over(reference.accuracy_score)
    table["balanced_accuracy"] = over(reference.balanced_accuracy_score)
    table["mcc"] = over(reference.matthews_corrcoef)
    table["log_loss"] = lambda targets, scores: reference.log_loss(targets, scores, labels=range(scores.shape[1]))
    if problem == "multiclass":
        roc_auc = occurring(reference.roc_auc_score, both=True)
        average_precision = occurring(reference.average_precision_score, both=False)
        table["roc_auc"] = lambda targets, scores: roc_auc(one_hot(targets, scores), scores)
        table["average_precision"] = lambda targets, scores: average_precision(one_hot(targets, scores), scores)
        return table
    for name, function in FUNCTIONS.items():
        table[name] = over(function, zero_division=0)
    table["f_half"] = over(reference.fbeta_score, beta=0.5, zero_division=0)
    table["roc_auc"] = lambda targets, scores: (
        reference.roc_auc_score(targets, scores[:, 1]) if len(set(targets)) == 2 else math.nan
    )
    table["average_precision"] = lambda targets, scores: (
        reference.average_precision_score(targets, scores[:, 1]) if targets.any() else math.nan
    )
    table["brier"] = lambda targets, scores: reference.brier_score_loss(targets, scores[:, 1], pos_label=1)
    return table


def number_references() -> dict[str, Reference]:
    def correlation(function: Callable[..., Any]) -> Reference:
        return lambda targets, scores: (
            math.nan if np.ptp(targets) == 0 or np.ptp(scores) == 0 else float(function(targets, scores).statistic)
        )

    return {
        "pearson": correlation(stats.pearsonr),
        "spearman": correlation(stats.spearmanr),
        "r2": lambda targets, scores: reference.r2_score(targets, scores) if len(targets) > 1 else math.nan,
        "rmse": reference.root_mean_squared_error,
        "mse": reference.mean_squared_error,
        "mae": reference.mean_absolute_error,
        "mape": lambda targets, scores: (
            math.nan if (targets == 0).any() else reference.mean_absolute_percentage_error(targets, scores)
        ),
    }


def references(problem: str) -> dict[str, Reference]:
    return number_references() if problem == "regression" else class_references(problem)


def expected(problem: str, targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():  # the references warn about classes without rows; ours must not
        warnings.simplefilter("ignore")
        return {name: float(function(targets, scores)) for name, function in references(problem).items()}


def check(problem: Any, targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    names = ["score"] if problem == "regression" else [str(index) for index in range(scores.shape[1])]
    ours = compute_metrics(problem, targets, scores, names)
    theirs = expected(problem, targets, scores)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == nearly(value), name
    return ours


@pytest.mark.parametrize("problem", PROBLEMS)
def test_metrics_equal_the_references_on_random_rows(problem: str) -> None:
    for seed in range(30):
        check(problem, *make(problem, seed))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_metrics_equal_the_references_on_many_rows(problem: str) -> None:
    check(problem, *make(problem, 5, num_rows=3000, num_classes=9))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_one_row(problem: str) -> None:
    for seed in range(5):
        check(problem, *make(problem, seed, num_rows=1))


def test_all_rows_of_one_class() -> None:
    _, scores = make("multiclass", 1, num_rows=20)
    values = check("multiclass", np.full(20, 2), scores)
    assert math.isnan(values["roc_auc"])
    assert values["average_precision"] == 1
    _, scores = make("binary", 1, num_rows=20)
    negative = check("binary", np.zeros(20, dtype=np.int64), scores)
    assert math.isnan(negative["roc_auc"]) and math.isnan(negative["average_precision"])
    assert negative["recall"] == 0 and negative["f1"] == 0
    check("binary", np.ones(20, dtype=np.int64), scores)


def test_constant_predictions() -> None:
    targets, _ = make("multiclass", 1, num_rows=30)
    values = check("multiclass", targets, np.broadcast_to([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (30, 6)))
    assert values["roc_auc"] == 0.5
    assert values["mcc"] == 0
    numbers, _ = make("regression", 1, num_rows=30)
    values = check("regression", numbers, np.full(30, 0.1))
    assert math.isnan(values["pearson"]) and math.isnan(values["spearman"])


def test_perfect_and_certain_predictions() -> None:
    targets = np.array([0, 1, 2, 1])
    values = check("multiclass", targets, np.eye(3)[targets])
    assert values["accuracy"] == values["f1_macro"] == values["mcc"] == values["roc_auc"] == 1
    values = check("multiclass", targets, np.eye(3)[(targets + 1) % 3])
    assert values["accuracy"] == 0
    assert math.isfinite(values["log_loss"])


def test_multilabel_without_any_label() -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.3]])
    values = check("multilabel", np.zeros((2, 2), dtype=np.float32), scores)
    assert math.isnan(values["roc_auc"]) and math.isnan(values["average_precision_micro"])
    assert values["subset_accuracy"] == 0.5
    quiet = check("multilabel", np.zeros((2, 2), dtype=np.float32), scores / 10)
    assert quiet["subset_accuracy"] == 1 and quiet["f1_samples"] == 0 and quiet["f1_micro"] == 0


def test_constant_targets_have_no_rounding_in_r2() -> None:
    targets = np.full(3, 0.1)  # whose mean is not 0.1 in floating point
    assert compute_metrics("regression", targets, targets + 1, ["score"])["r2"] == 0
    assert compute_metrics("regression", targets, targets, ["score"])["r2"] == 1


def test_a_target_of_zero_has_no_relative_error() -> None:
    assert math.isnan(compute_metrics("regression", np.array([0.0, 1.0]), np.array([1.0, 1.0]), ["score"])["mape"])


def test_macro_leaves_out_classes_that_are_neither_true_nor_predicted() -> None:
    targets, scores = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    values = compute_metrics("multiclass", targets, scores, ["a", "b", "absent"])
    assert values["recall_macro"] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_metric_with_weights_equals_the_metric_of_the_repeated_rows(problem: Any) -> None:
    for seed in range(20):
        scored = Scored(problem, *make(problem, seed))
        weights = np.random.default_rng(seed).integers(0, 3, len(scored))
        weights[seed % len(scored)] = 2
        repeated = scored.take(np.repeat(np.arange(len(scored)), weights))
        for metric in metrics_for(problem):
            assert metric.function(scored, weights) == nearly(metric.function(repeated, None)), (metric.name, seed)


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_classes_equal_the_references(problem: Any) -> None:
    for seed in range(20):
        targets, scores = make(problem, seed)
        names = [f"class {index}" for index in range(scores.shape[1])]
        rows = per_class(problem, targets, scores, names)
        hits = targets > 0.5 if problem == "multilabel" else one_hot(targets, scores)
        answers = scores >= 0.5 if problem == "multilabel" else one_hot(scores.argmax(axis=1), scores)
        precision, recall, f1, support = reference.precision_recall_fscore_support(hits, answers, zero_division=0)
        for index, row in enumerate(rows):
            hit, score = hits[:, index], scores[:, index]
            assert row.name == names[index]
            assert (row.support, row.predicted, row.correct) == (
                support[index],
                answers[:, index].sum(),
                (hit & answers[:, index]).sum(),
            )
            assert (row.precision, row.recall, row.f1) == nearly((precision[index], recall[index], f1[index]))
            assert row.roc_auc == nearly(reference.roc_auc_score(hit, score) if 0 < hit.sum() < len(hit) else math.nan)
            assert row.average_precision == nearly(reference.average_precision_score(hit, score) if hit.any() else math.nan)


def test_regression_has_no_classes() -> None:
    assert class_table(Scored("regression", np.array([1.0]), np.array([1.0])), ["score"]) == ()


def test_float32_scores_and_small_integer_targets_are_welcome() -> None:
    targets, scores = make("multiclass", 4, num_rows=50)
    narrow = compute_metrics("multiclass", targets.astype(np.int8), scores.astype(np.float32), list("abcdef"))
    wide = compute_metrics("multiclass", targets, scores.astype(np.float32).astype(np.float64), list("abcdef"))
    assert narrow == wide


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_table_is_complete_and_described() -> None:
    for problem in PROBLEMS:
        assert {metric.name for metric in metrics_for(problem)} == references(problem).keys()  # type: ignore[arg-type]
        assert resolve_metric("auto", problem).name == MAIN_METRIC[problem]  # type: ignore[arg-type, index]
    for name, metric in METRICS.items():
        assert metric.name == name and metric.description and metric.problems
    losses = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert losses == {"hamming_loss", "log_loss", "brier", "rmse", "mse", "mae", "mape"}


@pytest.mark.parametrize(
    ("name", "problem", "reason", "suggestion"),
    [
        ("f1", "multiclass", "a metric for binary problems", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("f1_samples", "multiclass", "a metric for multilabel problems", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("acuracy", "binary", "there is no such metric", "Did you mean accuracy"),
        ("AUC", "multiclass", "there is no such metric", "Did you mean roc_auc?"),
        ("matthews_correlation", "binary", "there is no such metric", "Did you mean mcc?"),
        ("F1-macro", "multiclass", "there is no such metric", "Did you mean f1_macro?"),
        ("pearson", "binary", "a metric for regression problems", "Metrics for binary: auto, accuracy,"),
        ("accuracy", "regression", "a metric for binary and multiclass problems", "Metrics for regression: auto, pearson,"),
        ("", "binary", "there is no such metric", "Metrics for binary"),
    ],
)
def test_a_wrong_name_is_told_what_to_write(name: str, problem: Any, reason: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_metric(name, problem)
    assert caught.value.message.startswith(f'evaluate.metric = "{name}": ')
    assert reason in caught.value.message
    assert suggestion in caught.value.hint


# --- bad input --------------------------------------------------------------------------------------------------------


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores = np.array([[0.5, 0.5], [math.nan, 0.5], [math.inf, 0.5]])
    with pytest.raises(ModelError, match="for 2 of 3 rows, the first of them row 2"):
        compute_metrics("binary", np.array([0, 1, 1]), scores, ["a", "b"])
    with pytest.raises(ModelError, match="diverged"):
        compute_metrics("regression", np.array([0.0]), np.array([math.nan]), ["score"])


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
        ("multilabel", np.array([[0.5, 1]]), np.array([[0.1, 0.2]]), "0 or 1"),
        ("regression", np.array([math.nan]), np.array([1.0]), "not a number"),
        ("regression", np.array([1.0]), np.array([[1.0]]), "do not fit"),
    ],
)
def test_input_that_cannot_be_is_refused(problem: Any, targets: np.ndarray, scores: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        compute_metrics(problem, targets, scores, ["a", "b", "c"])


def test_names_must_fit() -> None:
    with pytest.raises(DataError, match="3 label names do not fit scores of 2 classes"):
        compute_metrics("binary", np.array([0]), np.array([[0.4, 0.6]]), ["a", "b", "c"])
