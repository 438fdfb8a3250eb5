"""The rows of several evaluations of one source as one set, in the order of the source; after `evaluated.py`.

Each row keeps the answer that it got, by whatever rule. Nothing is computed but where a row stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from textune.data import Slicing
from textune.errors import RunError
from textune.evaluation.evaluated import EvaluatedSet, RowFacts, positions_of
from textune.evaluation.heads import ScoredRows
from textune.evaluation.reduction import num_ranked
from textune.evaluation.scored import Scored
from textune.tasks import USUAL, Head, with_decision

_PER_ROW = ("targets", "predictions", "loss", "sureness", "suspect", "row_losses", "row_weights")
"""Arrays of a head with a value for each row."""


def pool_rows(sets: Sequence[EvaluatedSet], *, name: str, dataset: str) -> tuple[EvaluatedSet, np.ndarray]:
    """All N rows of the sets as one, by their number in the source; those of one number in the order of the sets.

    Also int64 [N]: which row each was, counted through the sets as they are given. A head whose rule of decision
    differs between the sets has the usual one. RunError for sets of other sources or with other labels.
    """
    first = sets[0]
    for other in sets[1:]:
        _require_alike(first, other)
    sizes = [len(one) for one in sets]
    starts = np.cumsum([0, *sizes[:-1]])
    order_N = np.argsort(np.concatenate([one.facts.row for one in sets]), kind="stable")
    place_N = np.empty(len(order_N), np.int64)
    place_N[order_N] = np.arange(len(order_N))
    heads: list[Head] = []
    by_head: dict[str, Scored] = {}
    for head in first.scored.heads:
        parts = [one.scored.by_head.get(head.name) for one in sets]
        heads.append(_head_of([one.scored.heads[len(heads)] for one in sets]))
        found = [
            (part, place_N[start + positions_of(one.scored, head.name)], start)
            for one, part, start in zip(sets, parts, starts, strict=True)
            if part is not None
        ]
        if found:
            by_head[head.name] = _pooled(heads[-1], found, place_N)
    scored = ScoredRows(tuple(heads), int(sum(sizes)), by_head)
    facts = _facts([one.facts for one in sets], order_N)
    return EvaluatedSet(name, dataset, first.fingerprint, first.main, scored, facts), order_N


def _require_alike(first: EvaluatedSet, other: EvaluatedSet) -> None:
    labels = [{head.name: head.labels for head in one.scored.heads} for one in (first, other)]
    reason = (
        "they are of other data"
        if first.fingerprint != other.fingerprint
        else "they have other labels"
        if labels[0] != labels[1]
        else "they have another main metric"
        if first.main != other.main
        else ""
    )
    if reason:
        raise RunError(
            f"the rows of {other.dataset} cannot be pooled with those of {first.dataset}: {reason}.",
            place=other.dataset,
            reason=reason,
        )


def _head_of(heads: Sequence[Head]) -> Head:
    return heads[0] if all(head.decision == heads[0].decision for head in heads) else with_decision(heads[0], USUAL)


def _pooled(head: Head, parts: Sequence[tuple[Scored, np.ndarray, int]], place_N: np.ndarray) -> Scored:
    """The rows of one head: of each set, what is scored, where its rows stand in the end, and the number of its first
    row through the sets."""
    place = np.concatenate([found for _, found, _ in parts])
    joined = replace(_joined(head, [part for part, _, _ in parts], np.argsort(place)), rows=np.sort(place))
    if len(place) == len(place_N):
        joined = replace(joined, rows=None)
    if any(part.ranked.scores is None for part, _, _ in parts):
        return joined
    # The number of a row in its set is `rows` of a sample, or its position.
    kept = [
        found if part.sample is None else place_N[start + np.asarray(part.sample.rows)] for part, found, start in parts
    ]
    ranked, among = np.concatenate(kept), [part.ranked for part, _, _ in parts]
    scores, seen = np.concatenate([one.scores for one in among]), np.concatenate([one.seen for one in among])
    order = np.argsort(ranked)
    room = num_ranked(head.answers, len(place))
    if room < len(order):
        order = order[np.sort(np.random.default_rng(0).choice(len(order), room, replace=False))]
    probabilities = seen[order] if any(one.probabilities is not None for one in among) else None
    if len(order) == len(place):
        return replace(joined, scores=scores[order], probabilities=probabilities)
    sample = replace(
        _joined(head, among, order), scores=scores[order], probabilities=probabilities, rows=ranked[order]
    )
    return replace(joined, sample=sample)


def _joined(head: Head, parts: Sequence[Scored], order: np.ndarray) -> Scored:
    """What is known of each row, one part after the other, and then in this order."""
    values: dict[str, np.ndarray | None] = {}
    for name in _PER_ROW:
        found = [getattr(part, name) for part in parts]
        values[name] = None if any(one is None for one in found) else np.concatenate(found)[order]
    return Scored(head, **values)  # type: ignore[arg-type]  # targets and predictions are always there


def _facts(parts: Sequence[RowFacts], order_N: np.ndarray) -> RowFacts:
    def all_of(name: str) -> np.ndarray:
        return np.asarray(np.concatenate([getattr(part, name) for part in parts])[order_N])

    slicings = []
    for number, slicing in enumerate(parts[0].slicings):
        columns = [part.slicings[number] for part in parts]
        values = tuple(sorted({value for column in columns for value in column.values}))
        codes = [
            np.array([*(values.index(value) for value in column.values), -1], np.int32)[column.slice_N]
            for column in columns
        ]
        slicings.append(Slicing(slicing.column, values, np.concatenate(codes)[order_N]))
    return RowFacts(all_of("row"), all_of("content"), all_of("tokens"), all_of("truncated"), tuple(slicings))
