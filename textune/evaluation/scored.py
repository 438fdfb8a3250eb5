"""Targets beside decisions, and of every row the few numbers that metrics ask of its scores; no metric is computed here.

Made by `reduction.py`, batch by batch. Shapes: N rows, M of them with their scores, C classes or labels, D = ceil(C / 8) bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from textune.data import Problem

NUMBERS_AT_ONCE = 1 << 16
"""Numbers (rows x classes) that are worked on at a time, so that what is made of them on the way stays in the cache."""


class Counts(NamedTuple):
    """How often something is predicted and true, predicted at all, and true at all; float64 [C] by class or [N] by row."""

    correct: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with what is true and what the model says: O(N) numbers (multilabel: and 2 C bits a row), whatever C."""

    problem: Problem
    num_classes: int
    """C; one for regression."""
    targets: np.ndarray
    """int32 [N] class ids (binary, multiclass), uint8 [N, D] the labels as bits (multilabel), float64 [N] (regression)."""
    predictions: np.ndarray
    """What `decide` makes of the scores, in the form of the targets."""
    loss: np.ndarray | None = None
    """float64 [N] negative logarithm of the probability of what is true; multilabel: its mean over the labels."""
    sureness: np.ndarray | None = None
    """float64 [N] probability of the predicted class; multilabel: of the `suspect`."""
    suspect: np.ndarray | None = None
    """Multilabel: int32 [N] the label that a row is most wrong about; -1 where every label is right."""
    scores: np.ndarray | None = None
    """float64 [N, C] the probabilities themselves, where there is room for those of all rows; binary: always."""
    sample: Scored | None = None
    """Otherwise: the M random rows whose scores are kept."""
    weights: np.ndarray | None = None
    """int64 [N] how often each row counts, at least once (float64 in draws of a confusion matrix); None: each once."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray, weights: np.ndarray | None = None) -> Scored:
        """Some of the rows, each counting as often as `weights` say."""

        def taken(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return replace(
            self,
            targets=self.targets[rows],
            predictions=self.predictions[rows],
            loss=taken(self.loss),
            sureness=taken(self.sureness),
            suspect=taken(self.suspect),
            scores=taken(self.scores),
            sample=None,
            weights=weights,
        )

    @property
    def ranked(self) -> Scored:
        """The rows whose scores are kept, which ranking metrics are measured on: all of them, or the sample."""
        return self if self.sample is None else self.sample

    @cached_property
    def hits(self) -> np.ndarray:
        """bool [N, C] the classes that each row belongs to; for rows whose scores are kept, which are few enough."""
        if self.problem == "multilabel":
            return unpack_labels(self.targets, self.num_classes).astype(bool)
        return np.asarray(self.targets[:, None] == np.arange(self.num_classes))

    @cached_property
    def right(self) -> np.ndarray:
        """bool [N] the prediction is the target; multilabel: every label is right."""
        same = np.equal(self.predictions, self.targets)
        return np.asarray(same.all(axis=1) if self.problem == "multilabel" else same)

    @cached_property
    def counts(self) -> Counts:
        """By class, each row counting as often as it weighs."""
        if self.problem == "multilabel":
            sides = (self.targets & self.predictions, self.predictions, self.targets)
            return Counts(*(count_labels(bits, self.num_classes, self.weights) for bits in sides))
        weights = np.ones(len(self)) if self.weights is None else self.weights
        right = self.right
        sides = (self.targets[right], self.predictions, self.targets)
        by_side = (weights[right], weights, weights)
        return Counts(
            *(np.bincount(ids, by, minlength=self.num_classes) for ids, by in zip(sides, by_side, strict=True)),
        )

    @cached_property
    def row_counts(self) -> Counts:
        """Multilabel: by row, the labels that it gets right, is given, and has."""
        sides = (self.targets & self.predictions, self.predictions, self.targets)
        return Counts(*(np.bitwise_count(bits).sum(axis=1, dtype=np.float64) for bits in sides))

    @cached_property
    def cells(self) -> Scored:
        """One row, weighted by their number, for all rows of equal target and prediction: the same to metrics of decisions.

        Together they are the confusion matrix, without its empty cells.
        """
        if self.problem == "multilabel":
            pairs = one_value(np.concatenate([self.targets, self.predictions], axis=1))
        else:
            pairs = self.targets.astype(np.int64) * self.num_classes + self.predictions
        _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        return Scored(self.problem, self.num_classes, self.targets[first], self.predictions[first], weights=counts)

    @cached_property
    def memory(self) -> dict[object, np.ndarray]:
        """What formulas have computed of these rows and will be asked for again."""
        return {}


def pack_labels(labels: np.ndarray) -> np.ndarray:
    """Labels 0 or 1 as [N, C] of any number type to bits, uint8 [N, D]."""
    packed = np.empty((len(labels), -(-labels.shape[1] // 8)), dtype=np.uint8)
    for rows in row_blocks(len(labels), labels.shape[1]):
        packed[rows] = np.packbits(labels[rows] > 0, axis=1)
    return packed


def one_value(bits: np.ndarray) -> np.ndarray:
    """Rows of bytes [N, D] as values [N] that compare by their bytes: much faster to sort than rows."""
    return np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1])))[:, 0]


def unpack_labels(bits: np.ndarray, num_labels: int) -> np.ndarray:
    """The way back: uint8 [..., C] of 0 and 1."""
    return np.unpackbits(bits, axis=-1, count=num_labels)


def count_labels(bits: np.ndarray, num_labels: int, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 [C] rows that have each label; int64 `weights` [N] say how often each row counts."""
    total = np.zeros(num_labels)
    for rows in row_blocks(len(bits), num_labels):
        labels = unpack_labels(bits[rows], num_labels)
        total += labels.sum(axis=0, dtype=np.int64) if weights is None else weights[rows].astype(np.float64) @ labels
    return total


def sum_labels(bits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64 [N] the sum of each row's labels' `values` [C]."""
    sums = np.empty(len(bits))
    for rows in row_blocks(len(bits), len(values)):
        sums[rows] = unpack_labels(bits[rows], len(values)) @ values
    return sums


def row_blocks(num_rows: int, num_classes: int) -> Iterator[slice]:
    """Cuts rows of `num_classes` numbers into pieces of at most `NUMBERS_AT_ONCE` numbers, or of single rows."""
    step = max(1, NUMBERS_AT_ONCE // num_classes)
    return (slice(start, start + step) for start in range(0, num_rows, step))
