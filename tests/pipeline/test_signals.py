"""Signals stop a run in good order: what is saved, what is said, how the command ends, and that the run goes on."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from kits.ranking import Watch, textune_ranks
from kits.resume import same_end
from kits.resumption import end
from kits.runs import Listener, signal_after

import textune
from textune.errors import Preempted
from textune.run.manifest import read_manifest
from textune.training.checkpoint import newest

SMALL = [
    "train.duration=8 steps",
    "train.log_every=3 steps",
    "train.evaluate_every=2 steps",
    "train.evaluate_first=true",
    "train.checkpoint.every=3 steps",
    "model.compile=off",
    "evaluate.max_tokens=100000",  # one batch an evaluation
    "data.test.kind=none",
]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    textune.train(home / "config.toml", run=run, overrides=SMALL)
    return run


def go_on(home: Path, run: Path, whole: Path, resume: str | None = "latest") -> None:
    textune.train(home / "config.toml", run=run, overrides=SMALL, resume=resume)
    same_end(end(run), end(whole))


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_saves_the_step_and_says_so(home: Path, tmp_path: Path, whole: Path, name: str, code: int) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(home / "config.toml"), "--run", str(run), *SMALL]
    ended = textune_ranks(1, arguments, tmp_path / "logs", Watch(act=name, act_step=5))
    assert ended.codes == [code], ended.said
    checkpoint, passed = newest(run / "checkpoints")
    assert checkpoint is not None and (checkpoint.step, passed) == (5, [])
    if name == "SIGINT":
        assert "Stopped after step 5; everything is saved, and the same command resumes from there." in " ".join(
            ended.said[0].split()
        )
        assert read_manifest(run).status == "interrupted"
    else:
        said = f"stopped by {name} after step 5; everything is saved, and the same command resumes from there."
        assert said in " ".join(ended.said[0].split())
        assert read_manifest(run).status == "preempted"
    assert "Error" not in ended.said[0] and "Traceback" not in ended.said[0]
    go_on(home, run, whole, None)  # by the same command


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), ("SIGTERM", -signal.SIGTERM), ("SIGUSR1", -signal.SIGUSR1)]
)
@pytest.mark.parity("TW-22")
def test_a_second_signal_stops_at_once(home: Path, tmp_path: Path, whole: Path, name: str, code: int) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(home / "config.toml"), "--run", str(run), *SMALL]
    ended = textune_ranks(1, arguments, tmp_path / "logs", Watch(act=f"{name} {name}", act_step=5))
    assert ended.codes == [code], ended.said
    assert "Traceback" not in ended.said[0]
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is None or checkpoint.step == 3  # nothing was saved of step 5
    assert read_manifest(run).status == ("interrupted" if name == "SIGINT" else "running")
    go_on(home, run, whole)


def test_the_same_signal_again_within_a_moment_is_one(home: Path, tmp_path: Path, whole: Path) -> None:
    """A terminal and torchrun both pass Ctrl+C on."""
    run = tmp_path / "run"
    sent = signal_after({5: [signal.SIGINT, signal.SIGINT, signal.SIGTERM]})
    with pytest.raises(KeyboardInterrupt):
        textune.train(home / "config.toml", run=run, overrides=SMALL, after_step=sent)
    assert read_manifest(run).status == "interrupted"
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 5
    go_on(home, run, whole)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", Preempted), ("SIGUSR1", Preempted)]
)
def test_a_signal_before_the_first_step_stops_at_once_and_says_how_things_stand(
    home: Path, tmp_path: Path, whole: Path, name: str, error: type[BaseException]
) -> None:
    number = signal.Signals[name]
    handler = signal.getsignal(number)

    class WhileTokenising(Listener):
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage.startswith("tokenising"):
                os.kill(os.getpid(), number)

    words = [*SMALL, f"tokens.cache={tmp_path / 'cache'}"]
    with pytest.raises(error) as stopped:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, tracker=WhileTokenising())
    said = "Stopped: " if name == "SIGINT" else f"stopped by {name}: "
    assert (
        str(stopped.value) == f"{said}nothing was saved yet; the same command starts again, and reads the token cache."
    )
    assert signal.getsignal(number) is handler
    go_on(home, tmp_path / "run", whole, None)


def test_a_signal_before_the_first_step_of_a_resumed_run_does_not_say_that_nothing_is_saved(
    home: Path, tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Preempted, match="after step 5"):
        textune.train(home / "config.toml", run=run, overrides=SMALL, after_step=signal_after({5: [signal.SIGTERM]}))

    class WhileTokenising(Listener):
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage.startswith("tokenising"):
                os.kill(os.getpid(), signal.SIGTERM)

    words = [*SMALL, f"tokens.cache={tmp_path / 'cache'}"]
    with pytest.raises(
        Preempted, match="everything that was saved before is still there, and the same command resumes"
    ):
        textune.train(home / "config.toml", run=run, overrides=words, tracker=WhileTokenising())
    go_on(home, run, whole, None)


class SignalInEvaluation(Listener):
    """Sends a signal in the middle of the n-th evaluation of a session."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.left = which

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == "evaluating":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("which", "step"), [(1, 0), (2, 2), (5, 8)])
def test_an_evaluation_that_a_signal_stops_is_made_again(
    home: Path, tmp_path: Path, whole: Path, which: int, step: int
) -> None:
    """Also when the session that makes it again is stopped in the middle of it too, and where it is the first or the
    last."""
    run = tmp_path / "run"
    words = SMALL
    when = f"after step {step}" if step else "before the first step"
    listener = SignalInEvaluation(which)
    with pytest.raises(Preempted, match=rf"stopped by SIGTERM {when}; everything is saved"):
        textune.train(home / "config.toml", run=run, overrides=words, tracker=listener)
    assert len(listener.evaluations) == which - 1
    for _ in range(2):  # stopped in the same evaluation again, and again
        again = SignalInEvaluation(1)
        with pytest.raises(Preempted, match=when):
            textune.train(home / "config.toml", run=run, overrides=words, tracker=again)
        assert again.evaluations == []
    checkpoint, _ = newest(run / "checkpoints")
    assert (checkpoint.step if checkpoint else 0) == step
    assert checkpoint is None or checkpoint.state["progress"]["evaluated"] is False
    textune.train(home / "config.toml", run=run, overrides=words)
    mine, theirs = end(run), end(whole)
    if (
        step == 8
    ):  # the checkpoint of the last step is from before: whoever went on from it would make the evaluation again
        assert mine.state["progress"]["evaluated"] is False and theirs.state["progress"]["evaluated"] is True
        mine = replace(mine, state=theirs.state)
    same_end(mine, theirs)
