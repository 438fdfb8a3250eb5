"""What users see of the scores of a head: an answer for each row, or none, and its probability."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from textune.tasks.answers import Answer
from textune.tasks.head import Head


class Shown(NamedTuple):
    """N rows as a reader sees them."""

    answers: list[Answer | None]
    """None where the answer is withheld."""
    best_N: np.ndarray
    """float64 [N] the probability of the answer (of several labels: that of the most probable one), or the number."""
    scores: np.ndarray
    """Calibrated probabilities [N, K], or numbers [N]."""


def shown(head: Head, scores: np.ndarray) -> Shown:
    """What the head says of rows with these scores [N, K] or [N], by its decision."""
    calibrated = head.calibrated(scores)
    decided = head.decide(scores)
    answers, best_N = head.answers.answer_rows(calibrated, decided)
    withheld_N = head.decision.withholds(best_N, decided)
    said = [None if withheld else answer for answer, withheld in zip(answers, withheld_N.tolist(), strict=True)]
    return Shown(said, best_N, calibrated)
