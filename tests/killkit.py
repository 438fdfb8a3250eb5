"""Processes to kill, quickly: forked from one that has imported everything, since imports take longer than a tiny run.

`textune chaos` starts each process from nothing; its engine takes these in their place.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["forkpreload"])
    with pytest.MonkeyPatch.context() as patch:
        # The server looks for what it is to import in no other way, and says nothing where it does not find it.
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


class Forked:
    """`textune WORDS` in a forked process."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._process = _server().Process(target=_work, args=(list(words), str(log)))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _work(words: list[str], log: str) -> None:
    assert "forkpreload" in sys.modules
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["textune", *words]
    from textune.cli import main

    main(words)
