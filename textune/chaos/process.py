"""Processes that train and can be killed; the commands that `chaos.py` starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from textune.errors import RunError
from textune.run import AUTO

POLL_SECONDS = 0.002
_DYING_SECONDS = 60.0


class Running(Protocol):
    """A process at work on a run."""

    def poll(self) -> int | None:
        """Its exit code; None while it is at work."""

    def kill(self) -> None:
        """End it and all that it started with SIGKILL, and wait until they are gone."""


Starter = Callable[[Sequence[str], Path], Running]
"""Starts `textune WORDS`, whose output is appended to a file."""


class Process:
    """`python -m textune WORDS` in a process group of its own."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "textune", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        # The processes of several ranks are in the group too; they hold the run folder until they are gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + _DYING_SECONDS
        while time.monotonic() < until:
            try:
                os.killpg(self._process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(POLL_SECONDS)


class Launcher:
    """Starts the command of a proof for one run after the other, each with a log beside its folder."""

    def __init__(self, words: Sequence[str], start: Starter) -> None:
        """`words`: `train CONFIG ...` without the folder of the run."""
        self._words = words
        self._start = start

    def launch(self, run: Path) -> Running:
        """Start or resume a run."""
        return self._start([*self._words, "--run", str(run), "--resume", AUTO], self.log_of(run))

    def log_of(self, run: Path) -> Path:
        """The file with the output of every process of a run."""
        return run.with_name(f"{run.name}.log")

    def last_words(self, run: Path) -> str:
        """The last line that a run printed."""
        try:
            text = self.log_of(run).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RunError(f"{self.log_of(run)} cannot be read: {error.strerror or error}.") from error
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ") if lines else "it printed nothing."
