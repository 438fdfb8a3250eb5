"""Scores taken batch by batch: equal to scikit-learn on the whole, the same for every cut, and flat in memory."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.forking import in_a_process
from kits.metrics import PROBLEMS, by_the_library, head_of, make_rows, metrics_for, same, scored_rows

from textune.errors import DataError, ModelError
from textune.evaluation import reduction
from textune.evaluation.metrics import METRICS, compute_metrics
from textune.evaluation.mistakes import EvaluatedRows, find_mistakes
from textune.evaluation.reduction import Reduction
from textune.evaluation.report import build_report
from textune.evaluation.scored import Scored
from textune.tasks.decision import Decision


def reduced(problem: Any, targets: np.ndarray, scores: np.ndarray, *, seed: int, sizes: list[int]) -> Scored:
    """The rows in a random order, cut into batches of these sizes, over and over."""
    order = np.random.default_rng(seed).permutation(len(targets))
    taken = Reduction(head_of(problem, scores.shape[-1]), num_rows=len(targets))
    start = number = 0
    while start < len(order):
        rows = order[start : start + sizes[number % len(sizes)]]
        taken.add(rows, targets[rows], scores[rows])
        start, number = start + len(rows), number + 1
    return taken.finish()


# --- equal to scikit-learn -------------------------------------------------------------------------------------------


@pytest.mark.every_day(5)
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("problem", "num_rows", "num_classes"),
    [
        *(("binary", rows, 2) for rows in (2, 9, 60)),
        *(("multiclass", rows, classes) for rows, classes in ((1, 3), (7, 2), (40, 5), (60, 100))),
        pytest.param("multiclass", 1000, 700, marks=pytest.mark.slow),
        *(("multilabel", rows, classes) for rows, classes in ((1, 2), (30, 3), (50, 8), (40, 60))),
    ],
)
@pytest.mark.parity("TW-19")
def test_every_metric_is_that_of_scikit_learn(
    problem: Any, num_rows: int, num_classes: int, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampled:
        monkeypatch.setattr(reduction, "MAX_SCORES", num_rows * num_classes // 3)
    for seed in range(1 if num_classes > 50 else 6):
        targets, scores = make_rows(problem, seed, num_rows, num_classes)
        scored = reduced(problem, targets, scores, seed=seed, sizes=[1, 17, 400])
        ranks = slice(None)
        if sampled and problem != "binary":
            drawn = np.random.default_rng(0).choice(num_rows, max(1, num_rows // 3), replace=False)
            ranks = np.sort(drawn) if num_rows > 1 else slice(None)  # type: ignore[assignment]
        for metric in metrics_for(problem):
            chosen = ranks if metric.uses == "ranks" else slice(None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's remarks on classes without rows
                expected = by_the_library(metric.name, problem, targets[chosen], scores[chosen])
            if metric.name == "average_precision_micro" and not targets[chosen].any():
                expected = np.nan  # where the library says 0
            assert metric.of(scored) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), (metric.name, seed)


# --- the cut does not matter -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    problem=st.sampled_from(PROBLEMS),
    seed=st.integers(0, 1000),
    num_rows=st.integers(1, 50),
    num_classes=st.integers(2, 20),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    max_scores=st.sampled_from([1, 100, 10_000]),
)
def test_any_cut_in_any_order_gives_the_same_bits(
    problem: Any,
    seed: int,
    num_rows: int,
    num_classes: int,
    sizes: list[int],
    max_scores: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reduction, "MAX_SCORES", max_scores)
    targets, scores = make_rows(problem, seed, num_rows, 2 if problem == "binary" else num_classes)
    whole, cut = scored_rows(problem, targets, scores), reduced(problem, targets, scores, seed=seed, sizes=sizes)
    assert same(whole, cut)
    metric = metrics_for(problem)[seed % len(metrics_for(problem))]
    one, other = (
        build_report(scored, EvaluatedRows([""] * num_rows), metric=metric, bootstrap=5, mistakes=5).to_dict()
        for scored in (whole, cut)
    )
    assert one == other
    kept = cut.ranked
    if problem in ("multiclass", "multilabel"):
        assert kept.scores is not None and kept.scores.size <= max(max_scores, num_classes)


def test_few_scores_are_ranked_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores = make_rows("multiclass", 1, 400, 10)
    everything = compute_metrics(scored_rows("multiclass", targets, scores))
    monkeypatch.setattr(reduction, "MAX_SCORES", 1000)
    scored = reduced("multiclass", targets, scores, seed=0, sizes=[64])
    assert scored.scores is None and len(scored) == 400 and len(scored.ranked) == 100
    values = compute_metrics(scored)
    ranking = {"roc_auc", "average_precision"}
    assert {name for name, value in values.items() if value != everything[name]} == ranking
    assert all(values[name] == pytest.approx(everything[name], abs=0.1) for name in ranking)
    options: dict[str, Any] = {"bootstrap": 20}
    report = build_report(scored, EvaluatedRows([""] * 400), metric=METRICS["roc_auc"], **options)
    (note,) = (note for note in report.notes if "drawn at random" in note)
    assert "measured on 100 of 400 rows" in note
    assert report.interval is not None and report.interval[0] < values["roc_auc"] < report.interval[1]
    assert report.baseline.value == 0.5


# --- batches that cannot be ------------------------------------------------------------------------------------------


def test_a_batch_that_is_refused_leaves_no_trace() -> None:
    targets, scores = make_rows("multiclass", 3, 30, 4)
    taken = Reduction(head_of("multiclass", 4), num_rows=30)
    rows = np.arange(30)
    taken.add(rows[:20], targets[:20], scores[:20])
    broken = scores[20:].copy()
    broken[3, 1] = np.nan
    with pytest.raises(ModelError, match="for 1 of 10 rows scored together, the first of them row 24"):
        taken.add(rows[20:], targets[20:], broken)
    with pytest.raises(DataError, match="class ids up to 3"):
        taken.add(rows[20:], targets[20:] + 4, scores[20:])
    with pytest.raises(DataError, match="do not fit"):
        taken.add(rows[20:], targets[20:], scores[20:, :3])
    with pytest.raises(ValueError, match="row 7 was scored before"):
        taken.add(rows[7:9], targets[7:9], scores[7:9])
    with pytest.raises(ValueError, match="20 rows were scored, not each of 30 once"):
        taken.finish()
    taken.add(rows[20:], targets[20:], scores[20:])
    assert same(taken.finish(), scored_rows("multiclass", targets, scores))


def test_a_row_twice_in_a_batch_is_noticed() -> None:
    taken = Reduction(head_of("binary"), num_rows=2)
    taken.add(np.array([0, 0]), np.array([0, 0]), np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="not each of 2 once"):
        taken.finish()


def test_rows_are_decided_by_the_decision_of_the_head() -> None:
    head = replace(head_of("multilabel", 3), decision=Decision(thresholds=(0.2,) * 3))  # type: ignore[type-var]
    targets = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32)
    scores = np.array([[0.3, 0.1, 0.1], [0.1, 0.9, 0.15], [0.1, 0.1, 0.25]])
    scored = reduction.scored_rows(head, targets, scores)
    assert scored.right.tolist() == [True, False, False]
    missed, wrong = find_mistakes(scored, EvaluatedRows(["a", "b", "c"]), limit=5)
    assert (missed.row, missed.label, missed.score) == (1, "class 2", 0.15)  # worse: left out though true, by 0.85
    assert (wrong.row, wrong.label, wrong.score, wrong.predicted) == (2, "class 2", 0.25, ("class 2",))


# --- memory ----------------------------------------------------------------------------------------------------------

AT_ONCE = 500


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def evaluate(problem: Any, num_rows: int, num_classes: int, max_scores: int) -> dict[str, Any]:
    """A batch of noise is made once; of each row the score of one class is put in, so that 7 rows in 10 are right."""
    reduction.MAX_SCORES = max_scores
    random = np.random.default_rng(0)
    scores = random.random((AT_ONCE, num_classes)) / num_classes
    targets = random.integers(0, num_classes, num_rows)
    order = random.permutation(num_rows)
    right = random.random(num_rows) < 0.7
    before = peak()
    taken = Reduction(head_of(problem, num_classes), num_rows=num_rows)
    for begin in range(0, num_rows, AT_ONCE):
        rows = order[begin : begin + AT_ONCE]
        every = np.arange(len(rows))
        true = targets[rows]
        answer = np.where(right[rows], true, (true + 1) % num_classes)
        noise = scores[every, answer]
        scores[every, answer] = 0.6
        if problem == "multilabel":
            true = np.zeros((len(rows), num_classes), np.float32)
            true[every, targets[rows]] = 1
        taken.add(rows, true, scores[: len(rows)])
        scores[every, answer] = noise
    report = build_report(taken.finish(), EvaluatedRows([""] * num_rows), metric=METRICS["f1_micro"], bootstrap=100)
    return {"grown": peak() - before, "metrics": report.metrics, "right": right.mean()}


def measure(problem: str, num_rows: int, num_classes: int, max_scores: int = reduction.MAX_SCORES) -> dict[str, Any]:
    """One whole evaluation in a process of its own: growth of its peak memory in bytes, and what it found."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    return in_a_process(evaluate, problem, num_rows, num_classes, max_scores)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("problem", "num_rows", "num_classes", "share"),
    [("multiclass", 200_000, 2000, 1 / 20), ("multilabel", 40_000, 1000, 1 / 3)],
)
def test_memory_does_not_grow_with_rows_times_classes(
    problem: str, num_rows: int, num_classes: int, share: float
) -> None:
    found = measure(problem, num_rows, num_classes, max_scores=2_000_000)
    assert found["grown"] < share * num_rows * num_classes * 8
    assert found["metrics"]["f1_micro"] == pytest.approx(found["right"], abs=1e-12)
    assert found["metrics"]["roc_auc"] == pytest.approx((1 + found["right"]) / 2, abs=0.1)


@pytest.mark.slow
def test_a_million_rows_of_ten_thousand_classes() -> None:
    found = measure("multiclass", 1_000_000, 10_000)
    assert found["grown"] < 500e6  # 80 GB if the scores were kept
    assert found["metrics"]["accuracy"] == pytest.approx(found["right"], abs=1e-12)
