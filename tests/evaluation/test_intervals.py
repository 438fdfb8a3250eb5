"""Intervals: which method is taken where, cells against rows, bounded work, undefined values.

How often they hold the true value is simulated in test_coverage.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kits.metrics import metrics_for, scored_rows
from scipy import stats

from textune.evaluation import intervals
from textune.evaluation.intervals import confidence_interval
from textune.evaluation.metrics import METRICS, Metric
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


def mean_error(scored: Scored) -> float:
    return float(np.average(np.abs(scored.targets - scored.predictions), weights=scored.weights))


# what costs next to nothing, for tests of the drawing alone
ERROR = Metric("error", ("regression",), False, mean_error, "mean error", "scores")


def limits_of(metric: Metric, scored: Scored, **options: int) -> tuple[float, float]:
    found = confidence_interval(metric, scored, **options).limits
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("problem", "name", "method"),
    [
        ("binary", "accuracy", "Wilson"),
        ("multiclass", "accuracy", "Wilson"),
        ("multilabel", "subset_accuracy", "Wilson"),
        ("binary", "precision", "Wilson"),
        ("binary", "recall", "Wilson"),
        ("binary", "f1", "Dirichlet"),
        ("multiclass", "f1_macro", "Dirichlet"),
        ("binary", "mcc", "Dirichlet"),
        ("multilabel", "f1_micro", "BCa bootstrap"),
        ("binary", "roc_auc", "BCa bootstrap"),
        ("binary", "log_loss", "BCa bootstrap"),
        ("regression", "pearson", "BCa bootstrap"),
    ],
)
def test_each_metric_has_the_method_that_holds_for_it(problem: Any, name: str, method: str) -> None:
    assert confidence_interval(METRICS[name], scored_rows(problem, *simulate(problem, 1)), samples=50).method == method


@pytest.mark.parametrize(("hits", "total"), [(0, 50), (1, 50), (25, 50), (49, 50), (50, 50), (1285, 1530)])
def test_wilson_is_scipys(hits: int, total: int) -> None:
    expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
    assert intervals._wilson(hits, total).limits == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_precision_and_recall_are_shares_of_the_rows_they_speak_of() -> None:
    targets, scores = simulate("binary", 3)
    predicted = scores[:, 1] > 0.5
    for name, rows in (("precision", predicted), ("recall", targets == 1)):
        expected = stats.binomtest(int((predicted & (targets == 1)).sum()), int(rows.sum())).proportion_ci(
            method="wilson"
        )
        found = limits_of(METRICS[name], scored_rows("binary", targets, scores))
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_bca_is_scipys(power: int) -> None:
    targets, scores = simulate("regression", 6, 60)
    errors = np.abs(targets - scores) ** power
    expected = stats.bootstrap((errors,), np.mean, n_resamples=4000, method="BCa", random_state=1).confidence_interval
    found = limits_of(
        METRICS["mae" if power == 1 else "mse"], scored_rows("regression", targets, scores), samples=2000
    )
    # two sets of some thousand resamples differ by some hundredths of the width
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * (expected.high - expected.low))


def test_groups_of_rows_skew_as_single_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.random.default_rng(0).exponential(size=1000) ** 2
    scored = scored_rows("regression", targets, np.zeros(1000))
    monkeypatch.setattr(intervals, "GROUPS", 1000)
    single = intervals._acceleration(intervals.units_of(METRICS["mae"], scored), np.random.default_rng(0))
    monkeypatch.setattr(intervals, "GROUPS", 100)
    grouped = np.mean(
        [
            intervals._acceleration(intervals.units_of(METRICS["mae"], scored), np.random.default_rng(seed))
            for seed in range(20)
        ]
    )
    assert single > 0.02 and grouped == pytest.approx(single, rel=0.2)


@pytest.mark.parametrize("name", ["f1_micro", "hamming_loss"])
def test_resampling_cells_is_like_resampling_rows(name: str) -> None:
    scored = scored_rows("multilabel", *simulate("multilabel", 3))
    by_cells, by_rows = METRICS[name], replace(METRICS[name], uses="scores")
    assert len(by_cells.units(scored)) < len(by_rows.units(scored)) / 4
    lower, upper = limits_of(by_rows, scored, samples=500, seed=2)
    assert upper > lower
    assert limits_of(by_cells, scored, samples=500, seed=1) == pytest.approx(
        (lower, upper), abs=0.25 * (upper - lower)
    )


def test_a_drawn_matrix_holds_the_classes_that_occur_and_no_other() -> None:
    targets = np.array([0, 0, 4, 4, 2])
    scores = np.eye(6)[[0, 4, 4, 4, 2]]
    matrix = intervals._matrix(scored_rows("multiclass", targets, scores))
    assert sorted(set(matrix.targets.tolist())) == [0, 2, 4] and len(matrix) == 9
    assert METRICS["f1_macro"].function(matrix) == METRICS["f1_macro"].of(scored_rows("multiclass", targets, scores))
    assert METRICS["mcc"].function(matrix) == METRICS["mcc"].of(scored_rows("multiclass", targets, scores))


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_a_resample_has_as_many_rows_as_there_are(problem: Any) -> None:
    scored = scored_rows(problem, *simulate(problem, 4))
    for units in (scored, scored.cells):
        times = intervals._resample(intervals.units_of(METRICS["f1_micro"], units), np.random.default_rng(0))
        assert len(times) == len(units) and times.min() >= 0 and times.sum() == NUM_ROWS


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_every_metric_has_an_interval_around_its_value(problem: Any) -> None:
    targets, scores = simulate(problem, 5)
    targets = targets + 10 if problem == "regression" else targets  # away from 0, where mape is undefined
    for metric in metrics_for(problem):
        lower, upper = limits_of(metric, scored_rows(problem, targets, scores), samples=40)
        assert lower <= metric.of(scored_rows(problem, targets, scores)) <= upper and lower < upper, metric.name


def test_the_seed_decides() -> None:
    targets, scores = simulate("binary", 1)
    for name in ("mcc", "roc_auc"):
        first, again, other = (
            limits_of(METRICS[name], scored_rows("binary", targets, scores), samples=50, seed=seed)
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
    whole = limits_of(metric, scored_rows("regression", targets, scores), samples=400)
    jackknife = [19_800] * intervals.GROUPS
    assert seen == [20_000] * 401 + jackknife
    work = 20_000 + intervals.CALL
    monkeypatch.setattr(intervals, "MAX_WORK", 300 * work)
    seen.clear()
    fewer = limits_of(metric, scored_rows("regression", targets, scores), samples=400)
    assert seen == [20_000] * 301 + jackknife
    monkeypatch.setattr(intervals, "MAX_WORK", 100 * (2000 + intervals.CALL))
    seen.clear()
    part = limits_of(metric, scored_rows("regression", targets, scores), samples=400)
    assert seen == [20_000] + [2000] * 101 + [1980] * intervals.GROUPS
    width = whole[1] - whole[0]
    assert fewer == pytest.approx(whole, abs=0.25 * width)
    assert part == pytest.approx(whole, abs=0.3 * width)


def test_work_is_counted_by_class_where_the_classes_are_ranked() -> None:
    scored = scored_rows("multiclass", *simulate("multiclass", 2))
    assert (
        intervals.work(METRICS["accuracy"], scored)
        == intervals.work(METRICS["log_loss"], scored)
        == (intervals.CALL, 1)
    )
    assert intervals.work(METRICS["roc_auc"], scored) == (5 * intervals.CALL, 5)


def reason_of(name: str, problem: Any, targets: np.ndarray, scores: np.ndarray, samples: int = 100) -> str:
    found = confidence_interval(METRICS[name], scored_rows(problem, targets, scores), samples=samples)
    assert found.limits is None and found.method == ""
    return found.reason


def test_far_too_much_work_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MAX_WORK", 1000)
    assert "too much work" in reason_of("roc_auc", "binary", *simulate("binary", 2), samples=10)


THREE = np.array([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("name", "targets", "samples", "reason"),
    [
        ("accuracy", [1], 100, "there is only one row"),
        ("roc_auc", [1, 1, 1], 100, ""),  # the metric itself is undefined, and its own note says why
        ("accuracy", [0, 1, 1], 0, ""),  # not asked for
        ("roc_auc", [0, 1, 1], 100, "fewer than 10 rows belong to a class, or to the rest, too few to resample"),
    ],
)
def test_no_interval(name: str, targets: list[int], samples: int, reason: str) -> None:
    assert reason_of(name, "binary", np.array(targets), THREE[: len(targets)], samples) == reason


def test_no_share_without_rows_to_take_it_of() -> None:
    scores = np.tile([0.9, 0.1], (20, 1))
    assert reason_of("precision", "binary", np.arange(20) % 2, scores) == "there is no row to take a share of"


def test_ranks_without_an_error_have_no_interval() -> None:
    targets = np.arange(40) % 2
    assert (
        reason_of("roc_auc", "binary", targets, np.eye(2)[targets])
        == "every resample of these rows gives the same value"
    )


def test_one_class_alone_has_no_interval() -> None:
    targets = np.ones(50, dtype=np.int64)
    for name in ("f1_macro", "mcc", "balanced_accuracy"):
        assert (
            reason_of(name, "multiclass", targets, np.eye(3)[targets]) == "rows like these always give the same value"
        )


def test_hardly_any_rows_have_no_interval() -> None:
    targets = np.arange(4.0)
    reason = "there are only 4 rows, too few to resample"
    assert reason_of("pearson", "regression", targets, targets + np.array([0.1, 0.2, 0, 0.4])) == reason


def test_the_correction_of_a_strong_bias_does_not_turn_back() -> None:
    values = np.append(np.zeros(999), 1.0)
    lower, upper = intervals._bca_shares(values, 0.5, 0.25)
    assert lower < upper == 1


def test_label_sets_with_hardly_an_error_have_no_interval() -> None:
    labels = (np.random.default_rng(0).random((60, 3)) < 0.4).astype(np.float32)
    assert reason_of("f1_micro", "multilabel", labels, labels) == "every row is right"
    scores = labels.copy()
    scores[:2] = 1 - scores[:2]
    assert reason_of("f1_micro", "multilabel", labels, scores) == "only 2 of 60 rows are wrong, too few to resample"


def test_undefined_resamples_are_left_out_unless_they_are_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MIN_SIDE", 1)
    random = np.random.default_rng(0)
    # with one positive among the rows, a third of the resamples have none
    targets, scores = np.zeros(20, dtype=np.int64), random.random((20, 2))
    targets[0] = 1
    lower, upper = limits_of(METRICS["roc_auc"], scored_rows("binary", targets, scores), samples=200)
    assert lower < upper
    # with none in two of three, there is nothing to say
    monkeypatch.setattr(
        intervals, "_resample", lambda units, generator: np.eye(20, dtype=np.int64)[generator.integers(0, 20)]
    )
    assert reason_of("roc_auc", "binary", targets, scores) == "most resamples of these rows have no value"


def test_perfect_answers_may_still_have_been_luck() -> None:
    targets = np.arange(50) % 3
    scored = scored_rows("multiclass", targets, np.eye(3)[targets])
    for name in ("accuracy", "f1_macro", "mcc", "balanced_accuracy"):
        lower, upper = limits_of(METRICS[name], scored, samples=500)
        # none of 50 rows wrong: by the rule of three up to 3 / 50 of all may be
        assert upper == 1 and 0.85 < lower < 0.96, name
