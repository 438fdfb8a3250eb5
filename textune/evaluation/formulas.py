"""How each metric comes out of rows that are scored; from `scored.py` to the table in `metrics.py`.

All follow the definitions of scikit-learn (correlations: scipy) and equal their values, which the tests hold, but are
our own: the library builds matrices of classes x classes or rows x labels on the way and takes some 10 milliseconds to
rank one class, too much for thousands of classes or thousands of resamples. Besides, transformers imports parts of
scipy at every start if scipy is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from textune.evaluation.scored import Scored
from textune.evaluation.undefined import UNDEFINED, mean_of_defined
from textune.tasks import TOKENS, Counts, OwnFunction

Formula = Callable[[Scored], float]
Quotient = Callable[[Counts], np.ndarray]
Average = Literal["second", "macro", "micro", "weighted", "samples"]

_MOST_NATS = 709.0
"""Of which exp is a number."""
SCORES_AT_ONCE = 1 << 20
"""Scores whose columns are laid side by side at a time to be ranked."""


# --- decisions -------------------------------------------------------------------------------------------------------


def precision(counts: Counts) -> np.ndarray:
    """Share of what is predicted that is true; 0 where nothing is predicted."""
    return _share(counts.correct, counts.predicted)


def recall(counts: Counts) -> np.ndarray:
    """Share of what is true that is predicted; 0 where nothing is true."""
    return _share(counts.correct, counts.true)


def f_measure(beta: float) -> Quotient:
    """Weighted harmonic mean of both: recall counts `beta` times as much as precision; 0 where neither has a value."""

    def compute(counts: Counts) -> np.ndarray:
        return _share((1 + beta**2) * counts.correct, beta**2 * counts.true + counts.predicted)

    return compute


def averaged(quotient: Quotient, average: Average) -> Formula:
    """One number of all classes (`second`: the second one alone; `samples`: of all rows' label sets).

    `macro`: the mean over the classes that occur in targets or predictions (multilabel: over all labels); `weighted`:
    that mean weighted by the classes' rows; `micro`: of the counts summed over the classes.
    """

    def compute(scored: Scored) -> float:
        if average == "samples":
            return float(np.average(quotient(scored.row_counts), weights=scored.weights))
        counts = scored.counts
        if average == "micro":
            return float(quotient(Counts(*(side.sum(keepdims=True) for side in counts)))[0])
        by_class = quotient(counts)
        if average == "second":
            return float(by_class[1])
        if average == "weighted":
            return float(by_class @ counts.true / max(counts.true.sum(), 1))
        if not scored.answers.label_map.exclusive:
            return float(by_class.mean())
        return float(by_class[counts.true + counts.predicted > 0].mean())

    return compute


def right(scored: Scored) -> float:
    """Share of rows with the right answer; multilabel: with every label right."""
    return float(np.average(scored.right, weights=scored.weights))


def right_rows(scored: Scored) -> tuple[int, int]:
    """Rows with the right answer, of all."""
    return int(scored.right.sum()), len(scored)


def found_of_predicted(scored: Scored) -> tuple[int, int]:
    """Binary: rows that are positive, of those predicted so."""
    return int(scored.counts.correct[1]), int(scored.counts.predicted[1])


def found_of_true(scored: Scored) -> tuple[int, int]:
    """Binary: rows predicted positive, of those that are."""
    return int(scored.counts.correct[1]), int(scored.counts.true[1])


def hamming_loss(scored: Scored) -> float:
    """Share of (row, label) pairs that are wrong."""
    wrong = np.bitwise_count(scored.targets ^ scored.predictions).sum(axis=1, dtype=np.int64)
    return float(np.average(wrong, weights=scored.weights)) / scored.num_classes


def balanced_accuracy(scored: Scored) -> float:
    """Mean recall of the classes that occur."""
    counts = scored.counts
    return float(recall(counts)[counts.true > 0].mean())


def matthews(scored: Scored) -> float:
    """Correlation of predicted and true classes; 0 where either is constant. Gorodkin (2004), Comput. Biol. Chem.
    28, 367."""
    correct, predicted, true = scored.counts
    rows = true.sum()
    spreads = [rows**2 - side @ side for side in (predicted, true)]
    if 0 in spreads:
        return 0.0
    return float((correct.sum() * rows - predicted @ true) / math.sqrt(spreads[0] * spreads[1]))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0))


# --- scores of each row ----------------------------------------------------------------------------------------------


def log_loss(scored: Scored) -> float:
    """Mean negative logarithm of the probability of what is true; multilabel: over rows and labels."""
    assert scored.loss is not None
    return float(np.average(scored.loss, weights=scored.weights))


def loss(scored: Scored) -> float:
    """Mean of the task's own row losses, weighted as in a training step; NaN where they are not known or weigh
    nothing."""
    if scored.row_losses is None or scored.row_weights is None:
        return UNDEFINED
    weights_N = scored.row_weights if scored.weights is None else scored.row_weights * scored.weights
    return float(np.average(scored.row_losses, weights=weights_N)) if weights_N.any() else UNDEFINED


def brier(scored: Scored) -> float:
    """Mean squared error of the probability of the second class."""
    assert scored.seen is not None
    errors = scored.seen[:, 1].clip(0, 1) - scored.targets
    return float(np.average(errors**2, weights=scored.weights))


# --- ranks -----------------------------------------------------------------------------------------------------------


class Areas(NamedTuple):
    """Areas under the ROC curve and under the precision-recall steps, of one class or, as float64 [...], of
    several."""

    roc_auc: Any
    """NaN where all rows belong to the class, or none."""
    average_precision: Any
    """NaN where no row belongs to the class."""


def area(kind: Literal["roc_auc", "average_precision"]) -> Formula:
    """Area under a curve of the second class (binary); else the mean over the classes where it is defined; NaN if
    nowhere."""

    def compute(scored: Scored) -> float:
        areas: np.ndarray = getattr(class_areas(scored, scored.answers.ranked), kind)
        return mean_of_defined(areas)

    return compute


def class_areas(scored: Scored, columns: range) -> Areas:
    """Areas of each class against the rest, float64 [len(columns)]; computed once for the same rows."""
    if columns not in scored.memory:
        areas = []
        step = max(1, SCORES_AT_ONCE // len(scored))
        for block in (columns[start : start + step] for start in range(0, len(columns), step)):
            chosen = slice(block.start, block.stop)
            # A column is read many times, so it should be contiguous.
            scores_CM, hits_CM = (
                np.ascontiguousarray(side[:, chosen].T) for side in (_kept_scores(scored), scored.hits)
            )
            areas += [_areas(*column, scored.weights) for column in zip(scores_CM, hits_CM, strict=True)]
        scored.memory[columns] = np.array(areas).T
    return Areas(*scored.memory[columns])


def average_precision_micro(scored: Scored) -> float:
    """Area under the precision-recall steps with all (row, label) pairs as one; NaN without any label."""
    weights = None if scored.weights is None else np.repeat(scored.weights, scored.num_classes)
    return float(_areas(_kept_scores(scored).ravel(), scored.hits.ravel(), weights).average_precision)


def _areas(scores_M: np.ndarray, hits_M: np.ndarray, weights_M: np.ndarray | None) -> Areas:
    """Both areas, from where each hit stands among all rows and among the hits; equal scores count half, or as one
    step."""
    at_H = scores_M[hits_M]
    weights_H = None if weights_M is None else weights_M[hits_M]
    total = len(scores_M) if weights_M is None else weights_M.sum()
    total_hits = len(at_H) if weights_H is None else weights_H.sum()
    if not total_hits:
        return Areas(UNDEFINED, UNDEFINED)
    below_H, upto_H = _weights_below(scores_M, weights_M, at_H)
    hits_below_H, hits_upto_H = _weights_below(at_H, weights_H, at_H)
    precision_H = (total_hits - hits_below_H) / (total - below_H)
    average_precision = np.average(precision_H, weights=weights_H)
    if total == total_hits:
        return Areas(UNDEFINED, average_precision)
    won_H = ((below_H - hits_below_H) + (upto_H - hits_upto_H)) / 2
    return Areas(np.average(won_H, weights=weights_H) / (total - total_hits), average_precision)


def _weights_below(scores: np.ndarray, weights: np.ndarray | None, at_H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight of all scores below each of `at_H`, and of those below or equal."""
    if weights is None:
        ascending = np.sort(scores)
        return np.searchsorted(ascending, at_H, "left"), np.searchsorted(ascending, at_H, "right")
    order = np.argsort(scores)
    ascending, before = scores[order], np.concatenate([[0], np.cumsum(weights[order])])
    return before[np.searchsorted(ascending, at_H, "left")], before[np.searchsorted(ascending, at_H, "right")]


def _kept_scores(scored: Scored) -> np.ndarray:
    assert scored.scores is not None, "ranking metrics are measured on `Scored.ranked`"
    return scored.scores


# --- numbers ---------------------------------------------------------------------------------------------------------


def mean_squared_error(scored: Scored) -> float:
    """Mean square of the errors."""
    return _mean(_errors(scored) ** 2, scored)


def root_mean_squared_error(scored: Scored) -> float:
    """Its root, in the unit of the targets."""
    return math.sqrt(mean_squared_error(scored))


def mean_absolute_error(scored: Scored) -> float:
    """Mean size of the errors."""
    return _mean(np.abs(_errors(scored)), scored)


def mean_absolute_percentage_error(scored: Scored) -> float:
    """Mean size of the errors as a share of the target; NaN if a target is 0, where scikit-learn divides by a tiny
    number."""
    if (scored.targets == 0).any():
        return UNDEFINED
    return _mean(np.abs(_errors(scored) / scored.targets), scored)


def r2(scored: Scored) -> float:
    """Share of the targets' variance that is explained; NaN for one row. Constant targets: 1 if all are met, else
    0."""
    if len(scored) < 2:
        return UNDEFINED
    variance = _mean((scored.targets - _mean(scored.targets, scored)) ** 2, scored)
    if not variance or _constant(scored.targets):  # which rounding can give a variance
        return float(np.array_equal(scored.targets, scored.predictions))
    return 1 - mean_squared_error(scored) / variance


def pearson(scored: Scored) -> float:
    """Linear correlation of targets and predictions; NaN where either is constant."""
    return _correlation(scored.targets, scored.predictions, scored)


def spearman(scored: Scored) -> float:
    """Correlation of their ranks, of which equal values share the mean; NaN where either is constant."""
    weights = scored.weights
    return _correlation(_ranks(scored.targets, weights), _ranks(scored.predictions, weights), scored)


def _errors(scored: Scored) -> np.ndarray:
    return np.asarray(scored.predictions - scored.targets)


def _mean(values: np.ndarray, scored: Scored) -> float:
    return float(np.average(values, weights=scored.weights))


def _correlation(one: np.ndarray, other: np.ndarray, scored: Scored) -> float:
    if _constant(one) or _constant(other):
        return UNDEFINED
    deviations = [values - _mean(values, scored) for values in (one, other)]
    one, other = (values / np.abs(values).max() for values in deviations)  # whose squares neither overflow nor vanish
    spread = math.sqrt(_mean(one**2, scored)) * math.sqrt(_mean(other**2, scored))
    return min(1.0, max(-1.0, _mean(one * other, scored) / spread))


def _ranks(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Ranks from 0, in the middle of equal values, of rows that each stand for as many as they weigh."""
    below, not_above = _weights_below(values, weights, values)
    return np.asarray((below + not_above) / 2)


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())


# --- of the user's own -----------------------------------------------------------------------------------------------


def own(function: OwnFunction, scored: Scored) -> float:
    """What a function of the user's own task makes of targets, decisions and scores.

    Each is of all rows, in the form that the task gave them; a row that counts several times stands there as often.
    """
    scores = scored.predictions if scored.scores is None else scored.scores
    columns = [_as_given(scored, scored.targets), _as_given(scored, scored.predictions), scores]
    if scored.weights is not None:
        columns = [np.repeat(column, scored.weights, axis=0) for column in columns]
    return function(*columns)


def _as_given(scored: Scored, stored: np.ndarray) -> np.ndarray:
    """Targets or decisions as a head gives them: class ids, rows of 0 and 1, or numbers."""
    choices = scored.answers.choices
    several = choices is not None and scored.answers.label_map.several
    return choices.hits(stored).astype(np.int64) if several and choices is not None else stored


# --- texts -----------------------------------------------------------------------------------------------------------


def bits_per(unit: int) -> Formula:
    """Bits that a language model needs for the average character or byte of what is scored: a column of its
    targets."""

    def compute(scored: Scored) -> float:
        nats, units = _of_text(scored, unit)
        return nats / units / math.log(2) if units else UNDEFINED

    return compute


def perplexity(scored: Scored) -> float:
    """exp of the negative log-likelihood of the average scored token: losses of 1 and 3 with 3 tokens and 1 give
    exp(1.5)."""
    nats, tokens = _of_text(scored, TOKENS)
    if not tokens:
        return UNDEFINED
    return math.exp(nats / tokens) if nats / tokens < _MOST_NATS else math.inf


def _of_text(scored: Scored, unit: int) -> tuple[float, float]:
    """The nats of all rows, and how much of a unit was scored.

    No product of vectors: what that gives depends on how many threads share it.
    """
    nats_N, units_N = scored.predictions, scored.targets[:, unit]
    if scored.weights is not None:
        nats_N, units_N = scored.weights * nats_N, scored.weights * units_N
    return float(nats_N.sum()), float(units_N.sum())
