"""The process that the gate of exports starts, forked from one that has imported everything: a test of an export need
not wait for PyTorch and transformers to be imported again."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kits.forking import server


class Asking:
    """As `textune.exports.parity.start_asking` starts it."""

    def __init__(self, scratch: Path) -> None:
        self._process = server().Process(target=_ask, args=(str(scratch), os.getcwd(), dict(os.environ)))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("asking", timeout or 0)
        return self._process.exitcode


def _ask(scratch: str, folder: str, environment: Mapping[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(os.open(Path(scratch) / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.argv = ["asking", scratch]
    runpy.run_module("textune.exports.asking", run_name="__main__", alter_sys=True)


@pytest.fixture(scope="session", autouse=True)
def forked_gate() -> Iterator[Callable[[Path], Any]]:
    """Every gate of these tests, but of those that put back what starts the real process, which this is."""
    from textune.exports import parity

    with pytest.MonkeyPatch.context() as patch:
        real = parity.start_asking
        patch.setattr(parity, "start_asking", Asking)
        yield real
