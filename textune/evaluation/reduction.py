"""Scores, batch by batch, to the few numbers of each row that an evaluation needs; after `prediction`, before `metrics.py`.

    batches of (rows, targets, scores) --Reduction.add--> arrays of N numbers --(merge)--> those of all ranks --finish--> Scored

A matrix of all scores, N rows by C classes, is never built: of a million rows by ten thousand classes it would take 80 GB.
Only ranking metrics (areas under curves) compare whole columns of scores. For these the scores are kept while they are at most
`MAX_SCORES`, otherwise those of as many rows, drawn at random with a fixed seed: every evaluation of a run ranks the same rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from textune.errors import DataError
from textune.evaluation.scored import Scored, pack_labels, row_blocks
from textune.tasks import decide, require_numbers

if TYPE_CHECKING:
    from textune.data import Problem
    from textune.ranks import Ranks

MAX_SCORES = 20_000_000
"""Scores (rows x classes) kept for ranking metrics: 160 MB."""
_SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are no closer to 0 and 1 than this when their logarithm is taken, as in scikit-learn."""


def num_ranked(problem: Problem, num_rows: int, num_classes: int) -> int:
    """Rows whose scores are kept for ranking metrics: all, or as many as fit into `MAX_SCORES`.

    A binary row has two scores, a regression row one: they are few numbers anyway and all kept.
    """
    if problem in ("binary", "regression"):
        return num_rows
    return min(num_rows, max(1, MAX_SCORES // num_classes))


def ranking_note(num_rows: int, num_ranked: int) -> str:
    """What a reader must know where not all rows are ranked, as a sentence; nothing where they are."""
    if num_ranked == num_rows:
        return ""
    return (
        f"roc_auc and average_precision rank rows by their scores, of which there are too many here (rows x classes): they are "
        f"measured on {num_ranked:,} of {num_rows:,} rows, drawn at random, and on the classes that occur in these."
    )


class Reduction:
    """Takes every row once, in any order and in batches of any size; the result does not depend on the cut, nor on which of
    several processes took which rows."""

    def __init__(self, problem: Problem, *, num_rows: int, num_classes: int) -> None:
        """`num_classes` C (regression: 1). Raises DataError where there is nothing to evaluate."""
        if num_rows == 0:
            raise DataError("there are no rows to evaluate.", hint="Give a data set with at least one labelled row.")
        self.problem = problem
        self.num_rows = num_rows
        self.num_classes = num_classes
        self.num_added = 0
        """Rows taken so far."""
        self._seen_N = np.zeros(num_rows, dtype=bool)
        self._kept = _room(problem, num_rows, num_classes)
        self._sampled_M: np.ndarray | None = None
        self._scores_MC: np.ndarray | None = None
        if problem == "regression":
            return
        num_kept = num_ranked(problem, num_rows, num_classes)
        self._scores_MC = np.zeros((num_kept, num_classes))
        if num_kept < num_rows:
            self._sampled_M = np.sort(np.random.default_rng(0).choice(num_rows, num_kept, replace=False))

    def add(self, rows: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        """Take n rows: their numbers int64 [n], what is true, and what the model says.

        targets: int [n] (binary, multiclass), 0 or 1 as [n, C] (multilabel), float [n] (regression).
        scores: probabilities [n, C] (binary: C = 2), or values [n] (regression). Neither is kept or changed.
        Raises DataError for shapes and values that cannot be, ModelError for scores that are not numbers; ValueError for a row
        that was taken before. A batch that raises leaves no trace.
        """
        scores = np.asarray(scores, dtype=np.float64)
        _check(self.problem, rows, targets, scores, num_rows=self.num_rows, num_classes=self.num_classes)
        if self._seen_N[rows].any():
            raise ValueError(f"row {int(rows[self._seen_N[rows]][0])} was scored before")
        for block in row_blocks(len(rows), self.num_classes):
            for name, values in _reduce(self.problem, targets[block], scores[block]).items():
                self._kept[name][rows[block]] = values
        if self._sampled_M is not None and self._scores_MC is not None:
            place = np.searchsorted(self._sampled_M, rows).clip(max=len(self._sampled_M) - 1)
            among = self._sampled_M[place] == rows
            self._scores_MC[place[among]] = scores[among]
        elif self._scores_MC is not None:
            self._scores_MC[rows] = scores
        self._seen_N[rows] = True
        self.num_added += len(rows)

    def merge(self, ranks: Ranks) -> None:
        """Put together what every rank has taken; each rank then has all rows. All of them must call it, and only once.

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
        if self._scores_MC is not None:
            ranks.merge_shares(self._scores_MC)

    def finish(self) -> Scored:
        """What is known when every row was taken; ValueError where one is missing."""
        if self.num_added != self.num_rows or not self._seen_N.all():
            raise ValueError(f"{self.num_added} rows were scored, not each of {self.num_rows} once")
        kept = self._kept
        scored = Scored(
            self.problem,
            self.num_classes,
            targets=kept["targets"],
            predictions=kept["predictions"],
            loss=kept.get("loss"),
            sureness=kept.get("sureness"),
            suspect=kept.get("suspect"),
        )
        if self._sampled_M is None:
            return replace(scored, scores=self._scores_MC)
        return replace(scored, sample=replace(scored.take(self._sampled_M), scores=self._scores_MC))


def scored_rows(problem: Problem, targets: np.ndarray, scores: np.ndarray) -> Scored:
    """The same for scores that exist as one matrix; arguments and errors as for `Reduction.add`."""
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    num_classes = scores.shape[1] if scores.ndim == 2 else 1
    reduction = Reduction(problem, num_rows=len(targets), num_classes=num_classes)
    reduction.add(np.arange(len(targets)), targets, scores)
    return reduction.finish()


def surprise(probabilities: np.ndarray) -> np.ndarray:
    """Negative logarithm of what had these probabilities and happened, in their shape."""
    return np.asarray(-np.log(probabilities.clip(_SMALLEST, 1 - _SMALLEST)))


def _room(problem: Problem, num_rows: int, num_classes: int) -> dict[str, np.ndarray]:
    """Where the numbers of all rows will stand, by field of `Scored`; zeros, which `merge` builds on."""
    if problem == "regression":
        return {"targets": np.zeros(num_rows), "predictions": np.zeros(num_rows)}
    room = {"loss": np.zeros(num_rows), "sureness": np.zeros(num_rows)}
    sides: tuple[int, ...] = (num_rows,)
    if problem == "multilabel":
        sides = (num_rows, -(-num_classes // 8))
        room["suspect"] = np.zeros(num_rows, dtype=np.int32)
    dtype = np.uint8 if problem == "multilabel" else np.int32
    return room | {name: np.zeros(sides, dtype=dtype) for name in ("targets", "predictions")}


def _reduce(problem: Problem, targets: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of one batch, by field of `Scored`."""
    predictions = decide(scores, problem)
    if problem == "regression":
        return {"targets": targets, "predictions": predictions}
    every = np.arange(len(scores))
    if problem == "multilabel":
        true = targets > 0
        # A wrong label is at least one half off; of equals the first one counts.
        error = np.where(predictions != true, np.abs(scores - true), 0.0)
        suspect = error.argmax(axis=1)
        return {
            "targets": pack_labels(targets),
            "predictions": pack_labels(predictions),
            "loss": surprise(np.where(true, scores, 1 - scores)).mean(axis=1),
            "sureness": scores[every, suspect],
            "suspect": np.where(error[every, suspect] > 0, suspect, -1),
        }
    return {
        "targets": targets,
        "predictions": predictions,
        "loss": surprise(scores[every, targets]),
        "sureness": scores[every, predictions],
    }


def _check(
    problem: Problem, rows: np.ndarray, targets: np.ndarray, scores: np.ndarray, *, num_rows: int, num_classes: int
) -> None:
    wanted = (len(rows),) if problem == "regression" else (len(rows), num_classes)
    target_shape = wanted if problem == "multilabel" else wanted[:1]
    if targets.shape != target_shape or scores.shape != wanted or (problem == "binary" and num_classes != 2):
        raise DataError(f"{problem} scores of shape {list(scores.shape)} do not fit targets of shape {list(targets.shape)}.")
    if len(rows) == 0:
        return
    require_numbers(scores, rows, num_rows=num_rows)
    lowest, highest = scores.min(), scores.max()
    if problem == "regression":
        if not np.isfinite(targets).all():
            raise DataError("a target is not a number (NaN or infinite).")
        return
    # float32 probabilities may exceed one by a rounding error
    if lowest < 0 or highest > 1 + 1e-6:
        raise DataError(f"scores are probabilities, from 0 to 1, but these go from {lowest:g} to {highest:g}.")
    if problem == "multilabel":
        if num_classes < 2:
            raise DataError("multilabel needs two labels or more.")
        if not ((targets == 0) | (targets == 1)).all():
            raise DataError("multilabel targets are 0 or 1.")
    elif not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= num_classes:
        raise DataError(
            f"targets are whole class ids up to {num_classes - 1}, but these go from {targets.min()} to {targets.max()}."
        )
