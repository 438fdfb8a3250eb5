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


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """The model at the top; `train_results.json`, `eval_results.json`, `predict_results.json`, and all of it in
    `all_results.json`."""
    _copy_model(run.best, run.path)
    trained = _trained(run, result, experiment)
    write_text(run.path / "train_results.json", result_text(trained))
    together = dict(trained)
    for name, report in result.reports.items():
        found = results_of(report, _PARTS.get(name, "eval"))
        if name == "mismatched":
            found = {f"{key}_mm": value for key, value in found.items()}
        if name in _PARTS:
            epoch = {"epoch": trained["epoch"]} if name == "validation" and "epoch" in trained else {}
            write_text(run.path / f"{_PARTS[name]}_results.json", result_text(found | epoch))
        together |= found
    write_text(run.path / "all_results.json", result_text(together))


def results_of(report: Report, part: str) -> dict[str, float | None]:
    """Metrics by the names of the scripts, `part` before them; null where one is undefined. Of several main metrics,
    their mean is the combined score."""
    called = _THEIR_NAMES | ({"f1_micro": "f1"} if report.metric == "f1_micro" else {})
    found = {
        f"{part}_{called.get(name, name)}": value if math.isfinite(value) else None
        for name, value in report.metrics.items()
        if not name.startswith(_MEAN)
    }
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
        rows = result.steps * experiment.train.batch_size
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
