"""The metrics by name: what each problem offers, its main metric, and all values of one evaluation; before `report.py`.

Precision, recall and F are 0 where nothing is predicted or nothing is true (scikit-learn's `zero_division=0`), and so is
Matthews' correlation of a constant prediction. A ranking metric without rows of both kinds, or a correlation of constant
values, is NaN; `Metric.undefined` says when. `macro` is taken over the classes that occur in targets or predictions
(multilabel: over all labels), ranking metrics over the classes that occur in the targets.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from textune.errors import ConfigError, DataError
from textune.evaluation import formulas
from textune.evaluation.formulas import Formula, Kind, averaged, class_scores
from textune.evaluation.scored import Areas, Scored

if TYPE_CHECKING:
    from textune.data.labels import Problem


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are."""

    name: str
    problems: tuple[Problem, ...]
    higher_is_better: bool
    """If so the best value is 1, otherwise 0."""
    function: Formula
    """`(scored, weights) -> float`; NaN where undefined."""
    description: str
    uses: Literal["decisions", "scores", "ranks"] = "decisions"
    """What of the scores it looks at: the decisions alone, each row's scores, or their order over all rows."""
    undefined: str = ""
    """When the value is NaN, as the end of a sentence; empty: never."""


_SINGLE: tuple[Problem, ...] = ("binary", "multiclass")
_MULTI: tuple[Problem, ...] = ("multilabel",)
_CLASSES: tuple[Problem, ...] = ("binary", "multiclass", "multilabel")
_NUMBERS: tuple[Problem, ...] = ("regression",)
_KINDS: tuple[Kind, ...] = ("precision", "recall", "f")
_ONE_KIND = "no class has both rows that belong to it and rows that do not"
_CONSTANT = "the targets or the predictions are all the same"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _SINGLE, True, formulas.accuracy, "share of rows that are right"),
        Metric("balanced_accuracy", _SINGLE, True, formulas.balanced_accuracy, "mean recall of the classes"),
        Metric("precision", ("binary",), True, averaged("precision", "positive"), "share of rows predicted positive that are"),
        Metric("recall", ("binary",), True, averaged("recall", "positive"), "share of positive rows that are found"),
        Metric("f1", ("binary",), True, averaged("f", "positive"), "harmonic mean of precision and recall"),
        Metric("f_half", ("binary",), True, averaged("f", "positive", 0.5), "F0.5: precision counts twice as much as recall"),
        Metric("f1_macro", _CLASSES, True, averaged("f", "macro"), "mean F1 of the classes"),
        Metric("f1_micro", _CLASSES, True, averaged("f", "micro"), "F1 of the counts summed over the classes"),
        Metric("f1_weighted", _CLASSES, True, averaged("f", "weighted"), "mean F1 of the classes, weighted by their rows"),
        Metric("f1_samples", _MULTI, True, averaged("f", "samples"), "mean F1 of the rows' label sets"),
        Metric("precision_macro", _CLASSES, True, averaged("precision", "macro"), "mean precision of the classes"),
        Metric("precision_micro", _CLASSES, True, averaged("precision", "micro"), "precision of the summed counts"),
        Metric("precision_weighted", _CLASSES, True, averaged("precision", "weighted"), "mean precision, weighted by rows"),
        Metric("precision_samples", _MULTI, True, averaged("precision", "samples"), "mean precision of the rows' label sets"),
        Metric("recall_macro", _CLASSES, True, averaged("recall", "macro"), "mean recall of the classes"),
        Metric("recall_micro", _CLASSES, True, averaged("recall", "micro"), "recall of the summed counts"),
        Metric("recall_weighted", _CLASSES, True, averaged("recall", "weighted"), "mean recall, weighted by rows"),
        Metric("recall_samples", _MULTI, True, averaged("recall", "samples"), "mean recall of the rows' label sets"),
        Metric("f_half_macro", _CLASSES, True, averaged("f", "macro", 0.5), "mean F0.5 of the classes"),
        Metric("subset_accuracy", _MULTI, True, formulas.accuracy, "share of rows with every label right"),
        Metric("hamming_loss", _MULTI, False, formulas.hamming_loss, "share of (row, label) pairs that are wrong"),
        Metric("mcc", _SINGLE, True, formulas.matthews, "Matthews' correlation of predicted and true classes"),
        Metric(
            "roc_auc",
            _CLASSES,
            True,
            formulas.roc_auc,
            "area under the ROC curve, each class against the rest",
            "ranks",
            _ONE_KIND,
        ),
        Metric(
            "average_precision",
            _CLASSES,
            True,
            formulas.average_precision,
            "area under the precision-recall steps, each class against the rest",
            "ranks",
            "no row belongs to the class",
        ),
        Metric(
            "average_precision_micro",
            _MULTI,
            True,
            formulas.average_precision_micro,
            "area under the precision-recall steps of all (row, label) pairs",
            "ranks",
            "no row has a label",
        ),
        Metric("log_loss", _CLASSES, False, formulas.log_loss, "mean negative log probability of what is true", "scores"),
        Metric("brier", ("binary",), False, formulas.brier, "mean squared error of the positive probability", "scores"),
        Metric("pearson", _NUMBERS, True, formulas.pearson, "linear correlation", "scores", _CONSTANT),
        Metric("spearman", _NUMBERS, True, formulas.spearman, "correlation of the ranks", "ranks", _CONSTANT),
        Metric("r2", _NUMBERS, True, formulas.r2, "share of the variance that is explained", "scores", "there is only one row"),
        Metric("rmse", _NUMBERS, False, formulas.root_mean_squared_error, "root of the mean squared error", "scores"),
        Metric("mse", _NUMBERS, False, formulas.mean_squared_error, "mean squared error", "scores"),
        Metric("mae", _NUMBERS, False, formulas.mean_absolute_error, "mean absolute error", "scores"),
        Metric(
            "mape",
            _NUMBERS,
            False,
            formulas.mean_absolute_percentage_error,
            "mean absolute error as a share of the target",
            "scores",
            "a target is 0",
        ),
    )
}
"""Every metric, in the order of reports."""

MAIN_METRIC: dict[Problem, str] = {
    "binary": "accuracy",
    "multiclass": "accuracy",
    "multilabel": "f1_micro",
    "regression": "pearson",
}
"""What `evaluate.metric = "auto"` means."""

_OTHER_NAMES: dict[str, str] = {
    "ap": "average_precision",
    "auc": "roc_auc",
    "auroc": "roc_auc",
    "cross_entropy": "log_loss",
    "exact_match": "subset_accuracy",
    "loss": "log_loss",
    "map": "average_precision",
    "matthews": "mcc",
    "matthews_corrcoef": "mcc",
    "matthews_correlation": "mcc",
    "pr_auc": "average_precision",
}
"""What other libraries call them; only for suggestions."""


def metrics_for(problem: Problem) -> tuple[Metric, ...]:
    """The metrics of a problem, in the order of reports."""
    return tuple(metric for metric in METRICS.values() if problem in metric.problems)


def resolve_metric(name: str, problem: Problem) -> Metric:
    """The metric of that name (`auto`: the problem's main metric); ConfigError if the problem has none of this name."""
    if name == "auto":
        return METRICS[MAIN_METRIC[problem]]
    metric = METRICS.get(name)
    if metric is not None and problem in metric.problems:
        return metric
    if metric is None:
        reason = "there is no such metric."
    else:
        reason = f"this is a metric for {_join(metric.problems, 'and')} problems, but these labels make a {problem} problem."
    valid = [metric.name for metric in metrics_for(problem)]
    nearest = _nearest(name, valid)
    suggestion = f"Did you mean {_join(nearest, 'or')}? " if nearest else ""
    hint = f"{suggestion}Metrics for {problem}: auto, {', '.join(valid)}."
    raise ConfigError(f'evaluate.metric = "{name}": {reason}', hint=hint)


def compute_metrics(problem: Problem, targets: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """All metrics of the problem by name, NaN where undefined.

    targets: int64 [N] class ids (binary, multiclass), 0 or 1 as [N, C] (multilabel), float [N] (regression).
    scores: probabilities float [N, C] in the order of `names` (binary: C = 2, the second is positive), or values [N].
    Raises DataError or ModelError as `Scored` does.
    """
    return compute_all(scored_rows(problem, targets, scores, names))


def compute_all(scored: Scored) -> dict[str, float]:
    """The same, for rows that are scored already."""
    return {metric.name: metric.function(scored, None) for metric in metrics_for(scored.problem)}


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class, or label, is recognised."""

    name: str
    support: int
    """Rows that belong to it."""
    predicted: int
    """Rows predicted as it."""
    correct: int
    """Rows that are both."""
    precision: float
    recall: float
    f1: float
    roc_auc: float
    """Against the rest; NaN without rows of both kinds."""
    average_precision: float
    """Against the rest; NaN without a row that belongs to it."""


def per_class(problem: Problem, targets: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Counts and metrics of each class in the order of `names`; empty for regression. Arguments as for `compute_metrics`."""
    return class_table(scored_rows(problem, targets, scores, names), names)


def class_table(scored: Scored, names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """The same, for rows that are scored already."""
    if scored.problem == "regression":
        return ()
    counts = scored.counts()
    columns = [class_scores(kind, 1.0, *counts[:3]) for kind in _KINDS]
    rows = []
    for index, name in enumerate(names):
        support, predicted, correct = (int(column[index]) for column in (counts.support, counts.predicted, counts.correct))
        precision, recall, f1 = (float(column[index]) for column in columns)
        areas = scored.areas(index) if support else Areas(math.nan, math.nan)
        rows.append(ClassMetrics(name, support, predicted, correct, precision, recall, f1, *areas))
    return tuple(rows)


def scored_rows(problem: Problem, targets: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> Scored:
    scored = Scored(problem, targets, scores)
    if len(names) != scored.num_classes:
        raise DataError(f"{len(names)} label names do not fit scores of {scored.num_classes} classes.")
    return scored


def _join(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _nearest(name: str, valid: Sequence[str]) -> list[str]:
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    plain = _OTHER_NAMES.get(plain, plain)
    if plain in valid:
        return [plain]
    for stem in (plain, plain.rpartition("_")[0]):
        if longer := [other for other in valid if stem and other.startswith(f"{stem}_")]:
            return longer
    return difflib.get_close_matches(plain, valid, n=3, cutoff=0.5)
