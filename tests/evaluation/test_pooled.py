"""Rows of several evaluations as one set: every head, rows without a label, samples of scores, slices, decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kits.errors import refused
from kits.evaluated import evaluated, facts, random_set, slicing
from kits.metrics import PROBLEMS, same
from kits.severalheads import answered

from textune.data.labels.map import LABEL
from textune.errors import RunError
from textune.evaluation import reduction
from textune.evaluation.evaluated import EvaluatedSet
from textune.evaluation.heads import ScoredRows
from textune.evaluation.mainmetric import all_metrics
from textune.evaluation.pooled import pool_rows
from textune.evaluation.scored import Scored
from textune.tasks.decision import USUAL, Decision
from textune.tasks.task import with_decision

FIELDS = ("targets", "predictions", "loss", "sureness", "suspect", "scores")


def cut(whole: EvaluatedSet, folds: int = 3) -> list[EvaluatedSet]:
    """The rows of a set as several sets, as folds would cut it; the whole is in the order of its rows."""
    fold_N = np.random.default_rng(0).integers(0, folds, len(whole))
    return [part_of(whole, np.flatnonzero(fold_N == fold)) for fold in range(folds)]


def part_of(whole: EvaluatedSet, rows: np.ndarray) -> EvaluatedSet:
    by_head = {}
    for name, scored in whole.scored.by_head.items():
        own = np.arange(len(whole)) if scored.rows is None else scored.rows
        chosen = np.flatnonzero(np.isin(own, rows))
        taken = scored.take(chosen)
        place = np.searchsorted(rows, own[chosen])
        by_head[name] = taken if len(place) == len(rows) else replace(taken, rows=place)
    known = whole.facts
    parts = {name: getattr(known, name)[rows] for name in ("row", "content", "tokens", "truncated")}
    slicings = tuple(replace(one, slice_N=one.slice_N[rows]) for one in known.slicings)
    return replace(
        whole,
        scored=ScoredRows(whole.scored.heads, len(rows), by_head),
        facts=replace(known, **parts, slicings=slicings),
    )


def require_same_rows(one: Scored, other: Scored) -> None:
    assert all(same(getattr(one, name), getattr(other, name)) for name in (*FIELDS, "rows", "probabilities"))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_folds_put_together_are_the_whole(problem: str) -> None:
    sliced = (slicing(60, "imdb", "web"), slicing(60, "x", column="weekday", seed=1))
    whole = random_set(problem, 1, facts=replace(facts(60, slicings=sliced), row=np.arange(60) * 2 + 5))
    pooled, order = pool_rows(cut(whole), name="held-out", dataset="x")
    assert (pooled.name, pooled.dataset, pooled.fingerprint) == ("held-out", "x", whole.fingerprint)
    assert pooled.facts.row.tolist() == whole.facts.row.tolist() and np.array_equal(np.sort(order), np.arange(60))
    require_same_rows(pooled.scored.by_head[LABEL], whole.scored.by_head[LABEL])
    for mine, theirs in zip(pooled.facts.slicings, whole.facts.slicings, strict=True):
        assert [mine.values[code] for code in mine.slice_N] == [theirs.values[code] for code in theirs.slice_N]
    assert str(all_metrics(pooled.scored, pooled.main)) == str(all_metrics(whole.scored, whole.main))


def test_rows_without_a_label_for_a_head() -> None:
    whole = evaluated(answered(41, 3).scored())
    whole = replace(whole, facts=replace(whole.facts, row=np.arange(41)))
    pooled, _ = pool_rows(cut(whole), name="held-out", dataset="x")
    assert pooled.scored.by_head.keys() == whole.scored.by_head.keys()
    for name, scored in whole.scored.by_head.items():
        require_same_rows(pooled.scored.by_head[name], scored)


def test_a_row_of_several_seeds_stands_once_for_each() -> None:
    whole = random_set("multiclass", 1, facts=replace(facts(60), row=np.arange(60)))
    pooled, order = pool_rows([whole, whole], name="held-out", dataset="x")
    assert pooled.facts.row.tolist() == np.repeat(np.arange(60), 2).tolist()
    assert order.tolist() == [number for row in range(60) for number in (row, 60 + row)]


def test_more_scores_than_there_is_room_for_are_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random_set("multiclass", 1, facts=replace(facts(60), row=np.arange(60)))
    monkeypatch.setattr(reduction, "MAX_SCORES", 90)
    scores = whole.scored.by_head[LABEL].scores
    assert scores is not None
    room = 90 // scores.shape[1]
    sampled, _ = pool_rows(cut(whole), name="held-out", dataset="x")
    found = sampled.scored.by_head[LABEL]
    assert found.scores is None and found.sample is not None and found.sample.rows is not None
    assert len(found.sample) == room and np.array_equal(found.sample.scores, scores[found.sample.rows])
    assert np.array_equal(found.sample.targets, whole.scored.by_head[LABEL].targets[found.sample.rows])
    # samples of each set, put together, and then no more of them than there is room for
    again, _ = pool_rows([sampled, sampled], name="held-out", dataset="x")
    twice = again.scored.by_head[LABEL]
    assert twice.sample is not None and len(twice.sample) == room and twice.sample.rows is not None
    assert np.array_equal(twice.sample.scores, scores[twice.sample.rows // 2])


def test_answers_stay_and_a_rule_that_differs_does_not() -> None:
    whole = random_set("binary", 1, facts=replace(facts(60), row=np.arange(60)))
    first, *others = cut(whole)
    head = with_decision(whole.scored.heads[0], Decision(thresholds=(0.2,)))
    scored = replace(first.scored.by_head[LABEL], head=head)
    other = replace(first, scored=ScoredRows((head,), len(first), {LABEL: scored}))
    pooled, _ = pool_rows([other, *others], name="held-out", dataset="x")
    assert pooled.scored.heads[0].decision == USUAL
    assert np.array_equal(pooled.scored.by_head[LABEL].predictions, whole.scored.by_head[LABEL].predictions)
    alone, _ = pool_rows([other], name="held-out", dataset="x")
    assert alone.scored.heads[0].decision == head.decision


def test_rows_of_other_data_are_refused() -> None:
    first, second, third = cut(random_set("multiclass", 1, facts=replace(facts(60), row=np.arange(60))))
    for other in (replace(second, fingerprint="other"), random_set("binary", 2)):
        with refused(RunError, place=other.dataset):
            pool_rows([first, other, third], name="x", dataset="x")
