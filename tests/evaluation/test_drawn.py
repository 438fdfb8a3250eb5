"""What a page draws beside curves, held against plain loops over the rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kits.metrics import scored_rows
from kits.reports import classes_report, labels_report, numbers_report, probabilities

from textune.evaluation.curves import MAX_POINTS, NUM_BINS
from textune.evaluation.drawn import NUM_CELLS, NUM_RANGES, Drawn, find_drawn
from textune.evaluation.render import json as as_json
from textune.evaluation.render.json import read_report


def test_reliability_is_that_of_a_loop_over_answers() -> None:
    targets = np.random.default_rng(5).integers(0, 4, 700)
    scores = probabilities(targets, 4, seed=6)
    found = find_drawn(scored_rows("multiclass", targets, scores)).confidence
    assert found is not None
    ranges: dict[int, list[tuple[float, bool]]] = {}
    for target, row in zip(targets, scores, strict=True):
        ranges.setdefault(min(NUM_BINS - 1, int(row.max() * NUM_BINS)), []).append((row.max(), row.argmax() == target))
    expected = [
        (np.mean([p for p, _ in rows]), np.mean([r for _, r in rows]), len(rows)) for _, rows in sorted(ranges.items())
    ]
    known = found.reliability
    assert np.allclose(list(zip(known.score, known.share, known.rows, strict=True)), expected, atol=1e-6)
    error = sum(abs(score - share) * rows for score, share, rows in expected) / len(targets)
    assert found.error == pytest.approx(error, abs=1e-6)


def test_reliability_of_labels_is_that_of_all_their_scores_together() -> None:
    random = np.random.default_rng(7)
    targets, scores = (random.random((300, 5)) < 0.3).astype(np.float32), random.random((300, 5))
    together = find_drawn(scored_rows("multilabel", targets, scores)).confidence
    hits = targets.astype(np.int64).ravel()
    alone = find_drawn(scored_rows("binary", hits, np.stack([1 - scores.ravel(), scores.ravel()], axis=1)))
    assert together is not None
    rows = np.bincount((scores.ravel() * NUM_BINS).astype(int), minlength=NUM_BINS)
    assert together.reliability.rows == tuple(rows[rows > 0].tolist())
    assert alone.confidence is not None  # which is of answers, not of labels


def test_coverage_is_the_accuracy_of_the_surest_answers() -> None:
    targets = np.random.default_rng(8).integers(0, 3, 5000)
    scores = probabilities(targets, 3, seed=9).round(2)  # with ties
    scored = scored_rows("multiclass", targets, scores)
    found = find_drawn(scored).coverage
    assert found is not None
    assert len(found.threshold) <= MAX_POINTS
    sure = scored.sureness
    assert sure is not None
    for threshold, coverage, accuracy in zip(found.threshold, found.coverage, found.accuracy, strict=True):
        answered = sure >= threshold - 1e-6
        assert coverage == pytest.approx(answered.mean(), abs=1e-3)
        assert accuracy == pytest.approx(scored.right[answered].mean(), abs=2e-3)
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == pytest.approx(scored.right.mean(), abs=1e-6)


def test_every_number_is_counted_once() -> None:
    random = np.random.default_rng(10)
    targets = random.normal(size=2000)
    predictions = targets + random.normal(size=2000)
    predictions[0] = 1e9  # one wild prediction does not squeeze the others into one cell
    found = find_drawn(scored_rows("regression", targets, predictions))
    assert found.spread is not None and found.distribution is not None
    assert sum(rows for _, _, rows in found.spread.cells) == sum(found.distribution.rows) == 2000
    assert found.spread.high < 10
    assert len(found.spread.cells) <= NUM_CELLS**2 and len(found.distribution.rows) == NUM_RANGES
    low, high = found.spread.low, found.spread.high
    count, _, _ = np.histogram2d(targets, predictions.clip(low, high), NUM_CELLS, [[low, high], [low, high]])
    cells = np.zeros((NUM_CELLS, NUM_CELLS))
    for true, predicted, rows in found.spread.cells:
        cells[true, predicted] = rows
    assert np.abs(cells - count).sum() <= 4  # values on an edge


def test_rows_that_are_all_alike_are_not_drawn() -> None:
    assert find_drawn(scored_rows("regression", np.ones(5), np.ones(5))) == Drawn()


@pytest.mark.parametrize("report", [classes_report(3, 50), labels_report(4, 50), numbers_report(50)])
def test_it_is_read_back_as_it_was(report: object, tmp_path: Path) -> None:
    from textune.evaluation.report import Report

    assert isinstance(report, Report)
    path = tmp_path / "report.json"
    path.write_text(as_json.render(report))
    assert read_report(path).drawn == report.drawn
    old = json.loads(path.read_text())
    del old["drawn"]  # an earlier version's
    path.write_text(json.dumps(old))
    assert read_report(path).drawn == Drawn()
