"""What a page draws of an evaluation besides its metrics and curves, of bounded size; before `report.py`.

answers by their probability --> how often those of 0.8 are right (reliability), its mean gap
                             --> what is right if only the surest are answered (coverage)
numbers                      --> predicted beside true, counted in cells; how far off they are
documents                    --> bits per character, counted in ranges
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textune.evaluation.curves import Reliability, by_range, reliability_in, reliability_of, rounded, thinned
from textune.evaluation.scored import Scored
from textune.tasks import CHARACTERS

NUM_CELLS = 40
"""Ranges of true numbers, and of predicted ones."""
NUM_RANGES = 30
"""Ranges of a distribution."""
OUTSIDE = 0.005
"""Share of the predictions beyond either end that may lie outside of what is drawn."""


@dataclass(frozen=True)
class Confidence:
    """How often answers are right, by the probability that the model gives them; multilabel: how often rows have a
    label, by its probability, over all labels."""

    reliability: Reliability
    error: float
    """Expected calibration error: the mean distance of probability and share over the ranges, weighted by rows."""


@dataclass(frozen=True)
class Coverage:
    """What is right if only answers of at least some probability are given; one entry per threshold, highest first."""

    threshold: tuple[float, ...]
    coverage: tuple[float, ...]
    """Share of the rows that are answered."""
    accuracy: tuple[float, ...]
    """Share of these that are right."""


@dataclass(frozen=True)
class Spread:
    """Predicted beside true numbers: how many rows are in each cell of a square of `NUM_CELLS` by `NUM_CELLS`."""

    low: float
    high: float
    """Ends of both axes; rows beyond are counted in the outermost cells."""
    cells: tuple[tuple[int, int, int], ...]
    """Number of the true range, of the predicted one, and rows; without empty cells."""


@dataclass(frozen=True)
class Distribution:
    """How many rows have a value in each range."""

    what: str
    """What is counted, with its unit."""
    edges: tuple[float, ...]
    """Where ranges begin and end, one more than there are; values beyond are counted in the outermost ranges."""
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """What only a drawing needs; None where it does not apply."""

    confidence: Confidence | None = None
    coverage: Coverage | None = None
    spread: Spread | None = None
    distribution: Distribution | None = None

    def to_dict(self) -> dict[str, Any]:
        """What there is, as plain values."""
        parts = vars(self).items()
        return {name: asdict(part) for name, part in parts if part is not None}


def find_drawn(scored: Scored) -> Drawn:
    """All of it, in a few passes over the rows and one sort of their probabilities."""
    if scored.answers.measures.of_texts:
        bits_N = scored.predictions / np.maximum(scored.targets[:, CHARACTERS], 1) / math.log(2)
        return Drawn(distribution=_distribution(bits_N, "bits per character"))
    if scored.answers.choices is None:
        error = _distribution(scored.predictions - scored.targets, "error (predicted minus true)")
        return Drawn(spread=_spread(scored), distribution=error)
    if not scored.head.label_map.exclusive:
        return Drawn(confidence=_of_labels(scored.ranked))
    if scored.sureness is None:
        return Drawn()
    return Drawn(_with_error(reliability_of(scored.sureness, scored.right)), _coverage(scored.sureness, scored.right))


def drawn_of(tree: Mapping[str, Any]) -> Drawn:
    """What `Drawn.to_dict` gave, read from JSON."""
    found: dict[str, Any] = {}
    if confidence := tree.get("confidence"):
        found["confidence"] = Confidence(Reliability(**_tuples(confidence["reliability"])), confidence["error"])
    kinds = {"coverage": Coverage, "spread": Spread, "distribution": Distribution}
    return Drawn(**found, **{name: kind(**_tuples(tree[name])) for name, kind in kinds.items() if name in tree})


def _tuples(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, those within lists too."""

    def plain(value: Any) -> Any:
        return tuple(plain(part) for part in value) if isinstance(value, list) else value

    return {name: plain(value) for name, value in tree.items()}


def _of_labels(ranked: Scored) -> Confidence | None:
    """Over all labels, one after the other, so that no second matrix of scores is made."""
    if ranked.seen is None or not len(ranked):
        return None
    labels = range(ranked.num_classes)
    ranges = [by_range(ranked.seen[:, label], ranked.hits[:, label]) for label in labels]
    return _with_error(reliability_in(np.sum(ranges, axis=0)))


def _with_error(reliability: Reliability) -> Confidence:
    gaps = np.abs(np.subtract(reliability.score, reliability.share))
    return Confidence(reliability, round(float(np.average(gaps, weights=reliability.rows)), 6))


def _coverage(sureness_N: np.ndarray, right_N: np.ndarray) -> Coverage:
    order = np.argsort(-sureness_N, kind="stable")
    descending, right = sureness_N[order], np.cumsum(right_N[order])
    last_T = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)  # the last row of each probability
    kept = last_T[thinned(last_T)]
    answered = kept + 1
    return Coverage(rounded(descending[kept]), rounded(answered / len(order)), rounded(right[kept] / answered))


def _spread(scored: Scored) -> Spread | None:
    targets, predictions = scored.targets, scored.predictions
    ends = np.quantile(predictions, [OUTSIDE, 1 - OUTSIDE])
    low, high = float(min(targets.min(), ends[0])), float(max(targets.max(), ends[1]))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return None
    true_N, predicted_N = (_ranges(values, low, high, NUM_CELLS) for values in (targets, predictions))
    counts = np.bincount(true_N * NUM_CELLS + predicted_N, minlength=NUM_CELLS**2)
    used = np.flatnonzero(counts)
    cells = zip((used // NUM_CELLS).tolist(), (used % NUM_CELLS).tolist(), counts[used].tolist(), strict=True)
    return Spread(low, high, tuple(cells))


def _distribution(values_N: np.ndarray, what: str) -> Distribution | None:
    low, high = (float(end) for end in np.quantile(values_N, [OUTSIDE, 1 - OUTSIDE]))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return None
    rows = np.bincount(_ranges(values_N, low, high, NUM_RANGES), minlength=NUM_RANGES)
    return Distribution(what, rounded(np.linspace(low, high, NUM_RANGES + 1)), tuple(rows.tolist()))


def _ranges(values_N: np.ndarray, low: float, high: float, number: int) -> np.ndarray:
    """int64 [N] which of so many equally wide ranges each value is in, the outermost ones for values beyond."""
    return ((values_N - low) / (high - low) * number).clip(0, number - 1).astype(np.int64)
