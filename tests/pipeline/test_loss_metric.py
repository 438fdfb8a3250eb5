"""`evaluate.metric = "loss"`: the task's own loss of evaluated rows, beside that of plain transformers and PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.errors import refused
from kits.runs import Listener, reviews, write_csv
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import RunError

SHORT = [
    "train.duration=3 epochs",
    "model.compile=off",
    "train.optimizer.lr=0.02",  # so that it gets worse again
    "evaluate.bootstrap=100",
    "evaluate.metric=loss",
]
SMOOTHING = ["task.kind=binary", "task.label_smoothing=0.1"]
KINDS = {
    "balanced": [*SMOOTHING, "task.class_weights=balanced"],
    "table": [*SMOOTHING, "task.class_weights={ neg = 3.0 }"],
    "focal": ["task.kind=binary", "task.loss=focal", "task.gamma=1.5"],
    "one output": [*SMOOTHING, "task.num_logits=1"],
    "regression": ["data.columns.label=number", "task.kind=regression", "task.loss=smooth_l1", "task.beta=0.2"],
}


def logits_of(folder: Path, texts: list[str]) -> torch.Tensor:
    """float32 [N, C], by plain transformers."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        return model.eval()(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits


def by_torch(kind: str, logits: torch.Tensor, rows: list[dict[str, Any]], weights: list[float]) -> float:
    if kind == "regression":
        numbers = torch.tensor([row["number"] for row in rows])
        return float(functional.smooth_l1_loss(logits[:, 0], numbers, beta=0.2))
    labels = torch.tensor([int(row["label"] == "pos") for row in rows])
    if kind == "focal":
        surprise = functional.cross_entropy(logits, labels, reduction="none")
        return float(((1 - torch.exp(-surprise)) ** 1.5 * surprise).mean())
    if kind == "one output":
        return float(functional.binary_cross_entropy_with_logits(logits[:, 0], labels * 0.9 + 0.05))
    return float(functional.cross_entropy(logits, labels, torch.tensor(weights), label_smoothing=0.1))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_training_without_dropout(kind: str, home: Path, tmp_path: Path) -> None:
    listener, run = Listener(), tmp_path / "run"
    rows = [row for row in reviews(200) if row["label"] == "neg" or row["id"] % 3]
    files = write_csv(tmp_path / "rows.csv", rows)
    words = [*SHORT, *KINDS[kind], f"data.train.files={files}", "data.test.kind=files", f"data.test.files={files}"]
    result = textune.train(home / "config.toml", run=run, overrides=words, tracker=listener)
    at_steps = {values["step"]: values["metrics"]["loss"] for values in listener.evaluations}
    assert len(at_steps) == 3 and result.best_step == min(at_steps, key=lambda step: at_steps[step])
    assert all(values["main"] == "loss" for values in listener.evaluations)
    card = json.loads((run / "best" / "textune.json").read_text())
    assert card["value"] == at_steps[result.best_step]
    table = card["heads"][0]["task"].get("class_weights", "none")
    weights = [1.0, 1.0] if table == "none" else [table.get(name, 1.0) for name in ("neg", "pos")]
    assert (len(set(weights)) == 2) == (kind in ("balanced", "table"))

    report = result.reports["test"]
    wanted = by_torch(kind, logits_of(run / "best", [row["text"] for row in rows]), rows, weights)
    assert report.value == pytest.approx(wanted, rel=1e-5)
    assert report.interval is not None and report.interval[0] < report.value < report.interval[1]
    assert not json.loads((run / "report-test.json").read_text())["main"]["higher_is_better"]
    again = textune.evaluate(run, data=files, device="cpu")  # which has no training rows
    assert again.metric == "loss" and again.value == pytest.approx(report.value, rel=1e-6)


def test_the_loss_is_reported_only_where_it_is_asked_for(trained: Any) -> None:
    result, listener = trained
    assert "loss" not in result.reports["validation"].metrics
    assert all("loss" not in values["metrics"] for values in listener.evaluations)
    assert textune.evaluate(result.run, metric=["eval_loss", "log_loss"]).metric == "mean_of_loss_and_log_loss"
    report = textune.evaluate(result.run, metric="loss", part="validation")
    # without weights and smoothing it is the mean surprise, in the precision of training
    assert report.value == pytest.approx(report.metrics["log_loss"], rel=1e-5)
    assert report.baseline.compared == "accuracy" and np.isnan(report.baseline.metrics["loss"])
    assert report.to_dict()["baseline"]["metrics"]["loss"] is None


def test_a_mean_of_metrics_chooses_the_best_model(home: Path, tmp_path: Path) -> None:
    listener, run = Listener(), tmp_path / "run"
    words = [*SHORT[:-1], 'evaluate.metric=["f1", "accuracy"]']
    result = textune.train(home / "config.toml", run=run, overrides=words, tracker=listener)
    name = "mean_of_f1_and_accuracy"
    for values in listener.evaluations:
        found = values["metrics"]
        assert values["main"] == name and found[name] == pytest.approx((found["f1"] + found["accuracy"]) / 2)
    best = max(listener.evaluations, key=lambda values: values["metrics"][name])
    assert best["step"] == result.best_step
    assert textune.evaluate(run).metric == name
    assert textune.evaluate(run, metric="mcc").metric == "mcc"


def test_an_earlier_model_with_balanced_weights_does_not_know_its_loss(
    trained: Any, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained[0].run / "best", folder)
    card = json.loads((folder / "textune.json").read_text())
    card["heads"][0]["task"]["class_weights"] = "balanced"
    (folder / "textune.json").write_text(json.dumps(card))
    assert textune.evaluate(folder, data=home / "reviews.csv").metric == "accuracy"
    with refused(RunError, key="evaluate.metric", value="loss", place=str(folder)):
        textune.evaluate(folder, data=home / "reviews.csv", metric="val_loss")
