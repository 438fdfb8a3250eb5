"""What one model was asked and answered, in numbers: never a text, and no label that is not the model's.

answers of the model --a few hundred rows at once--> totals since it was opened; bins of the last rows --drift.py-->
how far these are from the usual rows. Shapes: n rows, K labels of a head.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from textune.config import TokensSection
from textune.errors import TextuneError
from textune.prediction import (
    PROBABILITIES,
    Histogram,
    Scores,
    UsualHead,
    UsualRows,
    bins_of,
    given,
    length_bounds,
)
from textune.serving.drift import Drift, drift
from textune.serving.recent import Recent
from textune.tasks import Head

WINDOW = 1000
"""The last rows that are compared with the usual ones."""
MIN_ROWS = 100
"""Fewer rows, on either side, are not compared."""
MAX_LABELS = 100
"""Labels of a head that are told apart, those that most usual rows have; the others are one group."""
OTHERS, NONE = "(other labels)", "(none)"
"""What stands for those, and for rows that were given no label."""
_log = logging.getLogger("textune.serving")
_AT_ONCE = 256
"""Rows that are counted together: one by one would take a server's time."""
_SCORES_AT_ONCE = 1 << 17
"""Scores that wait to be counted, at most: 1 MB."""


class Distribution:
    """Numbers in the bins of a histogram: all of them, and the last ones."""

    def __init__(self, bounds: tuple[float, ...], usual: Histogram | None, window: int) -> None:
        self.bounds: Final = bounds
        self.totals: Final = np.zeros(len(bounds) + 1, np.int64)
        self.sum = 0.0
        self._usual = None if usual is None else np.array(usual.counts)
        self._recent = Recent(len(bounds) + 1, window)

    def add(self, numbers: np.ndarray) -> None:
        """Count numbers [n]."""
        bins = bins_of(self.bounds, numbers)
        self.totals[:] += np.bincount(bins, minlength=len(self.totals))
        self.sum += float(numbers.sum())
        self._recent.add(len(numbers), np.arange(len(numbers)), bins)

    def drift(self, min_rows: int) -> Drift | None:
        """The last ones beside the usual ones; None where either are too few."""
        return _drift(self._usual, self._recent, min_rows)


class Labels:
    """Rows by the label that a head gave them."""

    def __init__(self, head: Head, usual: UsualHead | None, window: int) -> None:
        num_labels = len(head.labels)
        counts_K = np.zeros(num_labels, np.int64) if usual is None else np.array(usual.labels)
        named = np.sort(np.argsort(-counts_K, kind="stable")[:MAX_LABELS])
        names = [head.labels[label] for label in named]
        are_others = num_labels > len(named)
        groups = [_apart(name, names) for name in ([OTHERS] if are_others else []) + [NONE]]
        self.names: Final = [*names, *groups]
        """What is told apart, bin by bin."""
        self._bin_K1 = np.full(num_labels + 1, len(named))
        self._bin_K1[named] = np.arange(len(named))
        self._bin_K1[num_labels] = len(self.names) - 1
        self.totals: Final = np.zeros(len(self.names), np.int64)
        self._recent = Recent(len(self.names), window)
        self._usual = None
        if usual is not None:
            self._usual = np.bincount(self._bin_K1, [*usual.labels, usual.none], len(self.names)).astype(np.int64)

    def add(self, num_rows: int, row_G: np.ndarray, label_G: np.ndarray) -> None:
        """Count rows with their labels, as `prediction.given` has them."""
        bins = self._bin_K1[label_G]
        self.totals[:] += np.bincount(bins, minlength=len(self.totals))
        self._recent.add(num_rows, row_G, bins)

    def drift(self, min_rows: int) -> Drift | None:
        """The last ones beside the usual ones; None where either are too few."""
        return _drift(self._usual, self._recent, min_rows)


def _drift(usual_B: np.ndarray | None, recent: Recent, min_rows: int) -> Drift | None:
    if usual_B is None or usual_B.sum() < min_rows or recent.num_rows < min_rows:
        return None
    return drift(usual_B, recent.counts)


def _apart(name: str, names: Sequence[str]) -> str:
    """The name, in more brackets where a label of the model has it."""
    return _apart(f"({name})", names) if name in names else name


class HeadSeen:
    """The answers of one head."""

    def __init__(self, head: Head, usual: UsualHead | None, window: int) -> None:
        self.name: Final = head.name
        self._head = head
        self.labels: Final = Labels(head, usual, window) if head.label_map.choices else None
        bounds = PROBABILITIES if head.label_map.choices else () if usual is None else usual.scores.bounds
        comparable = usual is not None and usual.scores.bounds == bounds
        self.scores: Final = Distribution(bounds, usual.scores if usual is not None and comparable else None, window)

    def add(self, scores: np.ndarray) -> None:
        """Count what it says of rows with these scores, [n, K] or [n]."""
        seen = given(self._head, scores)
        self.scores.add(seen.score_N)
        if self.labels is not None:
            self.labels.add(len(scores), seen.row_G, seen.label_G)


class Seen(NamedTuple):
    """One difference from the usual rows."""

    head: str
    """Empty for what no head says."""
    what: str
    """`lengths`, `labels` or `scores`."""
    drift: Drift


class Watched:
    """One model since it was opened. Several threads may use it."""

    def __init__(
        self,
        heads: Sequence[Head],
        section: TokensSection,
        usual: UsualRows | None,
        *,
        window: int = WINDOW,
        min_rows: int = MIN_ROWS,
    ) -> None:
        """`section`: how the model reads texts; `usual`: None where nothing is known of them: there is no drift
        then."""
        bounds = length_bounds(section)
        comparable = usual is not None and usual.lengths.bounds == bounds
        self.usual: Final = usual
        self.min_rows: Final = min_rows
        self.num_rows = 0
        self._lengths = Distribution(bounds, usual.lengths if usual is not None and comparable else None, window)
        self._heads = [HeadSeen(head, None if usual is None else usual.of(head), window) for head in heads]
        self._waiting: list[tuple[np.ndarray, Scores]] = []
        self._num_waiting = 0
        self._num_scores = sum(len(head.labels) for head in heads)
        self._lock = threading.Lock()

    def add(self, num_tokens: np.ndarray, scores: Scores) -> None:
        """Note n answered rows: int64 [n] tokens of each, and their scores by head, which must not change any more."""
        with self._lock:
            self._waiting.append((num_tokens, scores))
            self._num_waiting += len(num_tokens)
            if self._num_waiting >= _AT_ONCE or self._num_waiting * self._num_scores >= _SCORES_AT_ONCE:
                self._count()

    def _count(self) -> None:
        """Count what waits."""
        waiting, self._waiting = self._waiting, []
        self._num_waiting = 0
        if not waiting:
            return
        self._lengths.add(np.concatenate([num_tokens for num_tokens, _ in waiting]))
        for head in self._heads:
            try:
                head.add(np.concatenate([scores[head.name] for _, scores in waiting]))
            except TextuneError as error:  # of a task of the user's own: no other request may fail of it
                _log.warning("answers of %s were not counted: %s", head.name, error)
        self.num_rows = int(self._lengths.totals.sum())

    def counted(self) -> Counted:
        """What was seen so far."""
        with self._lock:
            self._count()
            return Counted(
                self.num_rows,
                _as_histogram(self._lengths),
                [_head_counted(head) for head in self._heads],
                list(self._drifts()),
            )

    def _drifts(self) -> Iterator[Seen]:
        measured = [("", "lengths", self._lengths.drift(self.min_rows))]
        for head in self._heads:
            if head.labels is not None:
                measured.append((head.name, "labels", head.labels.drift(self.min_rows)))
            measured.append((head.name, "scores", head.scores.drift(self.min_rows)))
        return (Seen(name, what, found) for name, what, found in measured if found is not None)


class CountedNumbers(NamedTuple):
    """Numbers since the model was opened."""

    bounds: tuple[float, ...]
    counts: list[int]
    """In each bin; one more than bounds."""
    sum: float


class CountedHead(NamedTuple):
    """The answers of a head since the model was opened."""

    name: str
    labels: dict[str, int]
    """Rows by label; none for numbers."""
    scores: CountedNumbers


class Counted(NamedTuple):
    """What one model was asked and answered since it was opened."""

    num_rows: int
    lengths: CountedNumbers
    heads: list[CountedHead]
    drifts: list[Seen]


def _as_histogram(numbers: Distribution) -> CountedNumbers:
    return CountedNumbers(numbers.bounds, numbers.totals.tolist(), numbers.sum)


def _head_counted(head: HeadSeen) -> CountedHead:
    labels = {} if head.labels is None else dict(zip(head.labels.names, head.labels.totals.tolist(), strict=True))
    return CountedHead(head.name, labels, _as_histogram(head.scores))
