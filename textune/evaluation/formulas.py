"""What each metric computes, from `scored.py` to the table in `metrics.py`.

Each formula is `(scored, weights) -> float`; it equals scikit-learn's or scipy's function on the repeated rows (tests hold this
to 1e-12). They are written here, not called there, because a bootstrap needs them a thousand times on the same sorted rows, and
because a class that is absent, or never predicted, must give a defined value and not a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from textune.evaluation.scored import Scored, Weights, rank, ratio

Formula = Callable[[Scored, Weights], float]
Average = Literal["positive", "macro", "micro", "weighted", "samples"]
Kind = Literal["precision", "recall", "f"]

# --- decisions --------------------------------------------------------------------------------------------------------


def accuracy(scored: Scored, weights: Weights) -> float:
    """Share of rows that are right; multilabel: in every label."""
    return scored.mean(_right, weights)


def hamming_loss(scored: Scored, weights: Weights) -> float:
    """Share of (row, label) pairs that are wrong."""
    return scored.mean(_wrong_labels, weights)


def balanced_accuracy(scored: Scored, weights: Weights) -> float:
    """Mean recall of the classes that occur in the targets."""
    counts = scored.counts(weights)
    occurs = counts.support > 0
    return float((counts.correct[occurs] / counts.support[occurs]).mean())


def matthews(scored: Scored, weights: Weights) -> float:
    """Correlation of predicted and true classes; 0 where either is constant."""
    counts = scored.counts(weights)
    total = counts.rows**2
    spread = (total - counts.predicted @ counts.predicted) * (total - counts.support @ counts.support)
    if spread <= 0:
        return 0.0
    return float((counts.correct.sum() * counts.rows - counts.support @ counts.predicted) / math.sqrt(spread))


def class_scores(kind: Kind, beta: float, correct: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Precision, recall or F of each class (or row); 0 where undefined."""
    if kind == "precision":
        return ratio(correct, predicted)
    if kind == "recall":
        return ratio(correct, support)
    return ratio((1 + beta**2) * correct, beta**2 * support + predicted)


def averaged(kind: Kind, average: Average, beta: float = 1.0) -> Formula:
    """Precision, recall or F over the classes.

    positive: the second class. macro: plain mean; binary and multiclass over the classes that occur in targets or predictions,
    multilabel over all labels. micro: from the sums. weighted: mean by the rows of each class. samples: mean over the rows.
    """
    if average == "samples":
        rows = partial(_row_scores, kind, beta)

        def over_rows(scored: Scored, weights: Weights) -> float:
            return scored.mean(rows, weights)

        return over_rows

    def over_classes(scored: Scored, weights: Weights) -> float:
        correct, predicted, support, _ = scored.counts(weights)
        if average == "micro":
            return float(class_scores(kind, beta, correct.sum(), predicted.sum(), support.sum()))
        scores_C = class_scores(kind, beta, correct, predicted, support)
        if average == "positive":
            return float(scores_C[1])
        if average == "weighted":
            return float(ratio(scores_C @ support, support.sum()))
        return float(scores_C.mean() if scored.problem == "multilabel" else scores_C[(predicted + support) > 0].mean())

    return over_classes


def _right(scored: Scored) -> np.ndarray:
    return scored.right.astype(np.float64)


def _wrong_labels(scored: Scored) -> np.ndarray:
    wrong: np.ndarray = (scored.predictions != (scored.targets > 0.5)).mean(axis=1)
    return wrong


def _row_scores(kind: Kind, beta: float, scored: Scored) -> np.ndarray:
    true = scored.targets > 0.5
    correct, predicted, support = (
        labels.sum(axis=1, dtype=np.float64) for labels in (true & scored.predictions, scored.predictions, true)
    )
    return class_scores(kind, beta, correct, predicted, support)


# --- probabilities ----------------------------------------------------------------------------------------------------


def log_loss(scored: Scored, weights: Weights) -> float:
    """Mean negative logarithm of the probability of what is true; multilabel: also over the labels."""
    return scored.mean(_log_losses, weights)


def brier(scored: Scored, weights: Weights) -> float:
    """Mean squared error of the probability of the second class."""
    return scored.mean(_brier_errors, weights)


def roc_auc(scored: Scored, weights: Weights) -> float:
    """Area under the ROC curve; several classes: mean of each against the rest, over those with both kinds of rows."""
    return _class_mean([scored.areas(column, weights).roc_auc for column in _columns(scored)])


def average_precision(scored: Scored, weights: Weights) -> float:
    """Area under the precision-recall steps; several classes: mean over those that occur in the targets."""
    return _class_mean([scored.areas(column, weights).average_precision for column in _columns(scored)])


def average_precision_micro(scored: Scored, weights: Weights) -> float:
    """The same with all (row, label) pairs as one."""
    return scored.areas(-1, weights).average_precision


def _columns(scored: Scored) -> list[int]:
    return [1] if scored.problem == "binary" else [int(column) for column in np.flatnonzero(scored.counts().support)]


def _class_mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _log_losses(scored: Scored) -> np.ndarray:
    smallest = float(np.finfo(np.float64).eps)
    if scored.problem == "multilabel":
        probabilities = np.where(scored.targets > 0.5, scored.scores, 1 - scored.scores)
    else:
        probabilities = scored.scores[np.arange(len(scored)), scored.targets]
    losses: np.ndarray = -np.log(probabilities.clip(smallest, 1 - smallest))
    return np.asarray(losses.mean(axis=1)) if losses.ndim == 2 else losses


def _brier_errors(scored: Scored) -> np.ndarray:
    errors: np.ndarray = np.square(scored.scores[:, 1] - scored.targets)
    return errors


# --- numbers ----------------------------------------------------------------------------------------------------------


def mean_squared_error(scored: Scored, weights: Weights) -> float:
    """Mean of the squared errors."""
    return scored.mean(_squared_errors, weights)


def root_mean_squared_error(scored: Scored, weights: Weights) -> float:
    """Its root, in the unit of the targets."""
    return math.sqrt(scored.mean(_squared_errors, weights))


def mean_absolute_error(scored: Scored, weights: Weights) -> float:
    """Mean size of the errors."""
    return scored.mean(_absolute_errors, weights)


def mean_absolute_percentage_error(scored: Scored, weights: Weights) -> float:
    """Mean size of the errors as a share of the target; NaN if a target is 0."""
    used = slice(None) if weights is None else weights > 0
    if (scored.targets[used] == 0).any():
        return math.nan
    return scored.mean(_relative_errors, weights)


def r2(scored: Scored, weights: Weights) -> float:
    """Share of the targets' variance that is explained; NaN for one row; constant targets: 1 if all are met, else 0."""
    if (len(scored) if weights is None else weights.sum()) < 2:
        return math.nan
    errors = scored.mean(_squared_errors, weights)
    targets = _used(scored.targets, weights)
    if (targets == targets[0]).all():
        return 1.0 if errors == 0 else 0.0
    return 1 - errors / float(np.average((scored.targets - np.average(scored.targets, weights=weights)) ** 2, weights=weights))


def pearson(scored: Scored, weights: Weights) -> float:
    """Linear correlation; NaN where the targets or the predictions are constant."""
    return _correlation(scored.targets, scored.scores, weights)


def spearman(scored: Scored, weights: Weights) -> float:
    """Correlation of the ranks (equal values share their mean rank); NaN where the targets or the predictions are constant."""
    # With the group of each row among the sorted values, the mean ranks of any resample take no sorting.
    targets, scores = (_mean_ranks(scored.remember(groups), weights) for groups in (_target_groups, _score_groups))
    return _correlation(targets, scores, weights)


def _squared_errors(scored: Scored) -> np.ndarray:
    errors: np.ndarray = np.square(scored.scores - scored.targets)
    return errors


def _absolute_errors(scored: Scored) -> np.ndarray:
    errors: np.ndarray = np.abs(scored.scores - scored.targets)
    return errors


def _relative_errors(scored: Scored) -> np.ndarray:
    return ratio(np.abs(scored.scores - scored.targets), np.abs(scored.targets))


def _used(values: np.ndarray, weights: Weights) -> np.ndarray:
    return values if weights is None else values[weights > 0]


def _correlation(first: np.ndarray, second: np.ndarray, weights: Weights) -> float:
    deviations = []
    for values in (first.astype(np.float64), second.astype(np.float64)):
        used = _used(values, weights)
        if (used == used[0]).all():
            return math.nan
        deviation = values - np.average(values, weights=weights)
        norm = math.sqrt(float((deviation**2).sum() if weights is None else weights @ deviation**2))
        if norm == 0:  # differences too small for floating point
            return math.nan
        deviations.append(deviation / norm)
    product = deviations[0] * deviations[1]
    return float(np.clip(product.sum() if weights is None else weights @ product, -1, 1))


def _target_groups(scored: Scored) -> np.ndarray:
    return rank(scored.targets).groups()


def _score_groups(scored: Scored) -> np.ndarray:
    return rank(scored.scores).groups()


def _mean_ranks(groups: np.ndarray, weights: Weights) -> np.ndarray:
    sizes = np.bincount(groups, weights)
    mean_ranks: np.ndarray = np.cumsum(sizes) - (sizes - 1) / 2
    return np.asarray(mean_ranks[groups])
