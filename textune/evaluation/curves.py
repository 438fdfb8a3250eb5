"""Curves of each class against the rest, of bounded size, taken while the scores exist: to draw, or to tune thresholds
by.

scores of a class --descending--> every threshold --evenly along the ROC curve--> at most MAX_POINTS
                  --by value--> bins --> how often a score of 0.8 is right (reliability)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textune.evaluation.scored import Scored

MAX_CURVES = 20
"""Most classes with curves; those with the most rows are chosen."""
MAX_POINTS = 100
"""Most thresholds per class."""
NUM_BINS = 10
"""Number of equally wide ranges of scores."""
_DECIMALS = 6


@dataclass(frozen=True)
class Thresholds:
    """What happens if a class is answered from a threshold up; one entry per threshold, highest first.

    Recall over false positive rate is the ROC curve, precision over recall the precision-recall curve.
    """

    threshold: tuple[float, ...]
    recall: tuple[float, ...]
    """Share of the rows of the class that are found."""
    false_positive_rate: tuple[float, ...]
    """Share of the other rows that are mistaken for it."""
    precision: tuple[float, ...]
    """Share of the rows answered with the class that belong to it."""


@dataclass(frozen=True)
class Reliability:
    """How often rows belong to a class, by range of their score, lowest first; empty ranges are left out."""

    score: tuple[float, ...]
    """Mean score of the rows in a range."""
    share: tuple[float, ...]
    """Share of them that belong to the class."""
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """The curves of one class, or label, against the rest."""

    name: str
    thresholds: Thresholds
    reliability: Reliability


def find_curves(scored: Scored) -> tuple[Curves, ...]:
    """The curves of the ranked classes in the order of their ids; none for a class of all rows or of no row."""
    ranked = scored.ranked
    if ranked.seen is None:
        return ()
    hits_C = ranked.hits.sum(axis=0)
    columns = [column for column in ranked.answers.ranked if 0 < hits_C[column] < len(ranked)]
    chosen = sorted(sorted(columns, key=lambda column: -hits_C[column])[:MAX_CURVES])
    return tuple(
        Curves(
            name=ranked.head.labels[column],
            thresholds=_thresholds(ranked.seen[:, column], ranked.hits[:, column]),
            reliability=reliability_of(ranked.seen[:, column], ranked.hits[:, column]),
        )
        for column in chosen
    )


def _thresholds(scores_M: np.ndarray, hits_M: np.ndarray) -> Thresholds:
    order = np.argsort(-scores_M, kind="stable")
    descending, hits = scores_M[order], hits_M[order]
    last_T = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)  # the last row of each score
    found_T = np.cumsum(hits)[last_T]
    taken_T = last_T + 1
    recall_T, false_T = found_T / hits.sum(), (taken_T - found_T) / (~hits).sum()
    kept = thinned(recall_T + false_T)
    return Thresholds(
        threshold=rounded(descending[last_T[kept]]),
        recall=rounded(recall_T[kept]),
        false_positive_rate=rounded(false_T[kept]),
        precision=rounded(found_T[kept] / taken_T[kept]),
    )


def thinned(distance_T: np.ndarray) -> np.ndarray:
    """int64 [at most MAX_POINTS] the points to keep: the first, the last, and others evenly spaced by ascending
    distance."""
    if len(distance_T) <= MAX_POINTS:
        return np.arange(len(distance_T))
    wanted = np.linspace(distance_T[0], distance_T[-1], MAX_POINTS)
    return np.unique(np.searchsorted(distance_T, wanted).clip(max=len(distance_T) - 1))


def reliability_of(scores_M: np.ndarray, hits_M: np.ndarray) -> Reliability:
    """How often (`hits_M`) rows of these scores are right."""
    return reliability_in(by_range(scores_M, hits_M))


def by_range(scores_M: np.ndarray, hits_M: np.ndarray) -> np.ndarray:
    """float64 [3, NUM_BINS] rows, the sum of their scores, and hits in each range of scores. Those of several classes
    may be added."""
    bin_M = (scores_M * NUM_BINS).astype(np.int64).clip(0, NUM_BINS - 1)
    return np.stack([np.bincount(bin_M, values, NUM_BINS) for values in (np.ones(len(bin_M)), scores_M, hits_M)])


def reliability_in(ranges_3B: np.ndarray) -> Reliability:
    """The same as shares."""
    rows_B, sums_B, hits_B = ranges_3B[:, ranges_3B[0] > 0]
    return Reliability(
        score=rounded(sums_B / rows_B), share=rounded(hits_B / rows_B), rows=tuple(rows_B.astype(np.int64).tolist())
    )


def rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.round(values, _DECIMALS).tolist())
