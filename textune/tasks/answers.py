"""Targets and answers of a head as an evaluation keeps them of each row: stored, compared, counted and named.

Implemented beside each kind of head. Shapes: N rows, C scores of a row (one for a number), D bytes of a label set. Stored
targets and predictions have one form: int32 [N] class ids, uint8 [N, D] labels as bits, float64 [N] numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from textune.errors import DataError

if TYPE_CHECKING:
    from textune.data import LabelMap

_SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are no closer to 0 and 1 than this when their logarithm is taken, as in scikit-learn."""

Answer = str | tuple[str, ...] | float
"""A target or a prediction as a reader sees it: a name, several names, or a number."""


class Counts(NamedTuple):
    """How often something is predicted and true, predicted at all, and true at all; float64 [C] by class or [N] by row."""

    correct: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


class Constant(NamedTuple):
    """The best scores that ignore the text: float64 [C], or of a number its value []."""

    decision: np.ndarray
    """From which the best constant decision follows."""
    probabilities: np.ndarray
    """Best where the scores themselves are measured."""


@dataclass(frozen=True)
class Measures:
    """What a kind of head is measured by: names of metrics (`textune.evaluation`)."""

    names: tuple[str, ...]
    """All that make sense."""
    main: str
    """What `evaluate.metric = "auto"` means."""
    plain: str
    """In which a constant answer always has a value."""
    constant: str
    """The best constant answer, in words."""


class Choices(Protocol):
    """What can be said of answers that are a choice among labels."""

    def hits(self, targets: np.ndarray) -> np.ndarray:
        """bool [N, C] the labels that each row has."""

    def counts(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None) -> Counts:
        """By label, each row counting as often as `weights` [N] say, or once."""

    def support(self, targets: np.ndarray) -> np.ndarray:
        """Rows that have each label, [C]."""

    def pairs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """A value [N] for each row, the same for rows of equal target and prediction."""


class Answers(Protocol):
    """Targets and answers of one kind of head."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and what kind they are of."""

    @property
    def measures(self) -> Measures:
        """What answers of this kind are measured by."""

    @property
    def num_scores(self) -> int:
        """Scores of a row, C; of a number one."""

    @property
    def ranked(self) -> range:
        """Columns of the scores whose order over the rows is measured: of two classes the second alone, else all."""

    @property
    def choices(self) -> Choices | None:
        """Itself where answers are a choice among labels; None for numbers."""

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """Shape of the scores of so many rows."""

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """Shape of the targets of so many rows, as they are learned from."""

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError for targets and scores of these shapes, of at least one row, that cannot be."""

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """Arrays for what is kept of so many rows, by field of `textune.evaluation.Scored`."""

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of a batch, by the same names; `decided` is what the head makes of the scores."""

    def store(self, given: np.ndarray) -> np.ndarray:
        """Targets, or what a head decided, as they are stored."""

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N] the prediction is the target; of labels, every one."""

    def mistake_sizes(
        self,
        targets: np.ndarray,
        predictions: np.ndarray,
        sureness: np.ndarray | None,
        suspect: np.ndarray | None,
    ) -> np.ndarray:
        """float64 [N] how sure and wrong each row is, or how far off; 0 where right."""

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """The answer to each row for a reader, and how sure it is: a list [N] and float64 [N]; `decided` as in `reduce`.

        Sure is the probability of the class, of labels that of the most probable one; a number is given again.
        """

    def named(self, stored: np.ndarray) -> Answer:
        """One stored target or prediction for a reader."""

    def constant(self, known: np.ndarray) -> Constant:
        """The best constant scores for stored targets like these."""

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> np.ndarray | None:
        """float64 [N] the negative log probability of what is true, where all rows have these scores; None for numbers."""

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """What a reader of a report should know of these rows, in sentences."""


def surprise(probabilities: np.ndarray) -> np.ndarray:
    """Negative logarithm of what had these probabilities and happened, in their shape."""
    return np.asarray(-np.log(probabilities.clip(_SMALLEST, 1 - _SMALLEST)))


def require_probabilities(scores: np.ndarray) -> None:
    """DataError for scores outside 0 to 1; float32 probabilities may exceed one by a rounding error."""
    lowest, highest = scores.min(), scores.max()
    if lowest < 0 or highest > 1 + 1e-6:
        raise DataError(f"scores are probabilities, from 0 to 1, but these go from {lowest:g} to {highest:g}.")
