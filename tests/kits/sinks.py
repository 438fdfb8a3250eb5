"""What a sink gets, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textune.run.tracking.sink import Record, TrackedRun


def tracked(
    folder: Path, *, key: str = "0123456789abcdef0123456789abcdef", known: str = "", **config: Any
) -> TrackedRun:
    return TrackedRun("x", folder, {"train": {"seed": 1, "betas": [0.9, 0.99]}, **config}, {"steps": 4}, key, known)


def step(number: int, **values: Any) -> Record:
    line = {"kind": "step", "step": number, "loss": 1 / number, "lr": 0.1, "use": {"cpu": 99.0}, **values}
    return Record("step", number, 1000.0 + number, line)


def evaluation(number: int, *, name: str = "validation", is_best: bool = False, **metrics: Any) -> Record:
    line = {"kind": "evaluation", "set": name, "step": number, "main": "f1", "is_best": is_best, "metrics": metrics}
    return Record("evaluation", number, 1000.0 + number, line)


def notice(message: str, number: int = 1) -> Record:
    return Record("notice", 0, 1000.0, {"kind": "notice", "message": message}, number)
