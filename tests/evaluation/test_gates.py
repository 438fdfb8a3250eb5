"""Gates: what a threshold is compared with is what a head then answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kits.evaluated import random_set

from textune.evaluation.gates import Gate
from textune.evaluation.guarantee import Aim, measure, prove
from textune.tasks.decision import Decision
from textune.tasks.shown import shown

GATES = [("binary", 0), ("binary", 1), ("binary", None), ("multiclass", 2), ("multiclass", None), ("multilabel", 1)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(("problem", "label"), GATES)
def test_what_passes_the_gate_is_answered(problem: str, label: int | None, temperature: float) -> None:
    scored = random_set(problem, num_rows=300).scored
    (only,) = scored.by_head.values()
    head = replace(only.head, decision=Decision(temperature))
    gate = Gate(head, label)
    rows = gate.rows(only)
    known = np.unique(rows.scores[np.isfinite(rows.scores)])
    for threshold in known[:: max(1, len(known) // 7)].tolist():
        decided = replace(head, decision=gate.with_threshold(threshold))
        assert Gate(decided, label).threshold == threshold
        answers = shown(decided, only.ranked.scores).answers
        name = None if label is None else head.labels[label]
        if problem == "multilabel":
            given = [name in answer for answer in answers]
        elif name is None:
            given = [answer is not None for answer in answers]
        else:
            given = [answer == name for answer in answers]
        assert np.array_equal(given, rows.scores >= threshold)


@pytest.mark.parametrize(("problem", "label"), GATES)
def test_a_row_is_right_where_its_answer_is(problem: str, label: int | None) -> None:
    (scored,) = random_set(problem, num_rows=200).scored.by_head.values()
    rows = Gate(scored.head, label).rows(scored)
    hits = scored.ranked.hits
    if label is None:
        assert np.array_equal(rows.right, scored.right) and rows.missed.all()
    else:
        assert np.array_equal(rows.right, hits[:, label]) and np.array_equal(rows.missed, rows.right)


def test_a_gate_leaves_the_other_thresholds() -> None:
    (labels,) = random_set("multilabel").scored.by_head.values()
    rule = Gate(replace(labels.head, decision=Decision(0.7, (0.2, 0.3, 0.4, 0.6))), 2).with_threshold(0.9)
    assert rule == Decision(0.7, (0.2, 0.3, 0.9, 0.6))
    (classes,) = random_set("multiclass").scored.by_head.values()
    rule = Gate(replace(classes.head, decision=Decision(abstain_below=0.3)), 1).with_threshold(0.8)
    assert rule.abstain_below == (0.3, 0.8, 0.3, 0.3)
    costs = Decision(costs=((0.0, 1.0), (2.0, 0.0)))
    (two,) = random_set("binary").scored.by_head.values()
    assert Gate(replace(two.head, decision=costs), 1).with_threshold(0.8) == Decision(thresholds=(0.8,))
    assert Gate(replace(two.head, decision=costs), None).with_threshold(0.8).costs == costs.costs


def test_a_threshold_in_force_is_measured() -> None:
    (scored,) = random_set("binary", num_rows=2_000).scored.by_head.values()
    gate = Gate(scored.head, 1)
    assert gate.threshold == 0.5
    rows = gate.rows(scored)
    aim = Aim("recall", 0.5)
    found = prove(aim, rows)
    assert found is not None
    after = Gate(replace(scored.head, decision=gate.with_threshold(found.threshold)), 1)
    assert measure(aim, after.rows(scored), after.threshold) == found


@pytest.mark.parametrize("bound", [None, 0.7, (0.9, 0.6)])
@pytest.mark.parametrize("label", [0, 1])
def test_certain_and_withheld_rows_of_two_classes(label: int, bound: float | tuple[float, ...] | None) -> None:
    """What is measured is what is answered, also where a probability is 1 and where answers are withheld."""
    (scored,) = random_set("binary", num_rows=300).scored.by_head.values()
    second_N = np.linspace(0.02, 0.98, 300)
    second_N[:40], second_N[40:80], second_N[80:90] = 1.0, 0.0, 1.0 + 1e-7
    scored = replace(scored, scores=np.stack([1 - second_N, second_N], axis=1))
    gate = Gate(replace(scored.head, decision=Decision(abstain_below=bound)), label)
    rows = gate.rows(scored)
    for threshold in np.unique(rows.scores[np.isfinite(rows.scores)])[::20].tolist():
        decided = replace(scored.head, decision=gate.with_threshold(threshold))
        answers = shown(decided, scored.ranked.scores).answers
        given = [answer == decided.labels[label] for answer in answers]
        assert np.array_equal(given, rows.scores >= threshold)
        assert Gate(decided, label).threshold == threshold


def test_which_thresholds_move_each_other() -> None:
    heads = {kind: random_set(kind).scored.heads[0] for kind in ("binary", "multiclass", "multilabel")}
    moved = {
        kind: [(one, other) for one in (0, 1, None) for other in (0, 1, None) if Gate(head, one).moves(other)]
        for kind, head in heads.items()
    }
    assert len(moved["binary"]) == 9
    assert set(moved["multiclass"]) == {(0, 0), (1, 1), *((None, one) for one in (0, 1, None)), (0, None), (1, None)}
    assert moved["multilabel"] == [(0, 0), (1, 1), (None, None)]
