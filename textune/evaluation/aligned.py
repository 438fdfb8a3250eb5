"""Evaluated sets brought to the same rows in the same order, with labels by the same ids; after `pairing.py`, before
`versus.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from textune.errors import RunError
from textune.evaluation.evaluated import EvaluatedSet, positions_of
from textune.evaluation.heads import ScoredRows
from textune.evaluation.pairing import Pairing, pair_rows
from textune.evaluation.scored import Scored
from textune.tasks import Head
from textune.wording import count, listing


def align(sets: Sequence[EvaluatedSet], names: Sequence[str], *, common: bool = False) -> list[EvaluatedSet]:
    """The sets of several runs, `names`, as the rows of the first one. RunError where a run was evaluated on other
    rows, unless `common` leaves out what one of them lacks; where labels are others; where no row is common."""
    first = sets[0]
    pairings = [pair_rows(first, other) for other in sets[1:]]
    for name, other, pairing in zip(names[1:], sets[1:], pairings, strict=True):
        _require_same_heads(first, other, names[0], name)
        if not pairing.is_complete and not common:
            raise _other_rows(first, other, pairing, names[0], name)
    chosen = np.arange(len(first))
    for pairing in pairings:
        chosen = chosen[np.isin(chosen, pairing.first, assume_unique=True)]
    if not len(chosen):
        raise RunError(
            f"{listing(names)} have no row of {first.name} in common.",
            hint="Evaluate them on the same file: `textune evaluate RUN --data FILE`.",
            key="runs",
            value=tuple(names),
            reason="no row is common",
        )
    found = [_taken(first, chosen)]
    for name, other, pairing in zip(names[1:], sets[1:], pairings, strict=True):
        place = np.searchsorted(pairing.first, chosen)
        one = _taken(_relabelled(other, first), pairing.other[place])
        _require_same_labels(found[0], one, names[0], name)
        found.append(one)
    return found


def _taken(one: EvaluatedSet, chosen: np.ndarray) -> EvaluatedSet:
    return one if np.array_equal(chosen, np.arange(len(one))) else one.take(chosen)


def _other_rows(first: EvaluatedSet, other: EvaluatedSet, pairing: Pairing, name: str, other_name: str) -> RunError:
    """The error for runs that were evaluated on other rows: how many, and the first."""
    said = [
        f"{count(len(rows), 'row')} of {whose}, the first of them row {int(one.facts.row[rows].min()) + 1:,} of"
        f" {one.dataset.partition(': ')[2] or one.dataset}"
        for rows, one, whose in ((pairing.only_first, first, name), (pairing.only_other, other, other_name))
        if len(rows)
    ]
    kept = f"they share {count(len(pairing.first), 'row')}"
    return RunError(
        f"{name} and {other_name} were evaluated on other rows of {first.name}: only one of them has"
        f" {' and '.join(said)}; {kept}.",
        hint="Compare the rows that all have with --common, or evaluate both on one file: `textune evaluate RUN --data"
        " FILE`.",
        key="runs",
        value=other_name,
        place=first.name,
        reason=f"{len(pairing.only_first) + len(pairing.only_other):,} rows are not in both",
    )


def _require_same_heads(first: EvaluatedSet, other: EvaluatedSet, name: str, other_name: str) -> None:
    """RunError where the models answer other questions, or have other labels."""
    mine, theirs = ({head.name: head.label_map for head in one.scored.heads} for one in (first, other))
    reason = ""
    if mine.keys() != theirs.keys():
        reason = f"one predicts {listing(mine)}, the other {listing(theirs)}"
    for head in mine.keys() & theirs.keys():
        ours, its = mine[head], theirs[head]
        if ours.problem != its.problem:
            reason = f"one is {ours.problem}, the other {its.problem}"
        elif lacking := sorted(set(ours.names) ^ set(its.names)):
            reason = f"only one of them has {listing(map(repr, lacking), 5)}"
    if reason:
        raise RunError(
            f"{name} and {other_name} have other labels: {reason}.",
            hint="Compare runs that were trained for the same labels.",
            key="runs",
            value=other_name,
            reason=reason,
        )


def _require_same_labels(first: EvaluatedSet, other: EvaluatedSet, name: str, other_name: str) -> None:
    """RunError where the same rows have other labels."""
    differs_N = np.zeros(len(first), bool)
    for head in [head.name for head in first.scored.heads]:
        has = [np.zeros(len(first), bool) for _ in (0, 1)]
        for side, one in zip(has, (first, other), strict=True):
            if head in one.scored.by_head:
                side[positions_of(one.scored, head)] = True
        differs_N |= has[0] != has[1]
        if not np.array_equal(has[0], has[1]) or head not in first.scored.by_head:
            continue
        mine, theirs = first.scored.by_head[head], other.scored.by_head[head]
        if mine.answers.measures.of_texts:  # how much of a text is scored depends on the tokenizer
            continue
        unequal = (mine.targets != theirs.targets).reshape(len(mine), -1).any(axis=1)
        differs_N[positions_of(first.scored, head)[unequal]] = True
    if differs_N.any():
        where = int(first.facts.row[differs_N].min())
        raise RunError(
            f"{int(differs_N.sum()):,} of {count(len(first), 'row')} of {first.name} have other labels in {other_name}"
            f" than in {name}, the first of them row {where + 1:,}.",
            hint="Evaluate both runs on one file: `textune evaluate RUN --data FILE`.",
            key="runs",
            value=other_name,
            place=f"row {where + 1}",
            reason=f"{int(differs_N.sum()):,} rows have other labels",
        )


def _relabelled(one: EvaluatedSet, like: EvaluatedSet) -> EvaluatedSet:
    """The set with labels by the ids of another one, which has the same names."""
    heads = {head.name: head for head in like.scored.heads}
    by_head = {name: _by_ids(rows, heads[name]) for name, rows in one.scored.by_head.items()}
    scored = ScoredRows(tuple(heads[head.name] for head in one.scored.heads), one.scored.num_rows, by_head)
    return replace(one, scored=scored)


def _by_ids(rows: Scored, head: Head) -> Scored:
    """Rows whose targets and answers are those of a head with the same labels in another order."""
    if rows.head.labels == head.labels:
        return replace(rows, head=head)
    ids = head.label_map.ids
    new_C = np.array([ids[name] for name in rows.head.labels])
    old_C = np.argsort(new_C)

    def moved(stored: np.ndarray) -> np.ndarray:
        if head.label_map.exclusive:
            return np.asarray(new_C[stored], stored.dtype)
        choices = rows.answers.choices
        assert choices is not None, "numbers have one name"
        return rows.answers.store(choices.hits(stored)[:, old_C])

    return replace(
        rows,
        head=head,
        targets=moved(rows.targets),
        predictions=moved(rows.predictions),
        suspect=None if rows.suspect is None else np.where(rows.suspect < 0, -1, new_C[rows.suspect]).astype(np.int32),
        scores=None if rows.scores is None else rows.scores[:, old_C],
        probabilities=None if rows.probabilities is None else rows.probabilities[:, old_C],
        sample=None if rows.sample is None else _by_ids(rows.sample, head),
    )
