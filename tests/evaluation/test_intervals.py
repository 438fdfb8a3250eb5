"""Bootstrap intervals: coverage on simulated data, cells against rows, bounded work, undefined values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from textune.evaluation import METRICS, Metric, Scored, bootstrap_interval, intervals, metrics_for, scored_rows

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


def mean_right(scored: Scored) -> float:
    return float(np.average(scored.right, weights=scored.weights))


def mean_error(scored: Scored) -> float:
    return float(np.average(np.abs(scored.targets - scored.predictions), weights=scored.weights))


# what costs next to nothing, for tests of the drawing alone
RIGHT = Metric("right", ("binary", "multiclass", "multilabel"), True, mean_right, "share of right rows")
ERROR = Metric("error", ("regression",), False, mean_error, "mean error", "scores")


@pytest.mark.parametrize(("problem", "metric"), [("multiclass", RIGHT), ("multilabel", RIGHT), ("regression", ERROR)])
def test_nineteen_of_twenty_intervals_hold_the_true_value(problem: Any, metric: Metric) -> None:
    truth = metric.of(scored_rows(problem, *simulate(problem, 999, 200_000)))
    trials, held = 100, 0
    for seed in range(trials):
        lower, upper = bootstrap_interval(metric, scored_rows(problem, *simulate(problem, seed)), samples=120, seed=seed)
        held += lower <= truth <= upper
    assert 0.89 <= held / trials <= 0.985


def test_intervals_are_as_wide_as_theory_says() -> None:
    targets, scores = simulate("multiclass", 6)
    share = METRICS["accuracy"].of(scored_rows("multiclass", targets, scores))
    error = 1.96 * math.sqrt(share * (1 - share) / NUM_ROWS)
    found = bootstrap_interval(METRICS["accuracy"], scored_rows("multiclass", targets, scores), samples=200)
    assert found == pytest.approx((share - error, share + error), abs=0.3 * error)
    targets, scores = simulate("regression", 6)
    correlation = METRICS["pearson"].of(scored_rows("regression", targets, scores))
    # Fisher's transformation
    expected = [math.tanh(math.atanh(correlation) + side * 1.96 / math.sqrt(NUM_ROWS - 3)) for side in (-1, 1)]
    found = bootstrap_interval(METRICS["pearson"], scored_rows("regression", targets, scores), samples=200)
    assert found == pytest.approx(tuple(expected), abs=0.15 * (expected[1] - expected[0]))


@pytest.mark.parametrize(("problem", "name"), [("binary", "mcc"), ("multiclass", "f1_macro"), ("multilabel", "f1_micro")])
def test_resampling_cells_is_like_resampling_rows(problem: Any, name: str) -> None:
    scored = scored_rows(problem, *simulate(problem, 3))
    by_cells, by_rows = METRICS[name], replace(METRICS[name], uses="scores")
    assert len(by_cells.units(scored)) < len(by_rows.units(scored)) / 4
    lower, upper = bootstrap_interval(by_rows, scored, samples=200, seed=2)
    assert upper > lower
    assert bootstrap_interval(by_cells, scored, samples=200, seed=1) == pytest.approx(
        (lower, upper), abs=0.25 * (upper - lower)
    )


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_a_resample_has_as_many_rows_as_there_are(problem: Any) -> None:
    scored = scored_rows(problem, *simulate(problem, 4))
    for units in (scored, scored.cells):
        drawn = intervals._resample(units, np.random.default_rng(0))
        assert drawn.weights is not None
        assert drawn.weights.min() > 0 and drawn.weights.sum() == NUM_ROWS


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_every_metric_has_an_interval_around_its_value(problem: Any) -> None:
    targets, scores = simulate(problem, 5)
    targets = targets + 10 if problem == "regression" else targets  # away from 0, where mape is undefined
    for metric in metrics_for(problem):
        lower, upper = bootstrap_interval(metric, scored_rows(problem, targets, scores), samples=12)
        assert lower < metric.of(scored_rows(problem, targets, scores)) < upper, metric.name


def test_the_seed_decides() -> None:
    targets, scores = simulate("binary", 1)
    for name in ("accuracy", "roc_auc"):
        first, again, other = (
            bootstrap_interval(METRICS[name], scored_rows("binary", targets, scores), samples=50, seed=seed)
            for seed in (7, 7, 8)
        )
        assert first == again != other


def test_too_much_work_is_done_with_fewer_resamples_on_a_part_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores = simulate("regression", 2, 20_000)
    seen: list[int] = []

    def watched(scored: Scored) -> float:
        seen.append(len(scored) if scored.weights is None else int(scored.weights.sum()))
        return mean_error(scored)

    metric = replace(ERROR, function=watched)
    whole = bootstrap_interval(metric, scored_rows("regression", targets, scores), samples=400)
    assert seen == [20_000] * 401
    work = 20_000 + intervals.CALL
    monkeypatch.setattr(intervals, "MAX_WORK", 300 * work)
    seen.clear()
    fewer = bootstrap_interval(metric, scored_rows("regression", targets, scores), samples=400)
    assert seen == [20_000] * 301
    monkeypatch.setattr(intervals, "MAX_WORK", 100 * (2000 + intervals.CALL))
    seen.clear()
    part = bootstrap_interval(metric, scored_rows("regression", targets, scores), samples=400)
    assert seen == [20_000] + [2000] * 101
    width = whole[1] - whole[0]
    assert fewer == pytest.approx(whole, abs=0.25 * width)
    assert part == pytest.approx(whole, abs=0.3 * width)


def test_work_is_counted_by_class_where_the_classes_are_ranked() -> None:
    scored = scored_rows("multiclass", *simulate("multiclass", 2))
    assert intervals._work(METRICS["accuracy"], scored) == intervals._work(METRICS["log_loss"], scored) == (intervals.CALL, 1)
    assert intervals._work(METRICS["roc_auc"], scored) == (5 * intervals.CALL, 5)


def test_far_too_much_work_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MAX_WORK", 1000)
    limits = bootstrap_interval(METRICS["roc_auc"], scored_rows("binary", *simulate("binary", 2)), samples=10)
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
    limits = bootstrap_interval(METRICS[name], scored_rows("binary", np.array(targets), scores), samples=samples)
    assert all(math.isnan(limit) for limit in limits)


def test_undefined_resamples_are_left_out_unless_they_are_most() -> None:
    # with one positive among the rows, a third of the resamples have none
    targets, scores = np.zeros(20, dtype=np.int64), np.full((20, 2), 0.5)
    targets[0] = 1
    lower, upper = bootstrap_interval(METRICS["roc_auc"], scored_rows("binary", targets, scores), samples=200)
    assert lower == upper == 0.5
    # two rows of different classes: half of the resamples hold one class only
    limits = bootstrap_interval(METRICS["roc_auc"], scored_rows("binary", targets[:2], scores[:2]), samples=201, seed=3)
    assert limits == (0.5, 0.5) or all(math.isnan(limit) for limit in limits)


def test_perfect_predictions_have_a_point() -> None:
    targets = np.arange(50) % 3
    assert bootstrap_interval(METRICS["accuracy"], scored_rows("multiclass", targets, np.eye(3)[targets]), samples=100) == (
        1,
        1,
    )
