"""A decision against PyTorch on the logits, and against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from textune.config.taskkinds import AutoTask, BinaryTask
from textune.data.labels.map import LabelMap
from textune.tasks.decision import USUAL, Decision
from textune.tasks.shown import shown
from textune.tasks.task import build_task, with_decision

MULTICLASS = LabelMap("multiclass", ("a", "b", "c"))
BINARY = LabelMap("binary", ("no", "yes"))
MULTILABEL = LabelMap("multilabel", ("x", "y", "z"))


def head_of(label_map: LabelMap, decision: Decision, section: Any = None) -> Any:
    task = build_task(section or AutoTask(), {"label": label_map}, decisions={"label": decision})
    return task.head


@pytest.mark.parametrize("temperature", [0.3, 0.999, 1.7, 12.0])
@pytest.mark.parametrize(
    ("label_map", "section"),
    [(MULTICLASS, None), (BINARY, None), (BINARY, BinaryTask(num_logits=1)), (MULTILABEL, None)],
)
def test_a_temperature_divides_the_logits(label_map: LabelMap, section: Any, temperature: float) -> None:
    head = head_of(label_map, Decision(temperature), section)
    logits_BC = torch.randn(50, head.num_outputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5
    scores = head.scores(logits_BC).numpy()
    np.testing.assert_allclose(head.calibrated(scores), head.scores(logits_BC / temperature).numpy(), atol=1e-9)
    usual = with_decision(head, USUAL)
    assert np.array_equal(head.decide(scores), usual.decide(scores))  # it moves no usual answer
    assert usual.calibrated(scores) is scores  # not a bit of it


def test_slopes_and_shifts_move_the_logits() -> None:
    scores = np.random.default_rng(0).random((50, 3))
    seen = head_of(MULTILABEL, Decision(platt=((1.0, 0.0), (0.5, -2.0), (3.0, 1.0)))).calibrated(scores)
    logits = np.log(scores / (1 - scores)) * [1.0, 0.5, 3.0] + [0.0, -2.0, 1.0]
    np.testing.assert_allclose(seen, 1 / (1 + np.exp(-logits)), rtol=1e-12)
    pair = np.stack([1 - scores[:, 1], scores[:, 1]], axis=1)
    of_two = head_of(BINARY, Decision(platt=((0.5, -2.0),))).calibrated(pair)
    np.testing.assert_allclose(of_two[:, 1], seen[:, 1], rtol=1e-12)
    np.testing.assert_allclose(of_two.sum(axis=1), 1.0)


def test_scores_without_a_finite_logit_stay_probabilities() -> None:
    classes = np.array([[1.0, 0.0, 0.0], [1e-300, 1.0, 0.0]])
    two, labels = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1.0, 0.5]])
    for label_map, scores in ((MULTICLASS, classes), (BINARY, two), (MULTILABEL, labels)):
        calibrated = head_of(label_map, Decision(2.0)).calibrated(scores)
        assert np.isfinite(calibrated).all() and (calibrated >= 0).all() and (calibrated <= 1).all()
        if label_map.exclusive:
            np.testing.assert_allclose(calibrated.sum(axis=1), 1)
        assert np.array_equal(np.argsort(calibrated, kind="stable"), np.argsort(scores, kind="stable"))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize(("label_map", "size"), [(MULTICLASS, 3), (BINARY, 2)])
def test_costs_give_the_answer_of_the_lowest_expected_cost(label_map: LabelMap, size: int, temperature: float) -> None:
    random = np.random.default_rng(0)
    costs = random.integers(0, 9, (size, size)).astype(float)
    head = head_of(label_map, Decision(temperature, costs=tuple(map(tuple, costs))))
    scores = random.dirichlet(np.ones(size), 200)
    calibrated = head.calibrated(scores)
    for row, answer in zip(calibrated, head.decide(scores), strict=True):
        expected = [sum(row[true] * costs[true][said] for true in range(size)) for said in range(size)]
        assert expected[answer] == pytest.approx(min(expected))


def test_costs_of_labels_are_those_of_each_by_itself() -> None:
    head = head_of(MULTILABEL, Decision(1.5, costs=((0.0, 1.0), (4.0, 0.0))))
    scores = np.random.default_rng(0).random((100, 3))
    # to give a label costs (1 - p), to withhold it 4 p: it is given above 0.2
    assert np.array_equal(head.decide(scores), (head.calibrated(scores) > 0.2).astype(int))


def test_thresholds_are_of_calibrated_probabilities() -> None:
    scores = np.random.default_rng(0).random((100, 3))
    labels = head_of(MULTILABEL, Decision(0.5, (0.1, 0.5, 0.9)))
    assert np.array_equal(labels.decide(scores), (labels.calibrated(scores) >= [0.1, 0.5, 0.9]).astype(int))
    second = np.stack([1 - scores[:, 0], scores[:, 0]], axis=1)
    binary = head_of(BINARY, Decision(0.5, (0.2,)))
    assert np.array_equal(binary.decide(second), (binary.calibrated(second)[:, 1] >= 0.2).astype(int))


def test_an_unsure_answer_is_withheld_and_its_probability_stays() -> None:
    scores = np.array([[0.5, 0.3, 0.2], [0.8, 0.15, 0.05]])
    head = head_of(MULTICLASS, Decision(abstain_below=0.6))
    seen = shown(head, scores)
    assert seen.answers == [None, "a"] and seen.best_N.tolist() == [0.5, 0.8]
    sharper = shown(replace(head, decision=Decision(0.2, abstain_below=0.6)), scores)
    assert sharper.answers == ["a", "a"]  # what counts is the calibrated probability
    by_class = shown(replace(head, decision=Decision(abstain_below=(0.4, 0.9, 0.9))), scores)
    assert by_class.answers == ["a", "a"]  # the bound of the answer's own class counts
    assert shown(replace(head, decision=Decision(abstain_below=(0.7, 0.0, 0.0))), scores).answers == [None, "a"]
    costly = Decision(costs=((0.0, 1.0, 1.0), (9.0, 0.0, 1.0), (1.0, 1.0, 0.0)), abstain_below=0.25)
    seen = shown(replace(head, decision=costly), scores)
    assert seen.answers == ["b", None] and seen.best_N.tolist() == [0.3, 0.15]  # that of the answer, not the highest


@pytest.mark.parametrize(
    ("decision", "label_map"),
    [
        (Decision(thresholds=(0.5,)), MULTICLASS),
        (Decision(thresholds=(0.5, 0.5)), BINARY),
        (Decision(thresholds=(0.5, 0.5)), MULTILABEL),
        (Decision(costs=((0.0, 1.0), (1.0, 0.0))), MULTICLASS),
        (Decision(costs=((0.0,) * 3,) * 3), MULTILABEL),
        (Decision(abstain_below=0.5), MULTILABEL),
        (Decision(platt=((1.0, 0.0),)), MULTICLASS),
        (Decision(platt=((1.0, 0.0), (1.0, 0.0))), MULTILABEL),
        (Decision(platt=((1.0, 0.0), (1.0, 0.0))), BINARY),
        (Decision(abstain_below=(0.5, 0.5)), MULTICLASS),
    ],
)
def test_a_rule_fits_its_labels(decision: Decision, label_map: LabelMap) -> None:
    assert not decision.fits(len(label_map.names), exclusive=label_map.exclusive)
    assert USUAL.fits(len(label_map.names), exclusive=label_map.exclusive)


def test_numbers_that_are_no_rule_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        *({"temperature": value} for value in (0.0, -1.0, float("nan"), float("inf"))),
        *({"thresholds": (value,)} for value in (-0.1, 1.1, float("nan"))),
        *({"costs": value} for value in (((0.0, 1.0),), ((0.0, -1.0), (1.0, 0.0)), ((0.0, float("nan")), (1.0, 0.0)))),
        {"thresholds": (0.5,), "costs": ((0.0, 1.0), (1.0, 0.0))},
        {"abstain_below": 1.5},
        *({"platt": ((slope, 0.0),)} for slope in (0.0, -1.0, float("nan"), float("inf"))),
        {"platt": ((1.0, float("nan")),)},
        {"platt": ((1.0, 0.0),), "temperature": 2.0},
        {"abstain_below": (0.5, -0.5, 0.5)},
    ]
    for fields in wrong:
        with pytest.raises(ValueError):
            Decision(**fields)


def test_a_regression_has_nothing_to_decide() -> None:
    head = build_task(AutoTask(), {"label": LabelMap("regression", ("value",))}).head
    assert with_decision(head, Decision(2.0)) is head and head.decision == USUAL
    numbers = np.array([1.5, -2.0])
    assert head.calibrated(numbers) is numbers and shown(head, numbers).answers == [1.5, -2.0]
