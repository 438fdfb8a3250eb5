"""Scores, batch by batch, to the few numbers per row that an evaluation needs; after `prediction`, before
`metrics.py`.

    batches of (rows, targets, scores) --Reduction.add--> arrays of N numbers --(merge)--> those of all ranks
    --finish--> Scored

A matrix of all scores, N rows by C classes, is never built: of a million rows by ten thousand classes it would take 80
GB. Only ranking metrics (areas under curves) compare whole columns of scores. For these the scores are kept while they
are at most `MAX_SCORES`, otherwise those of as many rows, drawn at random with a fixed seed: every evaluation of a run
ranks the same rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.errors import DataError
from textune.evaluation.rowrules import Decided, RowRules, decide
from textune.evaluation.scored import Scored
from textune.tasks import require_numbers, row_blocks

if TYPE_CHECKING:
    from textune.ranks import Ranks
    from textune.tasks import Answers, Head

MAX_SCORES = 20_000_000
"""Scores (rows x classes) kept for ranking metrics: 160 MB."""


class RowLosses(NamedTuple):
    """The task's own loss of n rows, float [n], and what each row weighs in it."""

    row_losses: np.ndarray
    row_weights: np.ndarray


def num_ranked(answers: Answers, num_rows: int) -> int:
    """Rows whose scores are kept for ranking metrics: all, or as many as fit into `MAX_SCORES`.

    If only one column is ranked, the scores are few and all kept.
    """
    if len(answers.ranked) == 1:
        return num_rows
    return min(num_rows, max(1, MAX_SCORES // answers.num_scores))


def ranking_note(num_rows: int, num_ranked: int) -> str:
    """A sentence for the reader if not all rows are ranked, otherwise nothing."""
    if num_ranked == num_rows:
        return ""
    return (
        f"roc_auc and average_precision rank rows by their scores, of which there are too many here (rows x classes):"
        f" they are "
        f"measured on {num_ranked:,} of {num_rows:,} rows, drawn at random, and on the classes that occur in these."
    )


class Reduction:
    """Takes every row once, in any order and in batches of any size.

    The result depends neither on the batches nor on which of several processes took which rows.
    """

    def __init__(self, head: Head, *, num_rows: int, with_losses: bool = False, rules: RowRules | None = None) -> None:
        """`head` decides what the scores mean; `with_losses`: every row comes with its loss; `rules`: each row is
        decided by its own rule, not by that of the head. DataError if there is nothing to evaluate."""
        if num_rows == 0:
            raise DataError("there are no rows to evaluate.", hint="Give a data set with at least one labelled row.")
        self.head = head
        self._rules = rules
        self.num_rows = num_rows
        self.num_added = 0
        """Rows taken so far."""
        self._seen_N = np.zeros(num_rows, dtype=bool)
        self._kept = head.answers.zeros(num_rows)
        if with_losses:
            self._kept |= {name: np.zeros(num_rows) for name in RowLosses._fields}
        self._sampled_M: np.ndarray | None = None
        self._scores_MC: np.ndarray | None = None
        self._probabilities_MC: np.ndarray | None = None
        if head.answers.choices is None:
            return
        num_kept = num_ranked(head.answers, num_rows)
        self._scores_MC = np.zeros((num_kept, head.answers.num_scores))
        if (rules or head.decision).moves_scores:
            self._probabilities_MC = np.zeros_like(self._scores_MC)
        if num_kept < num_rows:
            self._sampled_M = np.sort(np.random.default_rng(0).choice(num_rows, num_kept, replace=False))

    def add(self, rows: np.ndarray, targets: np.ndarray, scores: np.ndarray, losses: RowLosses | None = None) -> None:
        """Take n rows: their numbers int64 [n], what is true, what the model says and, if they are kept, their losses.
        Nothing given is kept or changed.

        - `targets`: int [n] (binary, multiclass), 0 or 1 as [n, C] (multilabel), float [n] (regression).
        - `scores`: probabilities [n, C] (binary: C = 2), or values [n] (regression).

        DataError for impossible shapes and values, ModelError for scores that are not numbers, ValueError for a row
        that was taken before. A batch that raises leaves no trace.
        """
        scores = np.asarray(scores, dtype=np.float64)
        answers = self.head.answers
        _check(answers, rows, targets, scores, num_rows=self.num_rows)
        if self._seen_N[rows].any():
            raise ValueError(f"row {int(rows[self._seen_N[rows]][0])} was scored before")
        for block in row_blocks(len(rows), answers.num_scores):
            decided, seen = self._decide(rows[block], scores[block])
            for name, values in answers.reduce(targets[block], seen, decided).items():
                self._kept[name][rows[block]] = values
            self._keep_scores(rows[block], scores[block], seen)
        if losses is not None:
            for name, values in losses._asdict().items():
                self._kept[name][rows] = values
        self._seen_N[rows] = True
        self.num_added += len(rows)

    def _decide(self, rows: np.ndarray, scores: np.ndarray) -> Decided:
        return decide(self.head, scores) if self._rules is None else self._rules.decide(self.head, rows, scores)

    def _keep_scores(self, rows: np.ndarray, scores: np.ndarray, seen: np.ndarray) -> None:
        """Keep the scores of these rows, and what users see of them, as far as there is room."""
        if self._scores_MC is None:
            return
        place, among = rows, np.ones(len(rows), dtype=bool)
        if self._sampled_M is not None:
            place = np.searchsorted(self._sampled_M, rows).clip(max=len(self._sampled_M) - 1)
            among = self._sampled_M[place] == rows
        self._scores_MC[place[among]] = scores[among]
        if self._probabilities_MC is not None:
            self._probabilities_MC[place[among]] = seen[among]

    def merge(self, ranks: Ranks) -> None:
        """Merge what the ranks have taken; each then has all rows. Every rank must call it exactly once.

        Raises ValueError on every rank where a row was taken by none of them or by several.
        """
        if ranks.alone:
            return
        times_N = ranks.total(self._seen_N.astype(np.int32))
        if (wrong := np.flatnonzero(times_N != 1)).size:
            raise ValueError(f"row {wrong[0]} was scored {times_N[wrong[0]]} times on {ranks.world} ranks, not once")
        self.num_added = int(ranks.total(np.array([self.num_added]))[0])
        self._seen_N[:] = True
        # In the order of their names: what is exchanged must be the same on every rank.
        for name in sorted(self._kept):
            ranks.merge_shares(self._kept[name])
        for values in (self._scores_MC, self._probabilities_MC):
            if values is not None:
                ranks.merge_shares(values)

    def finish(self) -> Scored:
        """What is known when every row was taken; ValueError where one is missing."""
        if self.num_added != self.num_rows or not self._seen_N.all():
            raise ValueError(f"{self.num_added} rows were scored, not each of {self.num_rows} once")
        kept = self._kept
        scored = Scored(
            self.head,
            targets=kept["targets"],
            predictions=kept["predictions"],
            loss=kept.get("loss"),
            sureness=kept.get("sureness"),
            suspect=kept.get("suspect"),
            row_losses=kept.get("row_losses"),
            row_weights=kept.get("row_weights"),
            rules=self._rules,
        )
        if self._sampled_M is None:
            return replace(scored, scores=self._scores_MC, probabilities=self._probabilities_MC)
        sample = scored.take(self._sampled_M)
        return replace(
            scored,
            sample=replace(sample, scores=self._scores_MC, probabilities=self._probabilities_MC, rows=self._sampled_M),
        )


def scored_rows(head: Head, targets: np.ndarray, scores: np.ndarray) -> Scored:
    """The same for scores that exist as one matrix; arguments and errors as for `Reduction.add`."""
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    reduction = Reduction(head, num_rows=len(targets))
    reduction.add(np.arange(len(targets)), targets, scores)
    return reduction.finish()


def _check(answers: Answers, rows: np.ndarray, targets: np.ndarray, scores: np.ndarray, *, num_rows: int) -> None:
    if targets.shape != answers.target_shape(len(rows)) or scores.shape != answers.score_shape(len(rows)):
        raise DataError(
            f"{answers.label_map.problem} scores of shape {list(scores.shape)} do not fit targets of shape"
            f" {list(targets.shape)}."
        )
    if len(rows) == 0:
        return
    require_numbers(scores, rows, num_rows=num_rows)
    answers.check(targets, scores)
