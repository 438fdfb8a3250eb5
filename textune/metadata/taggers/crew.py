"""Several processes that tag parts; one that dies is replaced, and what it was at is left alone at the second time."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter
from collections.abc import Generator, Iterator, MutableSequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from textune.errors import RunError
from textune.metadata.taggers.table import TagSettings, build_taggers
from textune.metadata.taggers.worker import MAX_SECONDS, NOWHERE, Outcome, Task, work

_LATE = getattr(signal, "SIGPROF", 0)
"""What a worker sends itself where a page takes too long."""
TRIES = 2
"""How often a row and a tagger may end a process; something else may have ended it the first time."""


@dataclass
class _Worker:
    """One process."""

    process: Any
    connection: Connection
    at: MutableSequence[int]
    """The row and the tagger that it is at."""
    task: Task | None = None


class Crew:
    """Processes of one run of `tag`."""

    def __init__(self, num_workers: int, settings: TagSettings, *, seconds: float = MAX_SECONDS) -> None:
        """`seconds`: of processor time that one tagger may take on one page."""
        self._settings = settings
        self._seconds = seconds
        self._num_workers = num_workers
        self._names = [tagger.name for tagger in build_taggers(settings)]
        # A new interpreter for each: what this one has done (threads, locks) does not come along.
        self._context = multiprocessing.get_context("spawn")
        self._workers = list[_Worker]()
        self._losses: dict[Path, Counter[tuple[int, int]]] = {}
        """By part: where processes died on it."""

    def __enter__(self) -> Self:
        for _ in range(self._num_workers):  # which takes each a moment, so all at once
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()

    def run(self, tasks: Iterator[Task]) -> Generator[tuple[Task, Outcome]]:
        """Every task with its outcome, in the order in which they end."""
        again = list[Task]()
        more = True
        while True:
            while more and sum(one.task is not None for one in self._workers) < self._num_workers:
                task = again.pop() if again else next(tasks, None)
                if task is None:
                    more = False
                else:
                    self._give(task)
            busy = [one for one in self._workers if one.task]
            if not busy:
                return
            ready = wait([one.connection for one in busy])
            for worker in busy:
                if worker.connection not in ready:
                    continue
                task, outcome = self._take(worker)
                if outcome is None:
                    again.append(task)
                    more = True
                else:
                    yield task, outcome

    def _give(self, task: Task) -> None:
        worker = next((one for one in self._workers if one.task is None), None) or self._start()
        worker.task = task
        worker.at[:] = [NOWHERE, NOWHERE]
        with contextlib.suppress(OSError):  # it has died: `_take` finds out
            worker.connection.send(task)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        at = self._context.Array("q", [NOWHERE, NOWHERE], lock=False)
        process = self._context.Process(
            target=work, args=(theirs, at, self._settings, self._seconds), name="textune-tag"
        )
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, at))
        return self._workers[-1]

    def _take(self, worker: _Worker) -> tuple[Task, Outcome | None]:
        """What a worker sends; None and the task to try again where it died."""
        task = worker.task
        assert task is not None
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
            return self.after_loss(task, (worker.at[0], worker.at[1]), worker.process.exitcode), None
        worker.task = None
        self._losses.pop(task.target, None)
        return task, outcome

    def after_loss(self, task: Task, at: tuple[int, int], code: int) -> Task:
        """The task to try next; RunError where a process dies at no row."""
        losses = self._losses.setdefault(task.target, Counter())
        losses[at] += 1
        is_late = code == -_LATE and NOWHERE not in at
        if losses[at] < TRIES and not is_late:
            return task
        why = f"the process that tagged it was ended by {ending(code)}"
        said = f"it took more than {self._seconds:g} seconds" if is_late else why
        if NOWHERE in at:
            raise RunError(
                f"{task.name}, from line {task.part.first:,} on: {said}, twice.",
                hint="There may be too little memory; try fewer --workers. What is done is kept.",
                place=task.name,
                reason=said,
            )
        row, name = at[0], self._names[at[1]]
        broken = {**task.broken, row: {**task.broken.get(row, {}), name: said}}
        return replace(task, broken=broken)


def ending(code: int) -> str:
    """What ended a process, in words."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
