"""The scores of every head of a task, batch by batch, and what is kept of them; between `reduction.py` and
`mainmetric.py`.

A row that has no label for a head counts nowhere in what that head is measured by. N rows, n of them with a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from textune.data import has_label
from textune.errors import DataError
from textune.evaluation.reduction import Reduction, RowLosses, num_ranked, ranking_note
from textune.evaluation.scored import Scored

if TYPE_CHECKING:
    from textune.batches import TokenRows
    from textune.evaluation.rowrules import RowRules
    from textune.ranks import Ranks
    from textune.tasks import Head


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The rows of one set, scored by all heads of a task."""

    heads: tuple[Head, ...]
    num_rows: int
    """All of them, whatever labels they have."""
    by_head: dict[str, Scored]
    """What is kept of the rows that have a label for a head; heads without such a row are left out."""

    @property
    def unlabelled(self) -> list[str]:
        """The heads for which no row has a label."""
        return [head.name for head in self.heads if head.name not in self.by_head]

    def by_document(self, documents: np.ndarray | None) -> ScoredRows:
        """The rows of each document added up, as `Scored.by_document`; None: each row is one by itself."""
        if documents is None:
            return self
        by_head = {name: scored.by_document(documents) for name, scored in self.by_head.items()}
        return ScoredRows(self.heads, len(np.unique(documents)), by_head)

    def of(self, head: str) -> Scored | None:
        """The rows with a label for this head; None where there is none."""
        return self.by_head.get(head)


def one_head(scored: Scored) -> ScoredRows:
    """The rows of a task with this head alone."""
    return ScoredRows((scored.head,), len(scored), {scored.head.name: scored})


class TaskReduction:
    """Takes every row once, with its scores by all heads; see `Reduction`."""

    def __init__(
        self,
        heads: Sequence[Head],
        labelled: Mapping[str, np.ndarray],
        *,
        num_rows: int,
        with_losses: bool = False,
        rules: Mapping[str, RowRules] = MappingProxyType({}),
    ) -> None:
        """`labelled`: bool [N] by head, the rows that have a label for it; all where it is not there. `rules`: by
        head, the decision of each of those rows, where that is not the head's own.

        DataError if there is nothing to evaluate.
        """
        self._heads = tuple(heads)
        self._num_rows = num_rows
        self._rows = {name: np.flatnonzero(has_N) for name, has_N in labelled.items() if not has_N.all()}
        """int64 [n] the rows of heads that some rows have no label for."""
        sizes = {head.name: len(self._rows.get(head.name, range(num_rows))) for head in heads}
        if not any(sizes.values()):
            raise DataError("there are no rows to evaluate.", hint="Give a data set with at least one labelled row.")
        self._parts = {
            head.name: Reduction(head, num_rows=sizes[head.name], with_losses=with_losses, rules=rules.get(head.name))
            for head in heads
            if sizes[head.name]
        }

    def add(
        self,
        rows: np.ndarray,
        targets: Mapping[str, np.ndarray],
        scores: Mapping[str, np.ndarray],
        losses: Mapping[str, RowLosses] | None = None,
    ) -> None:
        """Take n rows: their numbers int64 [n], and by head what is true, what the model says, and their losses, if
        these are kept. Errors as `Reduction.add`."""
        for name, part in self._parts.items():
            own = None if losses is None else losses[name]
            if name not in self._rows:
                part.add(rows, targets[name], scores[name], own)
                continue
            all_rows = self._rows[name]
            place = np.searchsorted(all_rows, rows).clip(max=len(all_rows) - 1)
            has = all_rows[place] == rows
            if has.any():
                own = None if own is None else RowLosses(own.row_losses[has], own.row_weights[has])
                part.add(place[has], targets[name][has], scores[name][has], own)

    def merge(self, ranks: Ranks) -> None:
        """Merge what the ranks have taken, as `Reduction.merge`."""
        for part in self._parts.values():
            part.merge(ranks)

    def finish(self) -> ScoredRows:
        """What is known when every row was taken; ValueError where one is missing."""
        by_head = {name: self._numbered(name, part.finish()) for name, part in self._parts.items()}
        return ScoredRows(self._heads, self._num_rows, by_head)

    def _numbered(self, head: str, scored: Scored) -> Scored:
        """The same with the numbers of its rows among all, where it does not have all of them."""
        rows, sample = self._rows.get(head), scored.sample
        if rows is None:
            return scored
        if sample is not None:
            sample = replace(sample, rows=rows[sample.rows])
        return replace(scored, rows=rows, sample=sample)


def labelled_rows(rows: TokenRows) -> dict[str, np.ndarray]:
    """bool [N] by head, the rows that have a label for it; without the heads whose labels cannot be missing."""
    kept = {name: targets for name, targets in rows.example_targets.items() if targets.ndim == 1}
    return {name: has_label(targets[rows.examples]) for name, targets in kept.items()}


def ranking_notes(heads: Sequence[Head], num_rows: int) -> list[str]:
    """What to say where not all of so many rows are ranked, each sentence once."""
    said = [ranking_note(num_rows, num_ranked(head.answers, num_rows)) for head in heads]
    return [note for note in dict.fromkeys(said) if note]
