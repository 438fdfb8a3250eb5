"""A run that was stopped and goes on is the run that was never stopped (R2), whatever stopped it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kits.resume import end_of, same_end
from kits.runs import Listener, signal_after

import textune
from textune.errors import Preempted
from textune.run.manifest import read_manifest

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


@pytest.fixture(scope="module")
def uninterrupted(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    textune.train(home / "config.toml", run=run, overrides=SMALL)
    return run


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in (1, 4, 10) else pytest.mark.slow) for step in range(1, STEPS)]
)
def test_stopped_at_any_step_and_gone_on_is_never_stopped(
    home: Path, tmp_path: Path, uninterrupted: Path, step: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Preempted):
        textune.train(
            home / "config.toml", run=run, overrides=SMALL, after_step=signal_after({step: [signal.SIGTERM]})
        )
    assert read_manifest(run).status == "preempted"
    result = textune.train(home / "config.toml", run=run, overrides=SMALL)  # by itself: a scheduler had stopped it
    assert result is not None and result.steps == STEPS
    same_end(end_of(run), end_of(uninterrupted))


class Kept(Listener):
    """A tracker of a service that has runs of its own."""

    def state(self) -> dict[str, str]:
        return {"run_id": "r-17"}


def test_a_tracker_gets_back_what_a_checkpoint_kept_for_it(home: Path, tmp_path: Path) -> None:
    run, stop = tmp_path / "run", signal_after({2: [signal.SIGTERM]})
    first, second, branch = Kept(), Kept(), Kept()
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=SMALL, tracker=first, after_step=stop)
    [(_, before)], [(status, files)] = first.started, first.finished
    assert before == {} and status == "preempted" and "report.json" not in files
    stop = signal_after({4: [signal.SIGTERM]})
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=SMALL, tracker=second, after_step=stop)
    [(config, kept)] = second.started
    assert kept["run_id"] == "r-17" and kept["metrics_bytes"] > 0 and config["train"]["batch_size"] == 32
    textune.train(home / "config.toml", run=tmp_path / "branch", overrides=SMALL, resume=str(run), tracker=branch)
    assert branch.started[0][1] == {}  # another run
    assert branch.finished[0][0] == "complete"
