"""A set with what a model answers for each of its rows, which `rowsfile.py` keeps; after `heads.py`,
`mainmetric.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.data import Slicing
from textune.evaluation.heads import ScoredRows
from textune.evaluation.mainmetric import MainMetric


@dataclass(frozen=True, eq=False)
class RowFacts:
    """What is known of N evaluated rows beside their labels and answers."""

    row: np.ndarray
    """int64 [N] the number of each in its source, from 0."""
    content: np.ndarray
    """uint64 [N] a number for its texts: equal for equal texts, in whatever file they stand."""
    tokens: np.ndarray
    """int32 [N] tokens of its text before any are cut off; of a document, those that are scored."""
    truncated: np.ndarray
    """bool [N] whether some are cut off."""
    slicings: tuple[Slicing, ...] = ()
    """By each column of `evaluate.slices`."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, eq=False)
class EvaluatedSet:
    """The N rows of one set."""

    name: str
    """`validation`, `test`, the name of an evaluation set or of a file."""
    dataset: str
    """What was evaluated, for a reader."""
    fingerprint: str
    """That of the rows' source."""
    main: MainMetric
    scored: ScoredRows
    """Targets as ids, answers and, where there is room for them, scores, by head."""
    facts: RowFacts

    def __len__(self) -> int:
        return self.scored.num_rows


def positions_of(scored: ScoredRows, head: str) -> np.ndarray:
    """int64 [n] which of the N rows those of a head are. Documents are numbered by their source, but none is left
    out."""
    rows = scored.by_head[head]
    everything = rows.rows is None or len(rows) == scored.num_rows
    return np.arange(scored.num_rows) if everything or rows.rows is None else rows.rows


def rows_within(scored: ScoredRows, chosen: np.ndarray) -> ScoredRows:
    """Some of the N rows (int64 [n], ascending), numbered anew; heads without a label for any of them are left out."""
    by_head = {}
    for name, rows in scored.by_head.items():
        places = positions_of(scored, name)
        kept = np.flatnonzero(np.isin(places, chosen, assume_unique=True))
        if not len(kept):
            continue
        found = replace(rows.take(kept), rows=_numbers(places[kept], chosen))
        if rows.sample is not None:
            sampled = np.asarray(rows.sample.rows)
            of_sample = np.flatnonzero(np.isin(sampled, chosen, assume_unique=True))
            sample = rows.sample.take(of_sample)
            found = replace(found, sample=replace(sample, rows=np.searchsorted(chosen, sampled[of_sample])))
        by_head[name] = found
    return ScoredRows(scored.heads, len(chosen), by_head)


def _numbers(places: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """Which of the chosen rows these are; None for all of them."""
    return None if len(places) == len(chosen) else np.searchsorted(chosen, places)


def document_numbers(scored: ScoredRows) -> np.ndarray | None:
    """int64 [N] which document of the set each row is; None where rows are no documents."""
    heads: Sequence[str] = [name for name, rows in scored.by_head.items() if rows.answers.measures.of_texts]
    return scored.by_head[heads[0]].rows if heads else None
