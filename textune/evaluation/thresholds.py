"""The best threshold of one label, over every cut between two rows; exact, by one sort.

probabilities, who has the label --sorted, highest first--> counts at each cut --> the cut that a rule likes best
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Cuts(NamedTuple):
    """Every way to give a label to the rows of the highest probabilities, from one row to all; M distinct
    probabilities, highest first."""

    thresholds_M: np.ndarray
    """float64 [M] halfway to the next lower probability; below the lowest, halfway to 0."""
    given_M: np.ndarray
    """int64 [M] rows that are given the label."""
    correct_M: np.ndarray
    """int64 [M] those of them that have it."""
    num_true: int
    """Rows that have it."""


def cuts_of(has_N: np.ndarray, probabilities_N: np.ndarray) -> Cuts:
    """The cuts of one label; `has_N`: bool [N] the rows that have it."""
    order = np.argsort(-probabilities_N, kind="stable")
    descending = probabilities_N[order]
    last_M = np.flatnonzero(np.diff(descending, append=-1.0))
    values_M = descending[last_M]
    halfway_M = (values_M + np.append(values_M[1:], 0.0)) / 2
    # between neighbours in float64 there is nothing halfway: a threshold gives what reaches it
    halfway_M = np.where(halfway_M > np.append(values_M[1:], -1.0), halfway_M, values_M)
    correct_M = np.cumsum(has_N[order], dtype=np.int64)[last_M]
    return Cuts(halfway_M, last_M + 1, correct_M, int(has_N.sum()))


def f1_threshold(has_N: np.ndarray, probabilities_N: np.ndarray) -> float | None:
    """The threshold of the highest F1 on these rows, of equals the one nearest to 0.5; None where no row has the
    label."""
    cuts = cuts_of(has_N, probabilities_N)
    if not cuts.num_true:
        return None
    f1_M = 2 * cuts.correct_M / (cuts.given_M + cuts.num_true)
    return _nearest_to_half(cuts.thresholds_M[f1_M == f1_M.max()])


def precision_threshold(has_N: np.ndarray, probabilities_N: np.ndarray, *, floor: float) -> float | None:
    """The threshold of the highest recall on these rows where precision is `floor` or more, of equals the one of the
    highest precision; None where precision is lower at every cut."""
    cuts = cuts_of(has_N, probabilities_N)
    if not cuts.num_true:
        return None
    enough_M = cuts.correct_M >= floor * cuts.given_M
    found = int(cuts.correct_M[enough_M].max(initial=0))
    if not found:
        return None
    return float(cuts.thresholds_M[np.flatnonzero(enough_M & (cuts.correct_M == found))[0]])


def _nearest_to_half(thresholds: np.ndarray) -> float:
    return float(thresholds[np.abs(thresholds - 0.5).argmin()])
