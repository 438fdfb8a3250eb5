"""One part through the model batch by batch: every row once, the same numbers as from all scores at once, bounded
memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.metrics import scored_rows
from kits.runs import Listener, reviews, write_csv

import textune
from textune.batches.rows import TokenRows
from textune.config.load import load_config
from textune.data.prepare import prepare_data
from textune.evaluation import reduction
from textune.evaluation.metrics import compute_metrics
from textune.prediction.load import load
from textune.prediction.predictor import Predictor
from textune.run.report import score_rows
from textune.run.tracking.tracker import SilentTracker


class Progress(SilentTracker):
    """Keeps what progress says."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, int]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.said.append((stage, done, total))


@pytest.fixture
def predictor(trained: Any) -> Predictor:
    result, _ = trained
    return load(result.run, max_tokens=100)


@pytest.fixture
def validation(trained: Any, predictor: Predictor) -> TokenRows:
    result, _ = trained
    split = prepare_data(load_config(result.run / "config.toml").experiment.data, kind="auto").validation
    assert split is not None
    store = predictor.encoder.encode(split.examples.text.to_pylist(), None, place=str)
    return TokenRows(store, split.indices, split.targets, None)


def test_a_split_in_batches_is_the_split_at_once(predictor: Predictor, validation: TokenRows) -> None:
    num_rows, tracker = len(validation), Progress()
    metrics = compute_metrics(
        score_rows(predictor.scorer, validation, tracker, place=str, stage="evaluating").by_head["label"]
    )
    scores = predictor.scorer.score_store(validation.store, validation.examples)["label"]
    assert metrics == compute_metrics(scored_rows("binary", validation.targets["label"], scores))
    assert len(tracker.said) > 5 and {(stage, total) for stage, _, total in tracker.said} == {("evaluating", num_rows)}
    done = [done for _, done, _ in tracker.said]
    assert done == sorted(set(done)) and done[-1] == num_rows


def test_batches_hold_every_row_once_and_the_longest_first(predictor: Predictor, validation: TokenRows) -> None:
    store, chosen = validation.store, validation.examples
    batches = list(predictor.scorer.score_batches(store, chosen))
    positions = np.concatenate([batch.positions for batch in batches])
    assert np.array_equal(np.sort(positions), np.arange(len(chosen)))
    assert all(
        batch.scores["label"].shape == (len(batch.positions), 2) and batch.scores["label"].dtype == np.float64
        for batch in batches
    )
    longest = [store.lengths_of(chosen[batch.positions]).max() for batch in batches]
    assert longest == sorted(longest, reverse=True) and longest[0] > longest[-1]


def test_many_classes_bound_the_rows_of_a_batch(
    predictor: Predictor, validation: TokenRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chosen = validation.store, validation.examples
    whole = predictor.scorer.score_store(store, chosen)["label"]
    monkeypatch.setattr("textune.prediction.scorer.MAX_SCORES_AT_ONCE", 5)
    batches = list(predictor.scorer.score_batches(store, chosen))
    assert max(len(batch.positions) for batch in batches) == 2
    assert np.array_equal(np.sort(np.concatenate([batch.positions for batch in batches])), np.arange(len(chosen)))
    np.testing.assert_allclose(predictor.scorer.score_store(store, chosen)["label"], whole, atol=1e-5)


def test_whoever_stops_early_leaves_the_model_as_it_was(predictor: Predictor, validation: TokenRows) -> None:
    predictor.scorer.model.train()
    batches = predictor.scorer.score_batches(validation.store, validation.examples)
    next(batches)
    assert all(module.training for module in predictor.scorer.model.modules())
    predictor.scorer.model.eval()
    next(batches)
    assert not any(module.training for module in predictor.scorer.model.modules())


def test_where_not_all_rows_are_ranked_the_run_and_its_report_say_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": row["text"], "label": f"kind {number % 3}"} for number, row in enumerate(reviews(90))]
    write_csv(tmp_path / "rows.csv", rows)
    overrides = [f"data.train.files={tmp_path / 'rows.csv'}", "data.test.kind=none", "train.duration=1 epochs"]
    monkeypatch.setattr(reduction, "MAX_SCORES", 30)
    listener = Listener()
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides, tracker=listener)
    assert result is not None
    report = result.reports["validation"]
    said = f"measured on 10 of {report.num_rows} rows"
    assert sum(said in notice for notice in listener.notices) == 1
    assert sum(said in note for note in report.notes) == 1
    monkeypatch.undo()
    everything = textune.evaluate(tmp_path / "run", part="validation")
    ranking = {"roc_auc", "average_precision"}
    assert {**report.metrics, **dict.fromkeys(ranking)} == {**everything.metrics, **dict.fromkeys(ranking)}
    assert report.metrics["average_precision"] != everything.metrics["average_precision"]
    assert not any("rank rows" in note for note in everything.notes)
