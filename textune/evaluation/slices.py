"""The main metric on parts of the rows: those with one value in a column, and those of similar length; after
`evaluated.py`, before `report.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from textune.data import Slicing
from textune.evaluation.evaluated import RowFacts, rows_within
from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import MAX_WORK
from textune.evaluation.joint import main_interval
from textune.evaluation.mainmetric import MainMetric

LENGTH = "number of tokens"
"""What the slices by length are called, where others have the name of a column."""
SHORTEST = 16
"""Tokens of the shortest texts, which are one slice; each following slice has texts of up to twice as many."""
SLICE_WORK, ALL_WORK = MAX_WORK // 5, 4 * MAX_WORK
"""Values that a metric looks at for the interval of one slice, and for those of all."""


@dataclass(frozen=True)
class Slice:
    """What a model reaches on some of the rows."""

    column: str
    """The column by whose values the rows are parted; `number of tokens` for parts by length."""
    name: str | None
    """The value that these have there; None: they have none."""
    num_rows: int
    value: float
    """The main metric; NaN where undefined."""
    interval: tuple[float, float] | None
    """95 % interval of the value over the choice of rows."""
    reason: str = ""
    """Why there is no interval, as the end of a sentence; empty where it was not asked for."""


def find_slices(
    main: MainMetric, scored: ScoredRows, facts: RowFacts, *, samples: int = 1000, seed: int = 0
) -> tuple[Slice, ...]:
    """The slices by length and by each column of the facts, without those that have no row. `samples`: draws or
    resamples for each interval, 0 for none."""
    parts = list(parts_of(facts))
    work = min(SLICE_WORK, ALL_WORK // max(1, len(parts)))
    found = []
    for column, name, chosen in parts:
        some = rows_within(scored, chosen)
        interval = main_interval(main, some, samples=samples, seed=seed, max_work=work)
        found.append(Slice(column, name, len(chosen), main.of(some), interval.limits, interval.reason))
    return tuple(found)


def parts_of(facts: RowFacts) -> Iterator[tuple[str, str | None, np.ndarray]]:
    """Column, value and rows (int64 [n], ascending) of each slice that has some; rows without a value come last."""
    for slicing in (by_length(facts.tokens), *facts.slicings):
        for code, name in (*enumerate(slicing.values), (-1, None)):
            chosen = np.flatnonzero(slicing.slice_N == code)
            if len(chosen):
                yield slicing.column, name, chosen


def by_length(tokens_N: np.ndarray) -> Slicing:
    """Rows of at most 16 tokens, of 17 to 32, of 33 to 64, and so on."""
    longest = int(tokens_N.max(initial=1))
    limits = [SHORTEST]
    while limits[-1] < longest:
        limits.append(2 * limits[-1])
    names = [f"{below + 1:,} to {limit:,}" for below, limit in zip([0, *limits[:-1]], limits, strict=True)]
    return Slicing(LENGTH, tuple(names), np.searchsorted(limits, tokens_N).astype(np.int32))
