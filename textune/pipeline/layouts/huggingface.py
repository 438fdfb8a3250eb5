"""The files of the scripts of transformers: `all_results.json` and the like at the top of the run folder."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from textune.atomic import write_text
from textune.config import Experiment
from textune.run import RunFolder

if TYPE_CHECKING:
    from textune.evaluation import Report
    from textune.pipeline.train import TrainResult


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """`all_results.json`, and `eval_results.json` with the part of it about the validation rows."""
    evaluated = _measured(result.reports["validation"]) if "validation" in result.reports else {}
    trained: dict[str, float | None] = {"train_runtime": round(result.seconds, 4)}
    if evaluated:
        write_text(run.path / "eval_results.json", _as_text(evaluated))
    write_text(run.path / "all_results.json", _as_text(evaluated | trained))


def _measured(report: Report) -> dict[str, float | None]:
    """Metrics by the names of transformers; null where one is undefined."""
    found = {f"eval_{name}": value if math.isfinite(value) else None for name, value in report.metrics.items()}
    return {**found, "eval_samples": report.num_rows}


def _as_text(results: dict[str, float | None]) -> str:
    return json.dumps(results, indent=4, sort_keys=True, allow_nan=False) + "\n"
