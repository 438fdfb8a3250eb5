"""Several runs: all configs are checked first, finished ones are skipped, stopped ones resume, here or apart."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.patience import every_day
from kits.runs import signal_after

import textune
from textune.errors import ConfigError, DataError, Preempted, RunError, TextuneError
from textune.model.backbone import TextModel
from textune.run.tracking.tracker import SilentTracker
from textune.studies import runs
from textune.studies.processes import environment
from textune.studies.runs import PlannedRun, RunResult, carry_out, exit_code_of


class Told:
    """Keeps what it is told; `act` is called as each run begins in this process."""

    def __init__(self, act: Any = lambda run: None) -> None:
        self.began: list[str] = []
        self.ended: list[RunResult] = []
        self._act = act

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        self.began.append(run.name)

    @contextlib.contextmanager
    def tracker(self, run: PlannedRun) -> Iterator[SilentTracker]:
        self._act(run)
        yield SilentTracker()

    def end(self, result: RunResult, number: int, total: int) -> None:
        self.ended.append(result)


def planned(place: Path, out: Path, **settings: list[str]) -> list[PlannedRun]:
    return [PlannedRun(name, place / "config.toml", out / name, words) for name, words in settings.items()]


def weights(run: Path) -> bytes:
    return (run / "best" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_each_run_is_that_of_train_and_is_not_repeated(place: Path, tmp_path: Path) -> None:
    """In this process and in processes of their own, bit for bit."""
    plan = {"first": ["train.seed=1"], "second": ["train.seed=2"]}
    alone = textune.train(place / "config.toml", run=tmp_path / "alone", overrides=plan["second"])
    for jobs in (1, 2):
        told, out = Told(), tmp_path / f"jobs-{jobs}"
        results = carry_out(planned(place, out, **plan), jobs=jobs, watch=told)
        assert [result.name for result in results] == told.began == list(plan)
        assert [result.error for result in results] == [None, None] and exit_code_of(results) == 0
        assert {result.name for result in told.ended} == set(plan)
        assert weights(out / "second") == weights(alone.run) != weights(out / "first")
        assert results[1].reports == alone.reports and results[1].manifest.status == "complete"
        assert sorted(path.name for path in out.iterdir()) == ["first", "second"]
        written = (out / "first" / "manifest.json").stat().st_mtime_ns
        again = carry_out(planned(place, out, **plan), jobs=jobs)
        assert all(result.was_complete for result in again) and again[1].reports == alone.reports
        assert (out / "first" / "manifest.json").stat().st_mtime_ns == written


def test_every_config_is_checked_before_the_first_run(place: Path, tmp_path: Path) -> None:
    plan = planned(place, tmp_path, good=[], bad=["train.optimizer.lrr=1"], worse=["data.train.files=[]"])
    with refused(ConfigError, key="train.optimizer.lrr") as found:
        carry_out(plan)
    assert found.value.message.startswith("bad: ") and "1 more run" in found.value.hint
    assert not list(tmp_path.iterdir())
    told = Told()
    results = carry_out(plan, keep_going=True, watch=told)
    assert [result.exit_code for result in results] == [0, 2, 2] and exit_code_of(results) == 2
    assert "data.train.files" in results[2].reason and told.began == ["good"]
    assert [result.name for result in told.ended] == ["bad", "worse", "good"]


def test_a_folder_that_holds_another_run_is_found_before_the_first_run(place: Path, tmp_path: Path) -> None:
    carry_out(planned(place, tmp_path, second=["train.seed=2"]))
    with refused(RunError, place=str(tmp_path / "second")) as found:
        carry_out(planned(place, tmp_path, first=["train.seed=1"], second=["train.seed=3"]))
    assert found.value.message.startswith("second: ") and "train.seed" in found.value.reason
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("jobs", every_day([1, 2], [1]))
def test_a_run_that_fails_stops_the_others_unless_they_keep_going(place: Path, tmp_path: Path, jobs: int) -> None:
    words = ["data.train.where={ label = ['nobody'] }"]
    plan = planned(place, tmp_path, bad=words, good=[])
    with refused(DataError if jobs == 1 else TextuneError) as found:
        carry_out(plan, jobs=jobs)
    assert found.value.message.startswith("bad: ")
    results = carry_out(plan, jobs=jobs, keep_going=True)
    assert [result.exit_code for result in results] == [2, 0] and "nobody" in results[0].reason


def test_a_bug_in_one_run_is_told_apart(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(runs, "train", broken)
    [result] = carry_out(planned(place, tmp_path, one=[]), keep_going=True)
    assert result.exit_code == 1 and "ZeroDivisionError: a bug" in result.reason
    with pytest.raises(ZeroDivisionError):
        carry_out(planned(place, tmp_path, one=[]))


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Preempted)])
def test_a_signal_in_a_run_saves_it_and_the_same_call_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[BaseException]
) -> None:
    plan = planned(place, tmp_path, first=["train.seed=1"], second=["train.seed=2"], third=["train.seed=3"])
    whole, real = carry_out(planned(place, tmp_path / "whole", second=["train.seed=2"])), textune.train

    def stopped(*arguments: Any, **named: Any) -> Any:
        steps = {4: [number]} if named["run"].name == "second" else {}
        return real(*arguments, **named, after_step=signal_after(steps))

    monkeypatch.setattr(runs, "train", stopped)
    with pytest.raises(kind):
        carry_out(plan, keep_going=True)
    monkeypatch.undo()
    told = Told()
    results = carry_out(plan, watch=told)
    assert [result.was_complete for result in results] == [True, False, False]
    assert results[1].manifest.resumed[0].step == 4 and weights(results[1].folder) == weights(whole[0].folder)


def test_a_signal_between_two_runs_ends_with_a_sentence(place: Path, tmp_path: Path) -> None:
    told = Told(lambda run: os.kill(os.getpid(), signal.SIGTERM) if run.name == "second" else None)
    with pytest.raises(Preempted, match="same command"):
        carry_out(planned(place, tmp_path, first=[], second=["train.seed=2"]), watch=told)
    assert [result.name for result in told.ended] == ["first"] and not (tmp_path / "second").exists()


STUDY = """
import sys
from pathlib import Path
from textune.studies.runs import PlannedRun, carry_out
place, out = map(Path, sys.argv[1:])
words = ["train.duration=5000 steps", "train.evaluate_every=5000 steps", "train.checkpoint.every=1000 steps"]
plan = [PlannedRun(name, place / "config.toml", out / name, [*words, f"train.seed={name}"]) for name in "123"]
try:
    carry_out(plan, jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
def test_a_signal_is_passed_on_to_every_process(place: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUDY, place, tmp_path], stderr=subprocess.PIPE)
    try:
        lines = [tmp_path / name / "metrics.jsonl" for name in "12"]
        until(lambda: all(line.is_file() and '"step"' in line.read_text() for line in lines), process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 130, said.decode()
    finally:
        process.kill()
    found = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "12"]
    assert [one["status"] for one in found] == ["interrupted"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    assert all(list((tmp_path / name / "checkpoints").iterdir()) for name in "12")


def until(is_so: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_is_killed_is_a_failure_of_its_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'no room' >&2\nkill -9 $$\n")
    fake.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fake))
    results = carry_out(planned(place, tmp_path / "out", one=[], two=["train.seed=2"]), jobs=2, keep_going=True)
    assert [result.exit_code for result in results] == [137, 137]
    assert "SIGKILL" in results[0].reason and "no room" in results[0].reason


def test_the_memory_of_a_run_is_free_before_the_next(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of one that failed, whose traceback holds its model."""
    models: list[weakref.ref[TextModel]] = []
    alive: list[int] = []
    made = TextModel.__init__

    def noted(model: TextModel, *arguments: Any, **named: Any) -> None:
        made(model, *arguments, **named)
        models.append(weakref.ref(model))

    def failing(model: TextModel, *arguments: Any, **named: Any) -> torch.Tensor:
        raise RunError("it fails here")

    monkeypatch.setattr(TextModel, "__init__", noted)
    told = Told(lambda run: alive.append(sum(model() is not None for model in models)))
    carry_out(planned(place, tmp_path, first=[], second=["train.seed=2"]), watch=told)
    monkeypatch.setattr(TextModel, "forward", failing)
    results = carry_out(planned(place, tmp_path, third=["train.seed=3"], fourth=[]), watch=told, keep_going=True)
    gc.collect()
    assert [result.exit_code for result in results] == [2, 2] and len(models) >= 3
    assert alive == [0] * 4


def test_each_process_has_a_device_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [environment(place, 3)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["0", "1", "0"]
    assert environment(0, 3)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,5")
    assert [environment(place, 2)["CUDA_VISIBLE_DEVICES"] for place in range(2)] == ["GPU-a", "5"]
    assert environment(0, 1) == dict(os.environ)


def test_what_cannot_be_at_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = planned(place, tmp_path, one=["train.distributed.devices=2"], two=[])
    with refused(RunError, key="train.distributed.devices", value=2):
        carry_out(several, jobs=2)
    [given] = planned(place, tmp_path, one=[])
    with refused(RunError, key="jobs", value=2):
        carry_out([PlannedRun("one", given.config, given.folder, rows={"x": []})], jobs=2)
    with refused(ConfigError, key="jobs", value=0):
        carry_out(several, jobs=0)
    monkeypatch.setattr(runs, "launched", lambda: True)
    with refused(RunError):
        carry_out(several)
    assert not list(tmp_path.iterdir())
