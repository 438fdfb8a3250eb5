"""Targets, predictions and the few numbers per row that metrics need of the scores; no metric is computed here.

Made by `reduction.py`, batch by batch. Shapes: N rows, M of them with their scores, C classes or labels, D = ceil(C /
8) bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from textune.tasks import Counts

if TYPE_CHECKING:
    from textune.evaluation.rowrules import RowRules
    from textune.tasks import Answers, Choices, Head


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with the truth and the model's answers: O(N) numbers for any C (multilabel: plus 2 C bits per row)."""

    head: Head
    """The head whose scores these are, with the rule that made predictions of them."""
    targets: np.ndarray
    """int32 [N] class ids (binary, multiclass), uint8 [N, D] the labels as bits (multilabel), float64 [N]
    (regression)."""
    predictions: np.ndarray
    """What the head decided, in the form of the targets."""
    loss: np.ndarray | None = None
    """float64 [N] negative logarithm of the probability, as users see it, of what is true; multilabel: its mean over
    the labels."""
    sureness: np.ndarray | None = None
    """float64 [N] probability of the predicted class; multilabel: of the `suspect`."""
    suspect: np.ndarray | None = None
    """Multilabel: int32 [N] the label that a row is most wrong about; -1 where every label is right."""
    scores: np.ndarray | None = None
    """float64 [N, C] what the model gives, by which rows are ranked, where there is room for those of all rows;
    binary: always."""
    probabilities: np.ndarray | None = None
    """float64 [N, C] the same as users see them, where a temperature makes them others."""
    row_losses: np.ndarray | None = None
    """float64 [N] the task's own loss of each row, where somebody asks for it."""
    row_weights: np.ndarray | None = None
    """float64 [N] and what each row weighs in that loss, by its class."""
    sample: Scored | None = None
    """Otherwise: the M random rows whose scores are kept."""
    rows: np.ndarray | None = None
    """int64 [N] the numbers of these rows among all that were evaluated; None: these are all."""
    rules: RowRules | None = None
    """What decided each row, where that was not the head's own decision."""
    weights: np.ndarray | None = None
    """int64 [N] how often each row counts, at least once (float64 in draws of a confusion matrix); None: each once."""

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def answers(self) -> Answers:
        """How targets and predictions are stored, compared and named."""
        return self.head.answers

    @property
    def num_classes(self) -> int:
        """C; one for regression."""
        return self.answers.num_scores

    @property
    def _choices(self) -> Choices:
        choices = self.answers.choices
        assert choices is not None, "numbers have no classes to count"
        return choices

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
            probabilities=taken(self.probabilities),
            row_losses=taken(self.row_losses),
            row_weights=taken(self.row_weights),
            sample=None,
            rows=None,
            rules=None,
            weights=weights,
        )

    def by_document(self, documents: np.ndarray) -> Scored:
        """One row for each document, whose targets and answers are the sums of those of its rows; `documents`: int64
        [N] which one each row belongs to. `rows` are then the numbers of the documents, ascending."""
        numbers, which_N = np.unique(documents, return_inverse=True)
        targets = np.zeros((len(numbers), *self.targets.shape[1:]), self.targets.dtype)
        np.add.at(targets, which_N, self.targets)

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(which_N, values, len(numbers))

        summed = replace(self, targets=targets, predictions=total(self.predictions), rows=numbers)
        if self.row_losses is None or self.row_weights is None:
            return summed
        weights = total(self.row_weights)
        losses = total(self.row_losses * self.row_weights) / np.maximum(weights, 1)
        return replace(summed, row_losses=losses, row_weights=weights)

    @property
    def seen(self) -> np.ndarray | None:
        """float64 [N, C] the probabilities that users see, where scores are kept."""
        return self.scores if self.probabilities is None else self.probabilities

    @property
    def ranked(self) -> Scored:
        """The rows whose scores are kept, which ranking metrics are measured on: all of them, or the sample."""
        return self if self.sample is None else self.sample

    @cached_property
    def hits(self) -> np.ndarray:
        """bool [N, C] the classes that each row belongs to; for rows whose scores are kept, which are few enough."""
        return self._choices.hits(self.targets)

    @cached_property
    def right(self) -> np.ndarray:
        """bool [N] the prediction is the target; multilabel: every label is right."""
        return self.answers.right(self.targets, self.predictions)

    @cached_property
    def counts(self) -> Counts:
        """By class, each row counting as often as it weighs."""
        return self._choices.counts(self.targets, self.predictions, self.weights)

    @cached_property
    def row_counts(self) -> Counts:
        """Multilabel: by row, the labels that it gets right, is given, and has."""
        sides = (self.targets & self.predictions, self.predictions, self.targets)
        return Counts(*(np.bitwise_count(bits).sum(axis=1, dtype=np.float64) for bits in sides))

    @cached_property
    def cells(self) -> Scored:
        """One row, weighted by their number, for all rows of equal target and prediction: the same to metrics of
        decisions.

        Together they are the confusion matrix, without its empty cells.
        """
        pairs = self._choices.pairs(self.targets, self.predictions)
        _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        return Scored(self.head, self.targets[first], self.predictions[first], weights=counts)

    @cached_property
    def memory(self) -> dict[object, np.ndarray]:
        """What formulas have computed of these rows and will be asked for again."""
        return {}
