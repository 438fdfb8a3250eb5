"""Whole processes: an epoch from the command to the saved model, and how long it takes to begin."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.machine import threads
from bench.rows import Row, beside
from bench.speed.measure import repeat, significant, spread_of
from bench.speed.texts import held_out_texts, short_texts
from bench.speed.work import BATCH_SIZE, Settings, write_config
from bench.worker import ROOT, WorkerError, run_module

VALIDATION_ROWS = 872
"""As SST-2 has."""
WHOLE_EPOCH = 67_349
"""Rows of SST-2."""
SMALL_ROWS = 640
HELP_SECONDS, FIRST_STEP_SECONDS, TOY_SECONDS = 0.3, 5.0, 10.0


@dataclass(frozen=True)
class WholeRun:
    """A `textune train` process: seconds from start to end, and those inside optimizer steps."""

    rows: int
    wall: float
    steps: float
    metrics: dict[str, Any]

    @property
    def overhead(self) -> float:
        """Seconds that are no steps: start, tokenising, evaluation, saving, the report."""
        return self.wall - self.steps


def step_seconds(lines: list[dict[str, Any]], *, num_rows: int, batch_size: int) -> float:
    """Seconds in steps, from the lines of a one-epoch metrics.jsonl: rows of each interval over its rows per
    second."""
    total, done = 0.0, 0
    for line in (line for line in lines if line["kind"] == "step"):
        rows = min(line["step"] * batch_size, num_rows)
        total += (rows - done) / line["rows_per_second"]
        done = rows
    return total


def epoch(settings: Settings) -> list[Row]:
    """All seconds of a run over those in steps, for as many rows as fit into the time."""
    texts = short_texts(None, settings.data)
    small = _whole_run(settings, 64 if settings.tiny else SMALL_ROWS)
    fitting = int((settings.left() - small.overhead * 1.5) * small.rows / small.steps) // BATCH_SIZE * BATCH_SIZE
    large = _whole_run(settings, min(len(texts.examples), max(fitting, 2 * small.rows)))
    # Overhead grows with the rows from what a small run already pays; steps grow in proportion.
    per_row = max(0.0, (large.overhead - small.overhead) / (large.rows - small.rows))
    estimated = large.overhead + per_row * (WHOLE_EPOCH - large.rows)
    details = {
        "data": texts.first(large.rows).name,
        "rows": large.rows,
        "overhead_seconds": {"small run": significant(small.overhead), "this run": significant(large.overhead)},
        "small_run_rows": small.rows,
        "estimate": {
            "rows": WHOLE_EPOCH,
            "ratio": significant(1 + estimated / (large.steps / large.rows * WHOLE_EPOCH)),
            "what": "not measured: this run's overhead and steps, grown to the rows of SST-2",
        },
        "metrics": large.metrics,
        "threads": threads(),
    }
    whole = "a whole" if large.rows == len(texts.examples) else "a"
    question = f"{whole} {large.rows:,}-row epoch as one process: all seconds over those in steps"
    return [beside("epoch", question, (large.wall, large.steps), details, unit="s", peer="the optimizer steps alone")]


def _whole_run(settings: Settings, num_rows: int) -> WholeRun:
    scratch = settings.work / f"epoch-{num_rows}"
    scratch.mkdir()
    held_out = held_out_texts(16 if settings.tiny else VALIDATION_ROWS, settings.data)
    keys = {
        "train.duration": "1 epoch",
        "train.order": "shuffle",
        "train.device": settings.device,
        "data.validation.kind": "files",
        "data.validation.files": str(held_out.write(scratch / "held-out.csv")),
    }
    rows = short_texts(None, settings.data).first(num_rows).write(scratch / "rows.csv")
    config = write_config(scratch / "config.toml", keys, rows=rows, backbone=settings.backbone())
    started = time.perf_counter()
    run_module("textune", "train", str(config), "--run", str(scratch / "run"))
    wall = time.perf_counter() - started
    lines = [json.loads(line) for line in (scratch / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    seconds = step_seconds(lines, num_rows=num_rows, batch_size=BATCH_SIZE)
    return WholeRun(num_rows, wall, seconds, evaluations[-1]["metrics"])


def startup(settings: Settings) -> list[Row]:
    """Seconds of `textune --help`, of all of `preset:tiny`, and from the command to the first optimizer step with a
    cached token store."""
    helped, bare = ([_timed(*words) for _ in range(5)] for words in (("-m", "textune", "--help"), ("-c", "pass")))
    toy = ["-m", "textune", "train", "preset:tiny", f"train.device={settings.device}"]
    toys = [_timed(*toy, "--run", str(settings.work / f"toy-{number}")) for number in range(settings.pairs)]
    texts = short_texts(None, settings.data).first(settings.count(8_512))
    keys = {"train.duration": "3 epochs", "train.order": "shuffle", "train.device": settings.device}
    keys["train.log_every"] = "1 step"
    rows = texts.write(settings.work / "rows.csv")
    config = write_config(settings.work / "startup.toml", keys, rows=rows, backbone=settings.backbone())
    runs = (settings.work / f"first-step-{number}" for number in count())
    empty = _first_step(config, next(runs))
    cached = repeat(lambda: _first_step(config, next(runs)), seconds=settings.left(), at_least=settings.pairs)
    details = {"data": texts.name, "empty_cache_seconds": significant(empty), "threads": threads()}
    question = "from the command to the first step, tokens cached"
    help_details = {"python_alone": spread_of(bare), "threads": 1}
    return [
        _seconds("startup-help", "textune --help", helped, HELP_SECONDS, help_details),
        _seconds(
            "startup-toy", "preset:tiny, from the command to its reports", toys, TOY_SECONDS, {"threads": threads()}
        ),
        _seconds("startup-step", question, cached, FIRST_STEP_SECONDS, details),
    ]


def _seconds(id: str, question: str, seconds: list[float], bound: float, details: dict[str, Any]) -> Row:
    median, details = statistics.median(seconds), {"seconds": spread_of(seconds), **details}
    return beside(id, question, (median, bound), details, unit="s", peer="the bound")


def _timed(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def _first_step(config: Path, run: Path) -> float:
    """Seconds until `textune train` says that its first step is done; then the process is ended."""
    started, said = time.perf_counter(), ""
    command = [sys.executable, "-m", "textune", "train", str(config), "--run", str(run)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            if line.startswith("step 1/"):
                seconds = time.perf_counter() - started
                process.kill()
                return seconds
            said += line
    raise WorkerError(f"there was no first step: {said[-2000:]}")
