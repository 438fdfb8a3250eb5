"""One process that becomes several: what torchrun is started with."""

import os
import sys

import pytest

from textune.cli.runs import share_among_devices
from textune.config import load_config
from textune.launch import processes


class Became(Exception):
    """In the place of execv, which does not come back."""


@pytest.mark.parametrize(("said", "expected"), [(None, 600), ("45", 45)])
def test_workers_have_time_to_save(monkeypatch: pytest.MonkeyPatch, said: str | None, expected: int) -> None:
    def execv(program: str, words: list[str]) -> None:
        raise Became(program, words, int(os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]))

    monkeypatch.setattr(os, "execv", execv)
    # Set first, so that what the call sets is undone with it.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", said or "")
    if said is None:
        monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    with pytest.raises(Became) as became:
        processes.become_processes(2, ["train", "config.toml"])
    program, words, timeout = became.value.args
    assert (program, timeout) == (sys.executable, expected)
    assert words[-4:] == ["--", "textune", "train", "config.toml"]
    assert "--nproc-per-node=2" in words


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["config.toml", "--resume"], ["config.toml", "--resume", "--own-ranks"]),
        (["train", "c.toml", "--", "train.seed=1"], ["train", "c.toml", "--own-ranks", "--", "train.seed=1"]),
    ],
    ids=["option", "dashes"],
)
def test_its_processes_know_who_started_them(
    given: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def became(count: int, words: list[str]) -> None:
        raise Became(count, words)

    monkeypatch.setattr("textune.launch.become_processes", became)
    section = load_config(None, ["train.distributed.devices=2", "train.device=cpu"]).experiment.train
    with pytest.raises(Became) as caught:
        share_among_devices(section, given)
    assert caught.value.args == (2, passed)
