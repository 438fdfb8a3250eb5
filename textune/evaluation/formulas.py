"""How each metric asks scikit-learn or scipy for its value; from `scored.py` to the table in `metrics.py`.

Ours are only the guards, where a library would warn or raise, and the mean over the classes that have a value. The libraries
are imported at the first call, so that importing this room stays cheap.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from textune.evaluation.scored import Scored

Formula = Callable[[Scored], float]
Area = Literal["roc_auc_score", "average_precision_score"]


def library(function: str, **options: Any) -> Formula:
    """`sklearn.metrics.<function>` of what is true and what is answered."""

    def compute(scored: Scored) -> float:
        from sklearn import metrics

        call = getattr(metrics, function)
        return float(call(scored.targets, scored.predictions, sample_weight=scored.weights, **options))

    return compute


def averaged(function: str, average: str, **options: Any) -> Formula:
    """The same for precision, recall and F: 0 where nothing is predicted or nothing is true; `binary`: of class 1."""
    return library(function, average=average, zero_division=0, **options)


def balanced_accuracy(scored: Scored) -> float:
    """Mean recall of the classes that occur; `balanced_accuracy_score` is the same, with a warning if others are predicted."""
    return averaged("recall_score", "macro", labels=np.unique(scored.targets))(scored)


def matthews(scored: Scored) -> float:
    """Correlation of predicted and true classes; 0 where either is constant (the library warns if there is one class only)."""
    if _constant(np.concatenate([scored.targets, scored.predictions])):
        return 0.0
    return library("matthews_corrcoef")(scored)


def log_loss(scored: Scored) -> float:
    """Mean negative logarithm of the probability of what is true; multilabel: over rows and labels.

    The library is asked about that probability alone, as of an event that happened: it would warn where the rounding of float32
    keeps a row from adding up to one.
    """
    from sklearn import metrics

    if scored.problem == "multilabel":
        probabilities = np.where(scored.targets > 0, scored.scores, 1 - scored.scores).ravel()
    else:
        probabilities = scored.scores[np.arange(len(scored)), scored.targets]
    happened = np.ones(len(probabilities), dtype=np.int64)
    weights = _pair_weights(scored) if scored.problem == "multilabel" else scored.weights
    return float(metrics.log_loss(happened, probabilities.clip(0, 1), labels=[0, 1], sample_weight=weights))


def brier(scored: Scored) -> float:
    """Mean squared error of the probability of the second class."""
    from sklearn import metrics

    positive = scored.scores[:, 1].clip(0, 1)
    return float(metrics.brier_score_loss(scored.targets, positive, pos_label=1, sample_weight=scored.weights))


def area(function: Area) -> Formula:
    """Area under a curve of the second class (binary); else the mean over the classes where it is defined; NaN if nowhere."""

    def compute(scored: Scored) -> float:
        columns = [1] if scored.problem == "binary" else range(scored.num_classes)
        areas = class_areas(function, scored, columns)
        return float(np.nanmean(areas)) if not np.isnan(areas).all() else math.nan

    return compute


def class_areas(function: Area, scored: Scored, columns: range | list[int]) -> np.ndarray:
    """float64 [len(columns)] area of each class against the rest; NaN without rows of it, for ROC also without any others."""
    from sklearn import metrics

    hits = scored.hits[:, columns]
    defined = hits.any(axis=0)
    if function == "roc_auc_score":
        defined &= ~hits.all(axis=0)
    areas = np.full(len(columns), math.nan)
    if defined.any():
        scores = scored.scores[:, columns][:, defined]
        areas[defined] = getattr(metrics, function)(hits[:, defined], scores, average=None, sample_weight=scored.weights)
    return areas


def average_precision_micro(scored: Scored) -> float:
    """Area under the precision-recall steps with all (row, label) pairs as one; NaN without any label."""
    from sklearn import metrics

    hits = scored.hits.ravel()
    if not hits.any():
        return math.nan
    return float(metrics.average_precision_score(hits, scored.scores.ravel(), sample_weight=_pair_weights(scored)))


def mean_absolute_percentage_error(scored: Scored) -> float:
    """Mean size of the errors as a share of the target; NaN if a target is 0, where the library divides by a tiny number."""
    if (scored.targets == 0).any():
        return math.nan
    return library("mean_absolute_percentage_error")(scored)


def r2(scored: Scored) -> float:
    """Share of the targets' variance that is explained; NaN for one row.

    Constant targets: 1 if all are met, else 0. This is the library's rule, which the rounding of their mean can keep from it.
    """
    if len(scored) < 2:
        return math.nan
    if _constant(scored.targets):
        return float(np.array_equal(scored.targets, scored.predictions))
    return library("r2_score")(scored)


def correlation(function: Literal["pearsonr", "spearmanr"]) -> Formula:
    """`scipy.stats.<function>`, which knows no weights, of the repeated rows; NaN where either side is constant."""

    def compute(scored: Scored) -> float:
        from scipy import stats

        sides = [scored.targets, scored.predictions]
        if any(_constant(side) for side in sides):
            return math.nan
        if scored.weights is not None:
            sides = [np.repeat(side, scored.weights) for side in sides]
        with warnings.catch_warnings():  # only the library knows which values it takes for nearly constant
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            return float(getattr(stats, function)(*sides).statistic)

    return compute


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())


def _pair_weights(scored: Scored) -> np.ndarray | None:
    """The weight of each (row, label) pair."""
    return None if scored.weights is None else np.repeat(scored.weights, scored.num_classes)
