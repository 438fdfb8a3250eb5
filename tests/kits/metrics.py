"""Random rows with their scores, scikit-learn's word on them, and whether two results are the same bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics as library

from textune.config.taskkinds import AutoTask
from textune.data.labels.map import LabelMap
from textune.evaluation import metrics, reduction
from textune.evaluation.metrics import Metric
from textune.evaluation.scored import Scored
from textune.tasks.head import Head
from textune.tasks.task import build_task

NAMES = {"binary": ("no", "yes"), "regression": ("score",)}


def head_of(problem: Any, num_classes: int = 3, names: tuple[str, ...] = ()) -> Head:
    """The usual head for so many classes, or for labels of these names."""
    names = names or NAMES.get(problem) or tuple(f"class {index}" for index in range(num_classes))
    return build_task(AutoTask(), {"label": LabelMap(problem, names)}).head


def scored_rows(problem: Any, targets: np.ndarray, scores: np.ndarray, names: tuple[str, ...] = ()) -> Scored:
    """`reduction.scored_rows` of the usual head."""
    return reduction.scored_rows(head_of(problem, np.asarray(scores).shape[-1], names), targets, scores)


def metrics_for(problem: Any) -> tuple[Metric, ...]:
    """`metrics.metrics_for` of the usual head."""
    return metrics.metrics_for(head_of(problem).answers)


PROBLEMS = ("binary", "multiclass", "multilabel", "regression")


def make_rows(problem: str, seed: int, num_rows: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random rows with ties, classes without rows, classes that are never predicted, scores of 0 and 1."""
    random = np.random.default_rng(seed)
    if problem == "regression":
        targets = random.normal(size=num_rows).round(1) + 0.05
        return targets, targets + random.normal(size=num_rows).round(1)
    if problem == "multilabel":
        labels = random.random((num_rows, num_classes)) < random.random(num_classes) / 2
        return labels.astype(np.float32), random.random((num_rows, num_classes)).round(int(random.integers(1, 4)))
    targets = random.integers(0, int(random.integers(1, num_classes + 1)), num_rows)
    logits = random.normal(scale=2, size=(num_rows, num_classes)).round(int(random.integers(0, 3)))
    logits[:, random.integers(num_classes)] -= 40.0
    logits[np.arange(num_rows), targets] += random.random(num_rows) * 6
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return targets, exponents / exponents.sum(axis=1, keepdims=True)


def same(one: Any, other: Any) -> bool:
    """Bit by bit, in every field."""
    if isinstance(one, Scored):
        return all(
            same(value, getattr(other, name))
            for name, value in one.__dict__.items()
            if name in one.__dataclass_fields__
        )
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return bool(one == other)


def averages(function: str, **options: Any) -> dict[str, Callable[..., float]]:
    def of(average: str) -> Callable[..., float]:
        return lambda targets, answers: getattr(library, function)(
            targets, answers, average=average, zero_division=0, **options
        )

    return {average: of(average) for average in ("binary", "macro", "micro", "weighted", "samples")}


LIBRARY: dict[str, Callable[..., float]] = {
    "accuracy": library.accuracy_score,
    "balanced_accuracy": library.balanced_accuracy_score,
    "mcc": library.matthews_corrcoef,
    "subset_accuracy": library.accuracy_score,
    "hamming_loss": library.hamming_loss,
    "precision": averages("precision_score")["binary"],
    "recall": averages("recall_score")["binary"],
    "f1": averages("f1_score")["binary"],
    "f_half": averages("fbeta_score", beta=0.5)["binary"],
    "f_half_macro": averages("fbeta_score", beta=0.5)["macro"],
    **{f"precision_{average}": call for average, call in averages("precision_score").items()},
    **{f"recall_{average}": call for average, call in averages("recall_score").items()},
    **{f"f1_{average}": call for average, call in averages("f1_score").items()},
}


def by_the_library(name: str, problem: str, targets: np.ndarray, scores: np.ndarray) -> float:
    """What scikit-learn gives for the whole matrix of scores."""
    every = np.arange(len(targets))
    hits = targets > 0.5 if problem == "multilabel" else targets[:, None] == np.arange(scores.shape[1])
    if name == "log_loss":
        true = np.where(hits, scores, 1 - scores).ravel() if problem == "multilabel" else scores[every, targets]
        return float(library.log_loss(np.ones(len(true)), true, labels=[0, 1]))
    if name == "brier":
        return float(library.brier_score_loss(targets, scores[:, 1], pos_label=1))
    if name == "average_precision_micro":
        return float(library.average_precision_score(hits, scores, average="micro"))
    if name in ("roc_auc", "average_precision"):
        call = library.roc_auc_score if name == "roc_auc" else library.average_precision_score
        columns = [1] if problem == "binary" else range(scores.shape[1])
        ranked = [c for c in columns if hits[:, c].any() and (name != "roc_auc" or not hits[:, c].all())]
        return float(np.mean([call(hits[:, c], scores[:, c]) for c in ranked])) if ranked else np.nan
    answers = scores >= 0.5 if problem == "multilabel" else scores.argmax(axis=1)
    return float(LIBRARY[name](targets > 0.5 if problem == "multilabel" else targets, answers))
