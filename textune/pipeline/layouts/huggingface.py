"""The files of the scripts of transformers at the top of the run folder: the model, and `all_results.json` and the
like."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import write_text, written_aside
from textune.config import Experiment
from textune.run import RunFolder

if TYPE_CHECKING:
    from textune.evaluation import Report
    from textune.pipeline.train import TrainResult

_THEIR_NAMES = {
    "mcc": "matthews_correlation",
    "spearman": "spearmanr",
}
"""Metrics that the libraries of the scripts call otherwise."""
_NOT_THE_MODEL = {"probe.jsonl", "usual.json"}
"""Files of `best/` about rows, which are not copied."""
_MEAN = "mean_of_"
"""Before the names of a mean of metrics, which the scripts call the combined score."""
_PARTS = {"validation": "eval", "test": "predict"}
_ENDINGS = {"mismatched": "_mm"}
_LOSSES = ("log_loss", "mse")
"""Metrics that are the loss of a task where labels are not smoothed."""


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """The model at the top; `train_results.json`, `eval_results.json`, `predict_results.json`, and all of it in
    `all_results.json`."""
    _copy_model(run.best, run.path)
    trained = _trained(run, result, experiment)
    write_text(run.path / "train_results.json", result_text(trained))
    together = dict(trained)
    parts: dict[str, dict[str, float | None]] = {}
    for name, report in result.reports.items():
        part, smoothed = _PARTS.get(name, "eval"), getattr(experiment.task, "label_smoothing", 0.0) > 0
        found = results_of(report, part, smoothed=smoothed)
        parts.setdefault(part, {}).update({f"{key}{ending_of(name)}": value for key, value in found.items()})
    for part, found in parts.items():
        epoch = {"epoch": trained["epoch"]} if part == "eval" and "epoch" in trained else {}
        write_text(run.path / f"{part}_results.json", result_text(found | epoch))
        together |= found
    write_text(run.path / "all_results.json", result_text(together))


def ending_of(name: str) -> str:
    """What the scripts write after the keys of a set: nothing for the usual ones, `_mm` for MNLI's second one."""
    return "" if name in _PARTS else _ENDINGS.get(name, f"_{name}")


def results_of(report: Report, part: str, *, smoothed: bool = False) -> dict[str, float | None]:
    """Metrics by the names of the scripts, `part` before them; null where one is undefined. Of several main metrics,
    their mean is the combined score. `smoothed`: whether labels were, so that only the metric `loss` is the loss."""
    called = _THEIR_NAMES | ({"f1_micro": "f1"} if report.metric == "f1_micro" else {})
    found = {
        f"{part}_{called.get(name, name)}": value if math.isfinite(value) else None
        for name, value in report.metrics.items()
        if not name.startswith(_MEAN)
    }
    plain = next((found[f"{part}_{name}"] for name in _LOSSES if f"{part}_{name}" in found), None)
    if plain is not None and not smoothed:
        found.setdefault(f"{part}_loss", plain)
    if report.metric.startswith(_MEAN):
        value = report.metrics[report.metric]
        found[f"{part}_combined_score"] = value if math.isfinite(value) else None
    return {**found, f"{part}_samples": report.num_rows}


def result_text(results: Mapping[str, float | None]) -> str:
    """As the scripts write it."""
    return json.dumps(dict(results), indent=4, sort_keys=True, allow_nan=False) + "\n"


def _trained(run: RunFolder, result: TrainResult, experiment: Experiment) -> dict[str, float | None]:
    """What Trainer says of the training itself."""
    found: dict[str, float | None] = {"train_runtime": round(result.seconds, 4)}
    if result.seconds > 0:
        rows = _rows_seen(result, experiment)
        found["train_samples_per_second"] = round(rows / result.seconds, 3)
        found["train_steps_per_second"] = round(result.steps / result.seconds, 3)
    lines = map(json.loads, run.metrics.read_text(encoding="utf-8").splitlines())
    logged = [line for line in lines if line.get("loss") is not None]
    if logged:
        found["epoch"] = logged[-1]["epoch"]
        found["train_loss"] = _mean_loss(logged)
    if result.facts is not None and result.facts.rows.get("train") is not None:
        found["train_samples"] = result.facts.rows["train"]
    return found


def _rows_seen(result: TrainResult, experiment: Experiment) -> float:
    """As Trainer counts: rows of the epochs, or of full steps where the run is that many."""
    rows = None if result.facts is None else result.facts.rows.get("train")
    duration = experiment.train.duration
    if rows is not None and duration.unit == "epochs":
        return rows * duration.amount
    return result.steps * experiment.train.batch_size


def _mean_loss(logged: list[dict[str, float]]) -> float:
    """Over all steps: each logged loss is the mean of the steps since the one before."""
    total, before = 0.0, 0.0
    for line in logged:
        total, before = total + line["loss"] * (line["step"] - before), line["step"]
    return total / before


def _copy_model(best: Path, top: Path) -> None:
    """The files of the best model at the top: links to them where the file system has such, else copies."""
    for file in sorted(best.iterdir()):
        if file.is_file() and file.name not in _NOT_THE_MODEL:
            with written_aside(top / file.name) as aside:
                try:
                    os.link(file, aside)
                except OSError:
                    shutil.copyfile(file, aside)
