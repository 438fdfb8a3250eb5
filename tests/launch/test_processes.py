"""One process that becomes several: what torchrun is started with."""

import os
import sys

import pytest

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
