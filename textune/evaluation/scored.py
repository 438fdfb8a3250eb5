"""Targets beside scores: checked once, counted, sorted and remembered for `formulas.py`; the ground that all metrics stand on.

Every quantity takes optional `weights`: int64 [N], how often each row counts. A bootstrap resample is nothing but such weights,
so it costs no copy and no sorting, and it equals the same computation on the repeated rows (a test holds this).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.errors import DataError, ModelError
from textune.tasks.decision import decide

if TYPE_CHECKING:
    from textune.data.labels import Problem

Weights = np.ndarray | None
"""int64 [N] how often each row counts; None: each once."""


class Counts(NamedTuple):
    """Rows of each class: right, predicted and true."""

    correct: np.ndarray
    """float64 [C] rows of the class that are predicted as such (true positives)."""
    predicted: np.ndarray
    """float64 [C] rows predicted as the class."""
    support: np.ndarray
    """float64 [C] rows of the class."""
    rows: float
    """All rows."""


class Ranking(NamedTuple):
    """Values in sorted order, equal ones as one group."""

    order: np.ndarray
    """int64 [N] rows in the order of their values."""
    ends: np.ndarray
    """int64 [G] position of the last row of each group within `order`."""

    def groups(self) -> np.ndarray:
        """int64 [N] the group of each row (in the rows' own order)."""
        sizes = np.diff(self.ends, prepend=-1)
        groups = np.empty(len(self.order), dtype=np.int64)
        groups[self.order] = np.repeat(np.arange(len(self.ends)), sizes)
        return groups


class Curve(NamedTuple):
    """Rows sorted by the score of one class, highest first."""

    rows: np.ndarray
    """int64 [N] row numbers."""
    hits: np.ndarray
    """bool [N] whether each belongs to the class."""
    ends: np.ndarray
    """int64 [G] position of the last row of each group of equal scores."""


class Areas(NamedTuple):
    """Areas under the curves of one class against the rest; NaN where undefined."""

    roc_auc: float
    average_precision: float


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with what is true and what the model says.

    targets: int64 [N] (binary, multiclass), 0 or 1 as [N, C] (multilabel), float [N] (regression).
    scores: probabilities [N, C] (binary: C = 2), or values [N] (regression). Both stay in memory.

    Raises DataError for shapes and values that cannot be, ModelError for scores that are not numbers.
    """

    problem: Problem
    targets: np.ndarray
    scores: np.ndarray
    _remembered: dict[object, np.ndarray] = field(default_factory=dict, repr=False)
    _curves: dict[int, Curve] = field(default_factory=dict, repr=False)
    _areas: dict[int, Areas] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", np.asarray(self.targets))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        _check(self.problem, self.targets, self.scores)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Scored:
        """Some of the rows."""
        return Scored(self.problem, self.targets[rows], self.scores[rows])

    @property
    def num_classes(self) -> int:
        """C; one for regression."""
        return self.scores.shape[1] if self.scores.ndim == 2 else 1

    @cached_property
    def predictions(self) -> np.ndarray:
        """What `decide` makes of the scores; multilabel as bool."""
        decisions = decide(self.scores, self.problem)
        return decisions.astype(bool) if self.problem == "multilabel" else decisions

    @cached_property
    def right(self) -> np.ndarray:
        """bool [N] the prediction is the target; multilabel: every label is right."""
        same = np.equal(self.predictions, self.targets)
        right: np.ndarray = same.all(axis=1) if self.problem == "multilabel" else same
        return right

    def remember(self, function: Callable[[Scored], np.ndarray]) -> np.ndarray:
        """`function(self)`, computed at its first use."""
        if function not in self._remembered:
            self._remembered[function] = function(self)
        return self._remembered[function]

    def mean(self, function: Callable[[Scored], np.ndarray], weights: Weights) -> float:
        """Mean over the rows of a value of each row."""
        values = self.remember(function)
        return float(values.mean() if weights is None else weights @ values / weights.sum())

    def hits(self, column: int) -> np.ndarray:
        """bool [N] the rows that belong to one class."""
        return self.targets[:, column] > 0.5 if self.problem == "multilabel" else self.targets == column

    @cached_property
    def _counts(self) -> Counts:
        return self._count(None)

    def counts(self, weights: Weights = None) -> Counts:
        """Rows of each class."""
        return self._counts if weights is None else self._count(weights)

    def _count(self, weights: Weights) -> Counts:
        rows = float(len(self) if weights is None else weights.sum())
        if self.problem == "multilabel":
            if weights is None:
                true = self.targets > 0.5
                sums = [(true & self.predictions).sum(axis=0), self.predictions.sum(axis=0), true.sum(axis=0)]
                correct, predicted, support = (sum_.astype(np.float64) for sum_ in sums)
            else:
                correct, predicted, support = np.split(weights.astype(np.float64) @ self.remember(_label_columns), 3)
            return Counts(correct, predicted, support, rows)
        right = self.right
        chosen = None if weights is None else weights[right]
        return Counts(
            correct=np.bincount(self.targets[right], chosen, self.num_classes).astype(np.float64),
            predicted=np.bincount(self.predictions, weights, self.num_classes).astype(np.float64),
            support=np.bincount(self.targets, weights, self.num_classes).astype(np.float64),
            rows=rows,
        )

    def areas(self, column: int, weights: Weights = None) -> Areas:
        """Areas under the curves of one class against the rest; column -1: all (row, label) pairs as one."""
        if weights is None:
            if column not in self._areas:
                curve = self._curve(column)
                self._areas[column] = _areas_of(np.cumsum(curve.hits)[curve.ends], curve.ends + 1)
            return self._areas[column]
        # Only resampling comes back to the same curve many times, so only then is it kept.
        if column not in self._curves:
            self._curves[column] = self._curve(column)
        rows, hits, ends = self._curves[column]
        drawn = weights[rows]
        return _areas_of(np.cumsum(drawn * hits)[ends], np.cumsum(drawn)[ends])

    def _curve(self, column: int) -> Curve:
        if column < 0:
            order, ends = rank(-self.scores.ravel())
            return Curve(order // self.num_classes, self.targets.ravel()[order] > 0.5, ends)
        order, ends = rank(-self.scores[:, column])
        return Curve(order, self.hits(column)[order], ends)


def rank(values: np.ndarray) -> Ranking:
    """Sort `values` [N], smallest first."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    return Ranking(order, np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(values) - 1))


def _label_columns(scored: Scored) -> np.ndarray:
    """float64 [N, 3C] right, predicted and true labels: one matrix product with the weights counts them all."""
    true = scored.targets > 0.5
    return np.concatenate([true & scored.predictions, scored.predictions, true], axis=1).astype(np.float64)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element by element; 0 where the denominator is 0."""
    quotient: np.ndarray = np.divide(
        numerator, denominator, out=np.zeros(np.shape(numerator), dtype=np.float64), where=denominator > 0
    )
    return quotient


def _areas_of(true_G: np.ndarray, taken_G: np.ndarray) -> Areas:
    """From the numbers of true and of all rows down to each threshold, highest threshold first."""
    positives, negatives = float(true_G[-1]), float(taken_G[-1] - true_G[-1])
    if positives == 0:
        return Areas(math.nan, math.nan)
    true_G, taken_G = true_G.astype(np.float64), taken_G.astype(np.float64)
    gained_G = np.diff(true_G, prepend=0.0)
    average_precision = float(gained_G @ ratio(true_G, taken_G)) / positives
    if negatives == 0:
        return Areas(math.nan, average_precision)
    false_G = np.diff(taken_G - true_G, prepend=0.0)
    return Areas(float(false_G @ (true_G - gained_G / 2)) / (positives * negatives), average_precision)


def _check(problem: Problem, targets: np.ndarray, scores: np.ndarray) -> None:
    if len(targets) == 0:
        raise DataError("there are no rows to evaluate.", hint="Give a data set with at least one labelled row.")
    target_shape = (len(scores),) if problem != "multilabel" else scores.shape
    dimensions = 1 if problem == "regression" else 2
    if targets.shape != target_shape or scores.ndim != dimensions or (problem == "binary" and scores.shape[1] != 2):
        raise DataError(f"{problem} scores of shape {list(scores.shape)} do not fit targets of shape {list(targets.shape)}.")
    usable = np.isfinite(scores)
    if not usable.all():
        bad = ~usable if problem == "regression" else ~usable.all(axis=1)
        raise ModelError(
            f"the model's scores are not numbers (NaN or infinite) for {int(bad.sum()):,} of {len(scores):,} rows, "
            f"the first of them row {int(bad.argmax()) + 1:,}.",
            hint='The training has diverged: lower train.optimizer.lr, or set train.precision = "fp32".',
        )
    if problem == "regression":
        if not np.isfinite(targets).all():
            raise DataError("a target is not a number (NaN or infinite).")
        return
    # float32 probabilities may exceed one by a rounding error
    if scores.min() < 0 or scores.max() > 1 + 1e-6:
        raise DataError(f"scores are probabilities, from 0 to 1, but these go from {scores.min():g} to {scores.max():g}.")
    if problem == "multilabel":
        if not ((targets == 0) | (targets == 1)).all():
            raise DataError("multilabel targets are 0 or 1.")
    elif not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise DataError(
            f"targets are whole class ids up to {scores.shape[1] - 1}, but these go from {targets.min()} to {targets.max()}."
        )
