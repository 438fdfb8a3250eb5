"""The one process from which tests fork others: it has imported everything, since that takes longer than a tiny run.

Python has one such server for each process of tests, so `killkit` and `ranking` share it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kits.patience import PATIENCE

TESTS = Path(__file__).parents[1]
Answer = TypeVar("Answer")


@functools.cache
def server() -> ForkServerContext:
    """Its environment is that of the first call."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kits.forkpreload"])
    with pytest.MonkeyPatch.context() as patch:
        # The server looks for what it is to import in no other way, and says nothing where it does not find it.
        before = filter(None, [os.environ.get("PYTHONPATH")])
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS), *before]))
        forkserver.ensure_running()
    return context


def in_a_process(work: Callable[..., Answer], *arguments: Any) -> Answer:
    """What `work` returns in a process of its own, which must be a function of a module; AssertionError with what it
    raised."""
    receiver, sender = server().Pipe(duplex=False)
    process = server().Process(target=_answer, args=(sender, work, arguments))
    process.start()
    sender.close()
    with receiver:
        try:
            assert receiver.poll(PATIENCE), "no answer"
            answer, error = receiver.recv()
        finally:
            process.kill()
            process.join()
    assert not error, error
    return answer  # type: ignore[no-any-return]


def _answer(sender: Connection, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        answer, error = work(*arguments), ""
    except BaseException:
        answer, error = None, traceback.format_exc()
    sender.send((answer, error))


class Module:
    """`python -m NAME WORDS` in a forked process; what it says goes to the files `out` and `err` of `folder`, its
    place."""

    def __init__(
        self, name: str, words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        arguments = (name, list(words), str(folder), dict(os.environ if environment is None else environment))
        self._process = server().Process(target=_run_module, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.exitcode

    def wait(self) -> tuple[int, str]:
        """The exit code, and what was said on standard error; AssertionError where it does not end."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        self._process.kill()
        assert code is not None, "did not end"
        return code, (self._folder / "err").read_text(encoding="utf-8")


def _run_module(name: str, words: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file in ((1, "out"), (2, "err")):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
