"""Several processes that do the tasks of this one; one that dies is replaced. Below every room.

Each gets a task, does it and answers; what cannot be told apart from a dead process (a kill, no memory) is left to the
caller, who says what is tried next.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, MutableSequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, Generic, Self, TypeVar

NOWHERE = -1
"""The position of a worker that is at nothing."""

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
At = tuple[int, int]
"""Two numbers by which a worker says what it is at."""


@dataclass
class _Worker(Generic[Task]):
    """One process."""

    slot: int
    """Which of the crew it is, from 0; whoever replaces it is the same."""
    process: Any
    connection: Connection
    at: MutableSequence[int]
    """What it is at."""
    task: Task | None = None


class Crew(Generic[Task, Outcome]):
    """Processes that do tasks, one after the other each."""

    def __init__(
        self,
        num_workers: int,
        work: Callable[..., None],
        arguments: Callable[[int], tuple[Any, ...]],
        *,
        after_loss: Callable[[Task, At, int], Task],
        name: str,
    ) -> None:
        """`work(connection, at, *arguments(slot))` runs in each process, `slot` from 0: it receives tasks, sends
        outcomes, and says in `at` what it is at.

        `after_loss`: the task to try next where a process ended with this code at these numbers; it raises where
        nothing is. `name`: of the processes.
        """
        self._num_workers = num_workers
        self._work = work
        self._arguments = arguments
        self._after_loss = after_loss
        self._name = name
        self._context: Any = new_context()
        self._workers = list[_Worker[Task]]()

    def __enter__(self) -> Self:
        for _ in range(self._num_workers):  # which takes each a moment, so all at once
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()

    @property
    def pids(self) -> list[int]:
        """The processes that are at work now."""
        return [worker.process.pid for worker in self._workers]

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
            busy = [one for one in self._workers if one.task is not None]
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

    def _start(self) -> _Worker[Task]:
        taken = {worker.slot for worker in self._workers}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        ours, theirs = self._context.Pipe()
        at = self._context.Array("q", [NOWHERE, NOWHERE], lock=False)
        process = self._context.Process(
            target=_work, args=(self._work, theirs, at, self._arguments(slot)), name=self._name
        )
        process.start()
        theirs.close()
        self._workers.append(_Worker(slot, process, ours, at))
        return self._workers[-1]

    def _take(self, worker: _Worker[Task]) -> tuple[Task, Outcome | None]:
        """What a worker sends; None and the task to try again where it died."""
        task = worker.task
        assert task is not None
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
            return self._after_loss(task, (worker.at[0], worker.at[1]), worker.process.exitcode), None
        worker.task = None
        return task, outcome


def new_context() -> BaseContext:
    """How the processes are started: a new interpreter for each, so that what this one has done (threads, locks) does
    not come along."""
    return multiprocessing.get_context("spawn")


def _work(
    work: Callable[..., None], connection: Connection, at: MutableSequence[int], arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, name="textune-orphan", daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        work(connection, at, *arguments)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, whatever it is at: nobody waits for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def ending(code: int) -> str:
    """What ended a process, in words."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
