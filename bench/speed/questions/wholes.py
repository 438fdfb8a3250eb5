"""Whole processes: an epoch from the command to the saved model, and how long it takes to begin."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.speed.data import held_out_texts, short_texts
from bench.speed.measure import repeat, significant, spread_of
from bench.speed.questions.common import BATCH_SIZE, Settings, write_config
from bench.speed.rows import Answer
from bench.speed.workers import ROOT, WorkerError, run_module

VALIDATION_ROWS = 872
"""As SST-2 has."""
WHOLE_EPOCH = 67_349
"""Rows of SST-2."""
SMALL_ROWS = 640
HELP_SECONDS = 0.3
FIRST_STEP_SECONDS = 5.0


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
    """Seconds in steps, from the lines of a one-epoch metrics.jsonl: rows of each interval over its rows a second."""
    total, done = 0.0, 0
    for line in lines:
        if line["kind"] == "step":
            rows = min(line["step"] * batch_size, num_rows)
            total += (rows - done) / line["rows_per_second"]
            done = rows
    return total


def epoch(settings: Settings) -> list[Answer]:
    """`textune train` as a fresh process with an empty token cache: start, tokenising, an epoch, one evaluation, saving."""
    texts = short_texts(None, settings.data)
    small = _whole_run(settings, 64 if settings.tiny else SMALL_ROWS)
    rows_per_second = small.rows / small.steps
    fitting = int((settings.left() - small.overhead * 1.5) * rows_per_second) // BATCH_SIZE * BATCH_SIZE
    num_rows = min(len(texts.examples), max(fitting, 2 * small.rows))
    large = _whole_run(settings, num_rows)
    # Overhead grows with the rows from what a small run already pays; steps grow in proportion.
    per_row = max(0.0, (large.overhead - small.overhead) / (large.rows - small.rows))
    estimated = large.overhead + per_row * (WHOLE_EPOCH - large.rows)
    estimated_steps = large.steps / large.rows * WHOLE_EPOCH
    whole = "a whole" if num_rows == len(texts.examples) else "a"
    return [
        Answer(
            id="epoch",
            question=f"{whole} {num_rows:,}-row epoch as one process: all seconds over those in steps",
            ours=large.wall,
            peer=large.steps,
            ratio=large.wall / large.steps,
            unit="s",
            peer_name="the optimizer steps alone",
            details={
                "data": texts.first(num_rows).name,
                "rows": num_rows,
                "overhead_seconds": {"small run": significant(small.overhead), "this run": significant(large.overhead)},
                "small_run_rows": small.rows,
                "estimate": {
                    "rows": WHOLE_EPOCH,
                    "ratio": significant(1 + estimated / estimated_steps),
                    "what": "not measured: this run's overhead and steps, grown to the rows of SST-2",
                },
                "metrics": large.metrics,
                "threads": _threads(),
            },
        )
    ]


def _whole_run(settings: Settings, num_rows: int) -> WholeRun:
    texts = short_texts(None, settings.data)
    held_out = held_out_texts(16 if settings.tiny else VALIDATION_ROWS, settings.data)
    scratch = settings.work / f"epoch-{num_rows}"
    scratch.mkdir()
    config = write_config(
        scratch / "config.toml",
        rows=texts.first(num_rows).write(scratch / "rows.csv"),
        backbone=settings.backbone(),
        cache=scratch / "cache",
        duration="1 epoch",
        order="shuffle",
        validation=held_out.write(scratch / "held-out.csv"),
        device=settings.device,
    )
    started = time.perf_counter()
    run_module("textune", "train", str(config), "--run", str(scratch / "run"))
    wall = time.perf_counter() - started
    lines = [json.loads(line) for line in (scratch / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    seconds = step_seconds(lines, num_rows=num_rows, batch_size=BATCH_SIZE)
    return WholeRun(num_rows, wall, seconds, evaluations[-1]["metrics"])


def startup(settings: Settings) -> list[Answer]:
    """Seconds of `textune --help`, and from the command to the first optimizer step with a cached token store."""
    repeats = 2 if settings.tiny else 5
    helped = [_timed([sys.executable, "-m", "textune", "--help"]) for _ in range(repeats)]
    bare = [_timed([sys.executable, "-c", "pass"]) for _ in range(repeats)]
    texts = short_texts(None, settings.data).first(settings.count(8_512))
    config = write_config(
        settings.work / "startup.toml",
        rows=texts.write(settings.work / "rows.csv"),
        backbone=settings.backbone(),
        cache=settings.work / "cache",
        duration="3 epochs",
        order="shuffle",
        device=settings.device,
    )
    text = config.read_text(encoding="utf-8").replace("[train]", '[train]\nlog_every = "1 step"')
    config.write_text(text, encoding="utf-8")
    numbers = count()
    empty = _first_step(config, settings.work / f"first-step-{next(numbers)}")
    cached = repeat(
        lambda: _first_step(config, settings.work / f"first-step-{next(numbers)}"),
        seconds=settings.left(),
        at_least=settings.pairs,
    )
    details = {"data": texts.name, "empty_cache_seconds": significant(empty), "threads": _threads()}
    return [
        _seconds("startup-help", "textune --help", helped, HELP_SECONDS, {"python_alone": spread_of(bare), "threads": 1}),
        _seconds("startup-step", "from the command to the first step, tokens cached", cached, FIRST_STEP_SECONDS, details),
    ]


def _seconds(name: str, question: str, seconds: list[float], bound: float, details: dict[str, Any]) -> Answer:
    value = statistics.median(seconds)
    return Answer(
        id=name,
        question=question,
        ours=value,
        peer=bound,
        ratio=value / bound,
        unit="s",
        peer_name="the bound",
        details={"seconds": spread_of(seconds), **details},
    )


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def _first_step(config: Path, run: Path) -> float:
    """Seconds until `textune train` says that its first step is done; then the process is ended."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "textune", "train", str(config), "--run", str(run)]
    said = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 1/"):
                seconds = time.perf_counter() - started
                process.kill()
                return seconds
            said.append(line)
    raise WorkerError(f"there was no first step: {''.join(said)[-2000:]}")


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
