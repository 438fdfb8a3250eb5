"""What an evaluation keeps of each row's target and answer: how they are stored, compared, counted and named.

Each kind of head has its own, in the same file. Shapes: N rows, C scores per row (one for a number), D bytes per label
set. Targets and predictions are stored alike: int32 [N] class ids, uint8 [N, D] labels as bits, or float64 [N]
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from textune.errors import DataError

if TYPE_CHECKING:
    from textune.data import LabelMap

_SMALLEST = float(np.finfo(np.float64).eps)
"""Before a logarithm is taken, probabilities are clipped to this distance from 0 and 1, as in scikit-learn."""

Answer = str | tuple[str, ...] | float
"""A target or a prediction as a reader sees it: a name, several names, or a number."""


class Counts(NamedTuple):
    """How often something is predicted and true, predicted at all, and true at all; float64 [C] by class or [N] by
    row."""

    correct: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


class Constant(NamedTuple):
    """The best scores for a model that ignores the text: float64 [C], or a single number []."""

    decision: np.ndarray
    """For metrics of decisions."""
    probabilities: np.ndarray
    """For metrics of the scores themselves."""


OwnFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""(targets, decisions, scores), each of all rows, to a value; NaN where it is undefined."""


@dataclass(frozen=True)
class OwnMeasure:
    """A metric of the user's own."""

    function: OwnFunction
    higher_is_better: bool


@dataclass(frozen=True)
class Measures:
    """The metrics of a kind of head, by name; they are defined in `textune.evaluation`."""

    names: tuple[str, ...]
    """Every metric that makes sense."""
    main: str
    """What `evaluate.metric = "auto"` means."""
    plain: str = ""
    """The metric in which a constant answer always has a value."""
    constant: str = ""
    """The best constant answer, in words."""
    own: Mapping[str, OwnMeasure] = field(default_factory=dict)
    """Those among `names` that the user's own task defines."""
    of_texts: bool = False
    """Whether the rows are texts that a model finds more or less likely: their targets are numbers of tokens,
    characters and bytes, their answers sums of nats, and no constant answer says anything."""


class Choices(Protocol):
    """Answers that are choices among labels can also be counted."""

    def hits(self, targets: np.ndarray) -> np.ndarray:
        """bool [N, C] the labels that each row has."""

    def counts(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None) -> Counts:
        """By label; each row counts as often as `weights` [N] says, or once."""

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
        """Their metrics."""

    @property
    def num_scores(self) -> int:
        """Scores per row, C; one for a number."""

    @property
    def ranked(self) -> range:
        """Columns of the scores that ranking metrics look at: the second of two classes, otherwise all."""

    @property
    def choices(self) -> Choices | None:
        """The same object if answers are choices among labels; None for numbers."""

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """Shape of the scores of `num_rows` rows."""

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """Shape of the training targets of `num_rows` rows."""

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError for impossible targets or scores; both have the right shape and at least one row."""

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """Empty arrays for what is kept of `num_rows` rows, by field of `textune.evaluation.Scored`."""

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of a batch, by the same names; `decided` is what the head decides from the scores."""

    def store(self, given: np.ndarray) -> np.ndarray:
        """Targets or decisions in stored form."""

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N] whether the prediction equals the target (for labels: every label)."""

    def mistake_sizes(
        self,
        targets: np.ndarray,
        predictions: np.ndarray,
        sureness: np.ndarray | None,
        suspect: np.ndarray | None,
    ) -> np.ndarray:
        """float64 [N] how confidently wrong each row is, or how far off; 0 where right."""

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """The answer for each row as a reader sees it (a list [N]) and its score (float64 [N]); `decided` as in
        `reduce`.

        The score is the probability of the class, that of the most probable label, or the number itself.
        """

    def named(self, stored: np.ndarray) -> Answer:
        """One stored target or prediction for a reader."""

    def constant(self, known: np.ndarray) -> Constant:
        """The constant scores that suit these stored targets best."""

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> np.ndarray | None:
        """float64 [N] negative log probability of the truth if every row had these scores; None for numbers."""

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """Sentences for the notes of a report."""


def surprise(probabilities: np.ndarray) -> np.ndarray:
    """Negative logarithm of the probabilities of events that happened; same shape."""
    return np.asarray(-np.log(probabilities.clip(_SMALLEST, 1 - _SMALLEST)))


def are_probabilities(lowest: float, highest: float) -> bool:
    """Whether scores in this range can be probabilities: those in float32 may exceed 1 by a rounding error.

    What is not a number at all passes; `require_numbers` refuses that.
    """
    return not (lowest < 0 or highest > 1 + 1e-6)


def require_probabilities(scores: np.ndarray) -> None:
    """DataError for scores that are not probabilities."""
    lowest, highest = scores.min(), scores.max()
    if not are_probabilities(lowest, highest):
        raise DataError(f"scores must be probabilities from 0 to 1, but these range from {lowest:g} to {highest:g}.")
