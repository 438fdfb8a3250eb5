"""What a column is worth: the difference of two evaluations of the same rows, and its interval."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.metrics import scored_rows
from kits.severalheads import answered
from rich.console import Console

from textune.evaluation.heads import ScoredRows, one_head
from textune.evaluation.lift import Lift, measure_lift
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import resolve_metric
from textune.evaluation.render import console, markdown
from textune.evaluation.render.json import read_report, render
from textune.evaluation.report import build_report


def two_ways(num_rows: int, better: float, *, seed: int = 0, shared: float = 1.0) -> tuple[ScoredRows, ScoredRows]:
    """The same rows scored with and without something that helps by about `better`."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, num_rows)
    common, side = generator.normal(size=num_rows), np.where(targets, 1.0, -1.0)

    def scored(skill: float) -> ScoredRows:
        own = generator.normal(size=num_rows)
        positive = 1 / (1 + np.exp(-(skill * side + shared * common + 0.5 * own)))
        return one_head(scored_rows("binary", targets, np.stack([1 - positive, positive], axis=1)))

    return scored(0.6 + better), scored(0.6)


def metric(name: str) -> MainMetric:
    return MainMetric(name, {"label": METRICS[name]})


def values(rows: ScoredRows, name: str, times: np.ndarray) -> float:
    scored = rows.by_head["label"]
    drawn = np.flatnonzero(times)
    return METRICS[name].function(scored.take(drawn, times[drawn]))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "roc_auc", "log_loss"])
def test_lift_and_interval_are_those_of_a_plain_paired_bootstrap(name: str) -> None:
    full, without = two_ways(800, 0.5)
    lift = measure_lift("source", metric(name), full, without, num_rows=700, samples=1000)
    sign = 1 if METRICS[name].higher_is_better else -1
    assert lift.lift == pytest.approx(sign * (metric(name).of(full) - metric(name).of(without)))
    assert (lift.column, lift.num_rows, lift.without) == ("source", 700, metric(name).of(without))
    generator = np.random.default_rng(9)
    drawn = []
    for _ in range(1000):
        times = np.bincount(generator.integers(0, 800, 800), minlength=800)
        drawn.append(sign * (values(full, name, times) - values(without, name, times)))
    lower, upper = np.quantile(drawn, (0.025, 0.975))
    assert lift.interval is not None
    assert lift.interval[0] == pytest.approx(lower, abs=0.25 * (upper - lower))
    assert lift.interval[1] == pytest.approx(upper, abs=0.25 * (upper - lower))
    assert 0 < lift.interval[0] < lift.lift < lift.interval[1]


@pytest.mark.slow
def test_intervals_cover_the_true_lift() -> None:
    """Of a hundred data sets, about 95 have the difference of a very large one in their interval."""
    large = [metric("accuracy").of(rows) for rows in two_ways(200_000, 0.4, seed=99)]
    truth, hits = large[0] - large[1], 0
    for seed in range(100):
        found = measure_lift("x", metric("accuracy"), *two_ways(300, 0.4, seed=seed), num_rows=300, samples=200)
        assert found.interval is not None
        hits += found.interval[0] <= truth <= found.interval[1]
    assert 88 <= hits <= 100  # of a binomial count, four standard deviations around 95


def test_rows_that_both_ways_find_hard_make_a_paired_interval_narrower() -> None:
    def width(shared: float) -> float:
        found = measure_lift("x", metric("accuracy"), *two_ways(2000, 0.3, shared=shared), num_rows=1)
        assert found.interval is not None
        return found.interval[1] - found.interval[0]

    full, _ = two_ways(2000, 0.3, shared=3.0)
    share = metric("accuracy").of(full)
    unpaired = 2 * 1.96 * math.sqrt(2 * share * (1 - share) / 2000)
    assert width(3.0) < 0.7 * unpaired


def test_without_any_difference_there_is_a_reason_instead_of_an_interval() -> None:
    full, _ = two_ways(400, 0.5)
    same = measure_lift("x", metric("accuracy"), full, full, num_rows=0)
    assert (same.lift, same.interval) == (0.0, None) and same.reason
    assert measure_lift("x", metric("roc_auc"), full, full, num_rows=0).interval is None
    unasked = measure_lift("x", metric("accuracy"), full, two_ways(400, 0.5)[1], num_rows=0, samples=0)
    assert unasked.interval is None and not unasked.reason and unasked.lift > 0


def test_the_lift_of_a_mean_over_tasks() -> None:
    rows = answered(300, 1, skill=2.0)
    worse = answered(300, 1, skill=0.2)
    main = resolve_metric("auto", rows.task.heads)
    lift = measure_lift("x", main, rows.scored(), worse.scored(), num_rows=300, samples=200)
    assert lift.lift == pytest.approx(main.of(rows.scored()) - main.of(worse.scored()))
    assert lift.interval is not None and lift.interval[0] < lift.lift < lift.interval[1]


def report_with(*lifts: Lift) -> Any:
    full, _ = two_ways(200, 0.5)
    known = EvaluatedRows(texts=["a"] * 200, pairs=None, place=str, dataset="test", fingerprint="f")
    report = build_report(full.by_head["label"], known, metric=METRICS["accuracy"], bootstrap=0)
    return replace(report, lifts=lifts)


LIFTS = (
    Lift("source", 150, 0.81, 0.042, (0.01, 0.07)),
    Lift("da|te*", 0, 0.852, -0.001, None, "only 2 answers differ without it, too few to resample"),
    Lift("x", 3, float("nan"), float("nan"), None),
)


def test_reports_of_all_forms_show_it(tmp_path: Path) -> None:
    report = report_with(*LIFTS)
    path = tmp_path / "report.json"
    path.write_text(render(report), encoding="utf-8")
    again = read_report(path)
    assert again.lifts[:2] == LIFTS[:2] and math.isnan(again.lifts[2].lift)
    page = markdown.render(report)
    assert "| source | 150 | 0.8100 | +0.0420 | +0.0100 to +0.0700 |" in page and "da\\|te\\*" in page
    shown = io.StringIO()
    console.render(report, Console(file=shown, width=100))
    assert "What each column is worth" in shown.getvalue() and "+0.0420" in shown.getvalue()


def test_a_report_without_columns_is_as_it_was(tmp_path: Path) -> None:
    report = report_with()
    assert "lifts" not in report.to_dict() and "column is worth" not in markdown.render(report)
    path = tmp_path / "report.json"
    path.write_text(render(report), encoding="utf-8")
    assert read_report(path).lifts == ()
