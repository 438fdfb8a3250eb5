"""A run that was stopped and goes on is the run that was never stopped (R2), whatever stopped it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.resume import end_of, same_end

import textune
import textune.run.drive as driving
from textune.errors import Preempted
from textune.run.folder import read_manifest

SMALL = [
    "train.duration=3 epochs",
    "train.batch_size=32",
    "train.log_every=2 steps",
    "train.evaluate_every=4 steps",
    "train.early_stopping.patience=9",
    "train.checkpoint.every=1 step",
    "train.checkpoint.background=false",
    "data.test.kind=none",
]
STEPS = 15


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Send this process a real signal while it trains; nothing if the run goes on behind that step."""
    real = driving.steps

    def stopped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for result in real(*args, **kwargs):
            if result.step == step:
                os.kill(os.getpid(), number)
            yield result

    monkeypatch.setattr(driving, "steps", stopped)


@pytest.fixture(scope="module")
def uninterrupted(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    textune.train(home / "config.toml", run=run, overrides=SMALL)
    return run


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in (1, 4, 10) else pytest.mark.slow) for step in range(1, STEPS)]
)
def test_stopped_at_any_step_and_gone_on_is_never_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Path, step: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        stop_after(step, patch)
        textune.train(home / "config.toml", run=run, overrides=SMALL)
    assert read_manifest(run)["status"] == "preempted"
    result = textune.train(home / "config.toml", run=run, overrides=SMALL)  # by itself: a scheduler had stopped it
    assert result is not None and result.steps == STEPS
    same_end(end_of(run), end_of(uninterrupted))
