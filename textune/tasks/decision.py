"""From scores to answers: the rule of a head, and a check that the scores are numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from textune.errors import ModelError

USUAL_THRESHOLD = 0.5
"""At which a label is given unless a threshold has been fitted."""
_SMALLEST = float(np.finfo(np.float64).tiny)
"""The probability that 0 is taken for before a logarithm."""
_NEAREST = 2.0**-53
"""How near to 0 and 1 the probability of a label, or of one of two classes, is taken to be at most: float64 tells
nothing nearer apart from 1."""


@dataclass(frozen=True)
class Decision:
    """The rule by which the scores of a head become probabilities, and these become answers.

    Scores are what a model gives: probabilities [N, K]. ValueError for numbers that cannot be such a rule.
    """

    temperature: float = 1.0
    """What logits are divided by. It moves no usual answer, only how sure each is."""
    thresholds: tuple[float, ...] | None = None
    """The lowest calibrated probability at which a label is given, for each label; of two classes one number, for the
    second class. None: 0.5, or the highest score."""
    costs: tuple[tuple[float, ...], ...] | None = None
    """What each answer (inner) costs in each case (outer, what is true): the answer of the lowest expected cost is
    given. By class; for each label by itself, not given and given. None: no answer costs more than another."""
    abstain_below: float | tuple[float, ...] | None = None
    """The calibrated probability below which an answer is withheld; several: for the answer of each class. None: every
    row is answered."""
    platt: tuple[tuple[float, float], ...] | None = None
    """For each label (of two classes: for the second one) what its logit is multiplied by, and what is then added
    (Platt 1999); instead of a temperature."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"a temperature is more than 0, not {self.temperature}")
        if not all(math.isfinite(slope) and slope > 0 and math.isfinite(shift) for slope, shift in self.platt or ()):
            raise ValueError(f"logits are multiplied by more than 0, and what is added is a number, not {self.platt}")
        if self.platt is not None and self.temperature != 1.0:
            raise ValueError("a temperature and slopes are two ways to calibrate: there is only one of them")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds or ()):
            raise ValueError(f"thresholds are from 0 to 1, not {self.thresholds}")
        if self.costs is not None and not all(
            len(row) == len(self.costs) and all(math.isfinite(cost) and cost >= 0 for cost in row)
            for row in self.costs
        ):
            raise ValueError("costs are a square of numbers of at least 0")
        if self.costs is not None and self.thresholds is not None:
            raise ValueError("costs and thresholds are two rules: there is only one of them")
        if not all(0 <= bound <= 1 for bound in self._abstain_bounds):
            raise ValueError(f"abstain_below is from 0 to 1, not {self.abstain_below}")

    @property
    def _abstain_bounds(self) -> tuple[float, ...]:
        if self.abstain_below is None:
            return ()
        return self.abstain_below if isinstance(self.abstain_below, tuple) else (self.abstain_below,)

    @property
    def moves_scores(self) -> bool:
        """Whether calibrated probabilities are others than the scores."""
        return self.temperature != 1.0 or self.platt is not None

    @property
    def as_usual(self) -> tuple[float, ...] | None:
        """The thresholds by which it gives the usual answers: a shift moves the probability that a score of 0.5 gets.
        None: no threshold is needed for that."""
        if self.platt is None:
            return None
        return tuple(self.calibrated_labels(np.full(len(self.platt), USUAL_THRESHOLD)).tolist())

    def fits(self, num_scores: int, *, exclusive: bool) -> bool:
        """Whether it can be the rule for so many classes (`exclusive`) or labels."""
        num_thresholds = num_scores if not exclusive else 1 if num_scores == 2 else 0
        num_costs = num_scores if exclusive else 2
        return (
            (self.thresholds is None or len(self.thresholds) == num_thresholds)
            and (self.platt is None or len(self.platt) == num_thresholds > 0)
            and (self.costs is None or len(self.costs) == num_costs)
            and (not self._abstain_bounds or exclusive)
            and (not isinstance(self.abstain_below, tuple) or len(self.abstain_below) == num_scores)
        )

    def calibrated_classes(self, scores_NK: np.ndarray) -> np.ndarray:
        """float64 [N, K] probabilities of classes, of which each row has one: softmax(logits / temperature); of two
        classes also sigmoid(slope * logit + shift)."""
        if not self.moves_scores:
            return scores_NK
        if scores_NK.shape[1] == 2:
            second_N1 = self._moved(scores_NK[:, 1:])
            return np.concatenate([1 - second_N1, second_N1], axis=1)
        logits_NK = as_logits_of_classes(scores_NK) / self.temperature
        raised_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        return np.asarray(raised_NK / raised_NK.sum(axis=1, keepdims=True))

    def calibrated_labels(self, scores_NK: np.ndarray) -> np.ndarray:
        """float64 [N, K] probabilities of labels, each by itself: sigmoid(logits / temperature), or sigmoid(slope *
        logit + shift)."""
        return self._moved(scores_NK) if self.moves_scores else scores_NK

    def _moved(self, scores: np.ndarray) -> np.ndarray:
        """The same of probabilities [..., L], of all labels in their order."""
        if self.platt is None:
            return sigmoid(as_logits(scores) / self.temperature)
        slopes_L, shifts_L = np.array(self.platt).T
        return sigmoid(as_logits(scores) * slopes_L + shifts_L)

    def best(self, scores_NK: np.ndarray) -> np.ndarray:
        """int64 [N] the class that is answered: of the highest score, of the lowest expected cost, or by the threshold
        of the second one; the first of equals."""
        if self.costs is not None:
            return np.asarray((self.calibrated_classes(scores_NK) @ np.array(self.costs)).argmin(axis=1))
        if self.thresholds is not None:
            return (self.calibrated_classes(scores_NK)[:, 1] >= self.thresholds[0]).astype(np.int64)
        return np.asarray(scores_NK.argmax(axis=1))

    def given(self, scores_NK: np.ndarray) -> np.ndarray:
        """int64 [N, K] 1 for each label that is given, 0 for the others."""
        if self.costs is not None:
            given_NK = self.calibrated_labels(scores_NK)
            untrue, true = self.costs
            withheld = (1 - given_NK) * untrue[0] + given_NK * true[0]
            return ((1 - given_NK) * untrue[1] + given_NK * true[1] < withheld).astype(np.int64)
        if self.thresholds is not None:
            return (self.calibrated_labels(scores_NK) >= np.array(self.thresholds)).astype(np.int64)
        return (scores_NK >= USUAL_THRESHOLD).astype(np.int64)

    def withholds(self, probabilities_N: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """bool [N] whether answers of these calibrated probabilities are withheld; `decided`: what `best` gives."""
        if self.abstain_below is None:
            return np.zeros(len(probabilities_N), dtype=bool)
        bounds = np.array(self.abstain_below)
        return np.asarray(probabilities_N < (bounds if bounds.ndim == 0 else bounds[decided]))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logit)), same shape, of numbers of any size."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def as_logits(scores: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of probabilities, same shape; finite for all of them."""
    kept = scores.clip(_NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def as_logits_of_classes(scores_NK: np.ndarray) -> np.ndarray:
    """log(p) of the probabilities of classes, whose softmax they are; finite for all of them."""
    return np.asarray(np.log(scores_NK.clip(min=_SMALLEST)))


USUAL = Decision()
"""The default, used unless a rule has been fitted: scores as they are, the highest one or all of 0.5 and more."""


def nth_row(index: int) -> str:
    """What to call a row whose place in a file is not known."""
    return f"row {index + 1:,}"


def require_numbers(
    scores: np.ndarray, rows: np.ndarray, *, num_rows: int, place: Callable[[int], str] = nth_row
) -> None:
    """ModelError where scores [N] or [N, K] are NaN or infinite.

    `rows`: int64 [N] the numbers of these rows among all `num_rows`; `place`: what to call one of them.
    """
    usable = np.isfinite(scores)
    if usable.all():
        return
    bad = ~usable if scores.ndim == 1 else ~usable.all(axis=1)
    together = "" if len(rows) == num_rows else " scored together"
    raise ModelError(
        f"the model's scores are not numbers (NaN or infinite) for {int(bad.sum()):,} of {len(rows):,}"
        f" rows{together}, "
        f"the first of them {place(int(rows[bad].min()))}.",
        hint="Either the training has diverged (lower train.optimizer.lr), or the weights are damaged, or they exceed"
        " what fp16"
        " holds (use precision fp32).",
    )
