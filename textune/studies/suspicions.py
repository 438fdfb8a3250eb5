"""What may be wrong with training rows, by the answers of models that have not seen them and by texts that occur more
than once; used by `doctor.py`.

Examined --suspect_labels, conflicting_labels, leaks--> Suspicion: a row, what to do with it, what that is worth

`worth` counts rows: the expected number of labels that are put right, or of held-out rows that are no longer known
from training. Legend: N training rows, C classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from textune.data import LabelMap, LabelMaps, has_label
from textune.evaluation import find_suspects
from textune.wording import count

Kind = Literal["suspect label", "equal texts", "near-duplicate", "leak"]
KINDS: tuple[Kind, ...] = ("suspect label", "equal texts", "near-duplicate", "leak")


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every row: which class it is of, or whether it has one label of several."""

    task: str
    label: int
    """Of several labels, which; else -1."""
    names: tuple[str, ...]
    """Of the classes; of a label of several: without it, with it."""
    targets_N: np.ndarray
    """int64 [N] as the data says; -1 without a label."""
    probabilities_NC: np.ndarray
    """float64 [N, C] by models that have not seen the row; NaN where there is none."""

    def written(self, proposed: int) -> str:
        """A proposal as a file of corrections has it."""
        return self.names[proposed] if self.label < 0 else f"{'+' if proposed else '-'}{self.names[1]}"


@dataclass(frozen=True)
class Suspicion:
    """What is proposed for one row, for one reason."""

    kind: Kind
    row: int
    """Which of the N rows."""
    question: Question | None
    """None: the row is to be left out."""
    proposed: int
    """The class of the question that is proposed; -1 where the row is to be left out."""
    worth: float
    why: str


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which texts occur where: T different texts, up to case, spacing and punctuation."""

    rows: Sequence[np.ndarray]
    """Of each text the rows that have it, int64; none where only held-out rows have it."""
    near: Mapping[int, Mapping[int, float]]
    """Of each text those that are nearly the same, with their similarity."""


def questions_of(
    label_maps: LabelMaps, targets: Mapping[str, np.ndarray], probabilities: Mapping[str, np.ndarray]
) -> list[Question]:
    """What is asked of rows with these targets, by head; none for numbers."""
    found: list[Question] = []
    for task, label_map in label_maps.items():
        if label_map.choices:
            found += _of_head(task, label_map, targets[task], probabilities[task])
    return found


def _of_head(task: str, label_map: LabelMap, targets: np.ndarray, seen_NC: np.ndarray) -> Iterator[Question]:
    if label_map.exclusive:
        yield Question(task, -1, label_map.names, np.where(has_label(targets), targets, -1), seen_NC)
        return
    for label, name in enumerate(label_map.names):
        both = np.stack([1 - seen_NC[:, label], seen_NC[:, label]], axis=1)
        yield Question(task, label, (f"not {name}", name), targets[:, label].astype(np.int64), both)


def suspect_labels(question: Question) -> Iterator[Suspicion]:
    """By confident learning (`evaluation/suspects.py`)."""
    known = np.flatnonzero((question.targets_N >= 0) & ~np.isnan(question.probabilities_NC).any(axis=1))
    if not len(known):
        return
    targets, seen = question.targets_N[known], question.probabilities_NC[known]
    found = find_suspects(targets, seen, exclusive=True)
    for place, given, proposed in zip(found.rows.tolist(), found.given.tolist(), found.proposed.tolist(), strict=True):
        sure = float(seen[place, proposed])
        why = f'models that have not seen the row say "{question.names[proposed]}" ({sure:.2f})'
        wrong = float(1 - seen[place, given])
        yield Suspicion("suspect label", int(known[place]), question, proposed, wrong, why)


def conflicting_labels(question: Question, texts: Neighbours) -> Iterator[Suspicion]:
    """Rows whose text, or nearly the same one, has another label in most rows; of as many, where the models say so."""
    for text, rows in enumerate(texts.rows):
        if len(rows) > 1:
            yield from _outvoted(question, rows, rows, "equal texts", 1.0)
        near = texts.near.get(text, {})
        others = [other for other in near if len(texts.rows[other])]
        if len(rows) and others:
            voting = np.concatenate([rows, *(texts.rows[other] for other in others)])
            mean = sum(near[other] for other in others) / len(others)
            yield from _outvoted(question, rows, voting, "near-duplicate", mean)


def _outvoted(
    question: Question, judged: np.ndarray, voting: np.ndarray, kind: Kind, similarity: float
) -> Iterator[Suspicion]:
    """Those of the judged rows that are labelled otherwise than most of the voting ones."""
    voting = voting[question.targets_N[voting] >= 0]
    votes = np.bincount(question.targets_N[voting], minlength=len(question.names))
    if np.count_nonzero(votes) < 2:
        return
    best = _most_voted(votes, question.probabilities_NC[voting])
    if best is None:
        return
    alike = "the same text" if kind == "equal texts" else f"nearly the same text ({similarity:.2f})"
    for row in judged.tolist():
        given = int(question.targets_N[row])
        if given < 0 or given == best:
            continue
        wrong = float(1 - votes[given] / votes.sum()) * similarity
        why = f'{votes[best]:,} of {count(int(votes.sum()), "row")} with {alike} say "{question.names[best]}"'
        yield Suspicion(kind, row, question, best, wrong, why)


def _most_voted(votes: np.ndarray, seen_MC: np.ndarray) -> int | None:
    """The class with most votes; of as many, the one that the models find more probable; None where they say
    nothing."""
    top = np.flatnonzero(votes == votes.max())
    if len(top) == 1:
        return int(top[0])
    seen = seen_MC[~np.isnan(seen_MC).any(axis=1)]
    return int(top[seen[:, top].mean(axis=0).argmax()]) if len(seen) else None


def unequal_numbers(targets_N: np.ndarray, texts: Neighbours) -> Iterator[Suspicion]:
    """Rows of equal texts whose numbers differ; the one nearest to their median is kept."""
    for rows in texts.rows:
        rows = rows[has_label(targets_N[rows])]
        values = targets_N[rows]
        if len(rows) < 2 or values.min() == values.max():
            continue
        kept = int(rows[np.abs(values - np.median(values)).argmin()])
        for row in rows[values != targets_N[kept]].tolist():
            differing = float((values != targets_N[row]).mean())
            why = (
                f"{count(len(rows), 'row')} with the same text have numbers from {values.min():g} to {values.max():g}"
            )
            yield Suspicion("equal texts", row, None, -1, differing, why)


def leaks(name: str, held_out: np.ndarray, texts: Neighbours, in_training_N: np.ndarray) -> Iterator[Suspicion]:
    """Training rows that a held-out set holds too. `held_out`: int64, the text of each of its rows."""
    number, times = np.unique(held_out, return_counts=True)
    worth: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for text, num in zip(number.tolist(), times.tolist(), strict=True):
        alike = {text: 1.0, **texts.near.get(text, {})}
        rows = {other: texts.rows[other][in_training_N[texts.rows[other]]] for other in alike}
        total = sum(len(some) for some in rows.values())
        for other, some in rows.items():
            for row in some.tolist():
                worth[row].append((alike[other], num * alike[other] / total))
    for row, parts in sorted(worth.items()):
        most = max(similarity for similarity, _ in parts)
        what = "the same text" if most == 1.0 else f"nearly the same text ({most:.2f})"
        yield Suspicion("leak", row, None, -1, sum(part for _, part in parts), f"{what} is in the {name} rows")
