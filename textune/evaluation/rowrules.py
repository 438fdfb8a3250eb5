"""Several decisions for the rows of one set: each row is decided by one that was fitted without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.tasks import with_decision

if TYPE_CHECKING:
    from textune.tasks import Decision, Head


class Decided(NamedTuple):
    """What a head makes of the scores of n rows."""

    answers: np.ndarray
    """In the form of the targets."""
    seen: np.ndarray
    """What users see of the scores: calibrated probabilities [n, C], or numbers [n]."""


@dataclass(frozen=True, eq=False)
class RowRules:
    """Which decision each of N rows is decided by."""

    decisions: tuple[Decision, ...]
    which_N: np.ndarray
    """int64 [N] the number of the decision of each row."""

    @property
    def moves_scores(self) -> bool:
        """Whether any of the decisions gives other probabilities than the scores."""
        return any(decision.moves_scores for decision in self.decisions)

    def decide(self, head: Head, rows: np.ndarray, scores: np.ndarray) -> Decided:
        """The answers to these rows (int64 [n] their numbers) with scores [n, C]."""
        found = decide(head, scores)
        for number in np.unique(self.which_N[rows]).tolist():
            own = self.which_N[rows] == number
            by_own = decide(with_decision(head, self.decisions[number]), scores[own])
            found = Decided(_put(found.answers, own, by_own.answers), _put(found.seen, own, by_own.seen))
        return found


def decide(head: Head, scores: np.ndarray) -> Decided:
    """What the head itself makes of scores [n, C] or [n]."""
    return Decided(head.decide(scores), head.calibrated(scores))


def _put(values: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[own] = others
    return changed
