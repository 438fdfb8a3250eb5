"""Processes to kill, quickly: forked from one that has imported everything.

`textune chaos` starts each process from nothing; its engine takes these in their place.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from kits.forking import server


class Forked:
    """`textune WORDS` in a forked process."""

    def __init__(self, words: Sequence[str], log: Path, *, dies_at: int = 0) -> None:
        """`dies_at`: the process kills itself right before the change of that number, from 1, to the file system."""
        self._process = server().Process(target=_work, args=(list(words), str(log), dies_at))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def _work(words: list[str], log: str, dies_at: int) -> None:
    assert "kits.forkpreload" in sys.modules
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["textune", *words]
    from textune.cli import main

    if dies_at:
        sys.addaudithook(_Death(dies_at, words[words.index("--run") + 1]))
    main(words)


class _Death:
    """Counts the changes to a run's folder, and kills the process before one of them."""

    CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"})

    def __init__(self, at: int, run: str) -> None:
        self._left = at
        self._run = os.path.abspath(run)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in "wa"
        if not (writes or event in self.CHANGES) or not isinstance(arguments[0], str | os.PathLike):
            return
        # Names inside of a folder that is being removed come without it.
        path = os.fspath(arguments[0])
        if os.path.isabs(path) and not path.startswith(self._run):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
