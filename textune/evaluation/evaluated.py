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

    def take(self, chosen: np.ndarray) -> RowFacts:
        """Some of the rows, in this order."""
        slicings = tuple(replace(one, slice_N=one.slice_N[chosen]) for one in self.slicings)
        return RowFacts(self.row[chosen], self.content[chosen], self.tokens[chosen], self.truncated[chosen], slicings)


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

    def take(self, chosen: np.ndarray) -> EvaluatedSet:
        """Some of the rows (int64 [n], each once), in this order."""
        return replace(self, scored=rows_within(self.scored, chosen), facts=self.facts.take(chosen))


def positions_of(scored: ScoredRows, head: str) -> np.ndarray:
    """int64 [n] which of the N rows those of a head are. Documents are numbered by their source, but none is left
    out."""
    rows = scored.by_head[head]
    everything = rows.rows is None or len(rows) == scored.num_rows
    return np.arange(scored.num_rows) if everything or rows.rows is None else rows.rows


def rows_within(scored: ScoredRows, chosen: np.ndarray) -> ScoredRows:
    """Some of the N rows (int64 [n], each once), in this order and numbered anew; heads without a label for any of
    them are left out."""
    by_head = {}
    for name, rows in scored.by_head.items():
        found, place = _found(positions_of(scored, name), chosen, scored.num_rows)
        if not len(found):
            continue
        part = replace(rows.take(found), rows=None if len(found) == len(chosen) else place)
        if rows.sample is not None:
            found, place = _found(np.asarray(rows.sample.rows), chosen, scored.num_rows)
            part = replace(part, sample=replace(rows.sample.take(found), rows=place))
        by_head[name] = part
    return ScoredRows(scored.heads, len(chosen), by_head)


def _found(positions: np.ndarray, chosen: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of these rows were chosen, in the order of the choice, and their places in it."""
    where_N = np.full(num_rows, -1)
    where_N[positions] = np.arange(len(positions))
    found = where_N[chosen]
    return found[found >= 0], np.flatnonzero(found >= 0)


def document_numbers(scored: ScoredRows) -> np.ndarray | None:
    """int64 [N] which document of the set each row is; None where rows are no documents."""
    heads: Sequence[str] = [name for name, rows in scored.by_head.items() if rows.answers.measures.of_texts]
    return scored.by_head[heads[0]].rows if heads else None
