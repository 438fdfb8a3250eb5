"""The curves of a report: points of scikit-learn's, few of them, and enough to redraw the areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kits.metrics import make_rows, scored_rows
from sklearn import metrics as library

from textune.evaluation import curves
from textune.evaluation.curves import Curves, find_curves
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.render import json
from textune.evaluation.report import build_report
from textune.evaluation.undefined import is_better, mean_of_defined


def binary(num_rows: int, decimals: int = 9) -> tuple[np.ndarray, np.ndarray, Curves]:
    random = np.random.default_rng(num_rows)
    targets = random.integers(0, 2, num_rows)
    positive = np.clip(0.5 + 0.2 * (targets - 0.5) + random.normal(scale=0.2, size=num_rows), 0, 1).round(decimals)
    (found,) = find_curves(scored_rows("binary", targets, np.stack([1 - positive, positive], axis=1)))
    return targets, positive, found


@pytest.mark.parametrize("decimals", [1, 9])
def test_few_rows_keep_every_threshold(decimals: int) -> None:
    targets, positive, found = binary(60, decimals)
    false_T, recall_T, threshold_T = (
        side[1:] for side in library.roc_curve(targets, positive, drop_intermediate=False)
    )
    points = found.thresholds
    assert points.threshold == pytest.approx(threshold_T, abs=1e-6)
    assert points.recall == pytest.approx(recall_T, abs=1e-6)
    assert points.false_positive_rate == pytest.approx(false_T, abs=1e-6)
    precision = library.precision_recall_curve(targets, positive)[0][-2::-1]
    assert points.precision[: len(precision)] == pytest.approx(precision, abs=1e-6)


def test_many_rows_keep_few_points_of_the_same_curves() -> None:
    targets, positive, found = binary(20_000)
    points = found.thresholds
    assert len(points.threshold) <= curves.MAX_POINTS
    assert sorted(points.threshold, reverse=True) == list(points.threshold)
    assert (points.recall[-1], points.false_positive_rate[-1]) == (1, 1)
    for threshold, recall, false, precision in list(zip(*vars(points).values(), strict=True))[::9]:
        taken = positive >= threshold - 1e-6
        assert recall == pytest.approx((taken & (targets == 1)).sum() / (targets == 1).sum(), abs=2e-3)
        assert false == pytest.approx((taken & (targets == 0)).sum() / (targets == 0).sum(), abs=2e-3)
        assert precision == pytest.approx(targets[taken].mean(), abs=0.05)
    area = np.trapezoid([0, *points.recall], [0, *points.false_positive_rate])
    assert area == pytest.approx(library.roc_auc_score(targets, positive), abs=2e-3)


def test_reliability_is_the_share_that_happened() -> None:
    targets, positive, found = binary(5000)
    bins = found.reliability
    assert sum(bins.rows) == 5000 and sorted(bins.score) == list(bins.score)
    place = np.minimum((positive * curves.NUM_BINS).astype(int), curves.NUM_BINS - 1)
    for number, score, share, rows in zip(np.unique(place), bins.score, bins.share, bins.rows, strict=True):
        inside = place == number
        assert (rows, share) == (inside.sum(), pytest.approx(targets[inside].mean(), abs=1e-6))
        assert score == pytest.approx(positive[inside].mean(), abs=1e-6)


@pytest.mark.parametrize("problem", ["multiclass", "multilabel", "regression"])
def test_of_many_classes_those_with_most_rows_have_curves(problem: Any) -> None:
    targets, scores = make_rows(problem, 1, 300, 40)
    scored = scored_rows(problem, targets, scores)
    found = find_curves(scored)
    if problem == "regression":
        assert found == ()
        return
    hits = targets > 0 if problem == "multilabel" else targets[:, None] == np.arange(40)
    ranked = sorted((-hits[:, index].sum(), index) for index in range(40) if 0 < hits[:, index].sum() < 300)
    assert [curve.name for curve in found] == [
        f"class {index}" for index in sorted(i for _, i in ranked[: curves.MAX_CURVES])
    ]


def test_they_are_written_and_read(tmp_path: Any) -> None:
    targets, scores = make_rows("multilabel", 3, 50, 4)
    scored = scored_rows("multilabel", targets, scores)
    report = build_report(scored, EvaluatedRows(["text"] * 50), metric=METRICS["f1_micro"], bootstrap=0)
    (tmp_path / "report.json").write_text(json.render(report), encoding="utf-8")
    read = json.read_report(tmp_path / "report.json")
    assert read.curves == report.curves != ()
    assert read.to_dict() == report.to_dict()


def test_what_is_undefined_is_left_out_and_never_better() -> None:
    assert mean_of_defined(np.array([1.0, np.nan, 3.0])) == 2
    assert np.isnan(mean_of_defined(np.array([np.nan])))
    assert is_better(2.0, 1.0, higher=True) is True and is_better(2.0, 1.0, higher=False) is False
    assert is_better(np.nan, 1.0, higher=True) is None and is_better(1.0, np.nan, higher=False) is None
