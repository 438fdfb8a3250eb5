"""Workers of `predict_files` that start at once, those that die, and a process that predicts with small shards."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, MutableSequence
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, Self, TypeVar

import pytest

from kits.forking import server
from kits.runs import Listener
from textune import crew
from textune.crew import Crew
from textune.partfiles import PartFiles
from textune.pipeline.sharded import worker
from textune.pipeline.sharded.plan import Plan
from textune.pipeline.sharded.reading import ShardRows
from textune.pipeline.sharded.settings import Settings
from textune.pipeline.sharded.worker import Outcome, ShardPredictor, answer
from textune.prediction import windows

_Task = TypeVar("_Task")
_Outcome = TypeVar("_Outcome")
ROWS = 16
"""Rows of a shard."""


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few rows, and workers that are forked from a process that has imported everything."""
    monkeypatch.setattr(windows, "WINDOW_ROWS", ROWS)
    monkeypatch.setattr(crew, "new_context", server)


@pytest.fixture
def one_process(small_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the workers: every shard in this process, one after the other."""
    verb = importlib.import_module("textune.pipeline.predict_files")
    monkeypatch.setattr(verb, "by_processes", here)


def here(
    rows: Iterator[ShardRows], settings: Settings, plan: Plan, parts: PartFiles, **_: Any
) -> Iterator[tuple[int, Outcome]]:
    predictor = ShardPredictor(settings, plan.schema)
    for one in rows:
        yield one.number, answer(predictor, one, partial(worker.keep_part, parts, one.number))


def dies_at_the_second(connection: Any, at: MutableSequence[int], *_: Any) -> None:
    """A worker that shard 1 kills."""
    while True:
        rows: ShardRows = connection.recv()
        at[0] = rows.number
        if rows.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.send(Outcome({"rows": len(rows.window.numbers), "skipped": [], "without": []}))


class Stopping(Listener):
    """Ctrl+C when so many shards are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def progress(self, stage: str, done: int, total: int) -> None:
        super().progress(stage, done, total)
        self._left -= stage == "predicting"
        if self._left == 0:
            raise KeyboardInterrupt


class Killing(Crew[_Task, _Outcome]):
    """A crew whose workers are killed at random moments, so many in all."""

    left = 0
    draw = Random(7)

    def __enter__(self) -> Self:
        self._ended = Event()
        self._killer = Thread(target=self._kill, daemon=True)
        self._killer.start()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._killer.join()
        super().__exit__(*error)

    def _kill(self) -> None:
        while type(self).left and not self._ended.wait(self.draw.uniform(0, 0.15)):
            if pids := self.pids:
                with contextlib.suppress(ProcessLookupError):  # it has just been found dead
                    os.kill(self.draw.choice(pids), signal.SIGKILL)
                    type(self).left -= 1


class Command:
    """`textune predict WORDS` with small shards, in a process of its own whose workers are forked from it."""

    def __init__(self, folder: Path, *words: str, rows: int = ROWS) -> None:
        self._process = server().Process(target=_predict, args=(str(folder), words, rows))
        self._process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code; None where it has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _predict(folder: str, words: tuple[str, ...], rows: int) -> None:
    os.chdir(folder)
    for descriptor, file in ((1, "out"), (2, "err")):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    windows.WINDOW_ROWS = rows
    crew.new_context = _forking
    from textune.cli import main

    sys.argv = ["textune", "predict", *words]
    main(["predict", *words])


def _forking() -> Any:
    return multiprocessing.get_context("fork")


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(place / "cwd") == str(folder) and (place / "stat").read_text().rpartition(")")[2][1] != "Z":
                found.append(int(place.name))
        except OSError:
            continue
    return found
