"""Bootstrap intervals: coverage on simulated data, cells against rows, bounded work, undefined values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from textune.evaluation import METRICS, bootstrap_interval, intervals, metrics_for
from textune.evaluation.intervals import interval_of
from textune.evaluation.scored import Scored

NUM_ROWS = 400


def simulate(problem: str, seed: int, num_rows: int = NUM_ROWS) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    if problem == "regression":
        targets = random.normal(size=num_rows)
        return targets, targets + random.normal(size=num_rows)
    num_classes = {"binary": 2, "multiclass": 5, "multilabel": 3}[problem]
    if problem == "multilabel":
        labels = (random.random((num_rows, num_classes)) < 0.3).astype(np.float32)
        return labels, 1 / (1 + np.exp(1 - 2 * labels - random.normal(size=labels.shape)))
    targets = random.integers(0, num_classes, num_rows)
    logits = random.normal(size=(num_rows, num_classes))
    logits[np.arange(num_rows), targets] += 1
    exponents = np.exp(logits)
    return targets, exponents / exponents.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        ("multiclass", "accuracy"),
        ("multiclass", "f1_macro"),
        ("binary", "roc_auc"),
        ("multilabel", "f1_micro"),
        ("regression", "pearson"),
    ],
)
def test_nineteen_of_twenty_intervals_hold_the_true_value(problem: Any, name: str) -> None:
    metric = METRICS[name]
    truth = metric.function(Scored(problem, *simulate(problem, 999, 200_000)), None)
    trials, held = 150, 0
    for seed in range(trials):
        lower, upper = bootstrap_interval(metric, problem, *simulate(problem, seed), samples=150, seed=seed)
        held += lower <= truth <= upper
    assert 0.88 <= held / trials <= 0.995


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_resampling_cells_is_like_resampling_rows(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Scored(problem, *simulate(problem, 3))
    cells, _ = intervals._cells(scored)
    assert len(cells) < len(scored) / 4
    metrics = [metric for metric in metrics_for(problem) if metric.uses == "decisions"]
    fast = {metric.name: interval_of(metric, scored, samples=1500, seed=1) for metric in metrics}
    monkeypatch.setattr(intervals, "_cells", lambda scored: (scored, intervals._draw_rows(len(scored))))
    for metric in metrics:
        lower, upper = interval_of(metric, scored, samples=1500, seed=2)
        width = upper - lower
        assert width > 0
        assert fast[metric.name] == pytest.approx((lower, upper), abs=0.15 * width), metric.name


def test_cells_keep_every_row() -> None:
    for problem in ("multiclass", "multilabel"):
        scored = Scored(problem, *simulate(problem, 4))  # type: ignore[arg-type]
        _, draw = intervals._cells(scored)
        assert draw(np.random.default_rng(0)).sum() == NUM_ROWS


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_every_metric_has_an_interval_around_its_value(problem: Any) -> None:
    targets, scores = simulate(problem, 5)
    targets = targets + 10 if problem == "regression" else targets  # away from 0, where mape is undefined
    for metric in metrics_for(problem):
        lower, upper = bootstrap_interval(metric, problem, targets, scores, samples=200)
        assert lower < metric.function(Scored(problem, targets, scores), None) < upper, metric.name


def test_the_seed_decides() -> None:
    targets, scores = simulate("binary", 1)
    for name in ("accuracy", "roc_auc"):
        first, again, other = (
            bootstrap_interval(METRICS[name], "binary", targets, scores, samples=50, seed=seed) for seed in (7, 7, 8)
        )
        assert first == again != other


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "f1_micro"])
def test_too_much_work_is_done_on_a_part_of_the_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem: Any = "multilabel" if name == "f1_micro" else "binary"
    targets, scores = simulate(problem, 2, 20_000)
    whole = bootstrap_interval(METRICS[name], problem, targets, scores, samples=300)
    monkeypatch.setattr(intervals, "MAX_WORK", 300 * 3 * 2000)
    monkeypatch.setattr(intervals, "_cells", lambda scored: (scored, intervals._draw_rows(len(scored))))
    asked: list[int] = []
    draw_rows = intervals._draw_rows
    monkeypatch.setattr(intervals, "_draw_rows", lambda num_rows: (asked.append(num_rows), draw_rows(num_rows))[1])
    part = bootstrap_interval(METRICS[name], problem, targets, scores, samples=300)
    assert asked[-1] < 20_000
    assert part == pytest.approx(whole, abs=0.3 * (whole[1] - whole[0]))


def test_far_too_much_work_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MAX_WORK", 1000)
    limits = bootstrap_interval(METRICS["roc_auc"], "binary", *simulate("binary", 2), samples=10)
    assert all(math.isnan(limit) for limit in limits)


@pytest.mark.parametrize(
    ("name", "targets", "samples"),
    [
        ("accuracy", [1], 100),  # one row
        ("roc_auc", [1, 1, 1], 100),  # undefined
        ("accuracy", [0, 1, 1], 0),  # not asked for
    ],
)
def test_no_interval(name: str, targets: list[int], samples: int) -> None:
    scores = np.array([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])[: len(targets)]
    limits = bootstrap_interval(METRICS[name], "binary", np.array(targets), scores, samples=samples)
    assert all(math.isnan(limit) for limit in limits)


def test_undefined_resamples_are_left_out_unless_they_are_most() -> None:
    # with one positive among the rows, a third of the resamples have none
    targets, scores = np.zeros(20, dtype=np.int64), np.full((20, 2), 0.5)
    targets[0] = 1
    lower, upper = bootstrap_interval(METRICS["roc_auc"], "binary", targets, scores)
    assert lower == upper == 0.5
    # two rows of different classes: half of the resamples hold one class only
    limits = bootstrap_interval(METRICS["roc_auc"], "binary", targets[:2], scores[:2], samples=1001, seed=3)
    assert limits == (0.5, 0.5) or all(math.isnan(limit) for limit in limits)


def test_perfect_predictions_have_a_point() -> None:
    targets = np.arange(50) % 3
    assert bootstrap_interval(METRICS["accuracy"], "multiclass", targets, np.eye(3)[targets]) == (1, 1)
