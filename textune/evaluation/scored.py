"""Targets beside scores and decisions, checked once; the ground that all metrics stand on. No metric is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from textune.errors import DataError, ModelError
from textune.tasks.decision import decide

if TYPE_CHECKING:
    from textune.data.labels import Problem


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with what is true and what the model says; made by `scored_rows`."""

    problem: Problem
    targets: np.ndarray
    """int64 [N] class ids (binary, multiclass), int64 [N, C] of 0 and 1 (multilabel), float64 [N] (regression)."""
    scores: np.ndarray
    """float64 probabilities [N, C] (binary: C = 2), or values [N] (regression)."""
    predictions: np.ndarray
    """What `decide` makes of the scores, in the shape of the targets."""
    weights: np.ndarray | None = None
    """int64 [N] how often each row counts, at least once; None: each once."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray, weights: np.ndarray | None = None) -> Scored:
        """Some of the rows, each counting as often as `weights` say."""
        return Scored(self.problem, self.targets[rows], self.scores[rows], self.predictions[rows], weights)

    @property
    def num_classes(self) -> int:
        """C; one for regression."""
        return self.scores.shape[1] if self.scores.ndim == 2 else 1

    @cached_property
    def hits(self) -> np.ndarray:
        """bool [N, C] the classes that each row belongs to."""
        if self.problem == "multilabel":
            return np.asarray(self.targets > 0)
        return np.asarray(self.targets[:, None] == np.arange(self.num_classes))

    @cached_property
    def right(self) -> np.ndarray:
        """bool [N] the prediction is the target; multilabel: every label is right."""
        same = np.equal(self.predictions, self.targets)
        return np.asarray(same.all(axis=1) if self.problem == "multilabel" else same)

    @cached_property
    def cells(self) -> Scored:
        """One row, weighted by their number, for all rows of equal target and prediction: the same to metrics of decisions."""
        if self.problem == "multilabel":
            keys = np.packbits(np.concatenate([self.targets, self.predictions], axis=1).astype(bool), axis=1)
            _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
        else:
            pairs = self.targets * self.num_classes + self.predictions
            _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        return self.take(first, counts)


def scored_rows(problem: Problem, targets: np.ndarray, scores: np.ndarray, names: Sequence[str] | None = None) -> Scored:
    """Check the values, and the number of `names` where given, and decide.

    targets: int [N] (binary, multiclass), 0 or 1 as [N, C] (multilabel), float [N] (regression).
    scores: probabilities [N, C] (binary: C = 2), or values [N] (regression).
    Raises DataError for shapes and values that cannot be, ModelError for scores that are not numbers.
    """
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    _check(problem, targets, scores)
    targets = targets.astype(np.float64 if problem == "regression" else np.int64)
    scored = Scored(problem, targets, scores, decide(scores, problem))
    if names is not None and len(names) != scored.num_classes:
        raise DataError(f"{len(names)} label names do not fit scores of {scored.num_classes} classes.")
    return scored


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
        if scores.shape[1] < 2:
            raise DataError("multilabel needs two labels or more.")
        if not ((targets == 0) | (targets == 1)).all():
            raise DataError("multilabel targets are 0 or 1.")
    elif not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise DataError(
            f"targets are whole class ids up to {scores.shape[1] - 1}, but these go from {targets.min()} to {targets.max()}."
        )
