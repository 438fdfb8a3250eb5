"""Several processes that tag parts; what one that died was at is left alone at the second time."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from textune.crew import NOWHERE, ending
from textune.crew import Crew as AnyCrew
from textune.errors import RunError
from textune.metadata.taggers.table import TagSettings, build_taggers
from textune.metadata.taggers.worker import MAX_SECONDS, Outcome, Task, work

_LATE = getattr(signal, "SIGPROF", 0)
"""What a worker sends itself where a page takes too long."""
TRIES = 2
"""How often a row and a tagger may end a process; something else may have ended it the first time."""


class Crew:
    """Processes of one run of `tag`."""

    def __init__(self, num_workers: int, settings: TagSettings, *, seconds: float = MAX_SECONDS) -> None:
        """`seconds`: of processor time that one tagger may take on one page."""
        self._seconds = seconds
        self._names = [tagger.name for tagger in build_taggers(settings)]
        self._losses: dict[Path, Counter[tuple[int, int]]] = {}
        """By part: where processes died on it."""
        self._crew = AnyCrew[Task, Outcome](
            num_workers, work, lambda _: (settings, seconds), after_loss=self.after_loss, name="textune-tag"
        )

    def __enter__(self) -> Self:
        self._crew.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.__exit__()

    def run(self, tasks: Iterator[Task]) -> Generator[tuple[Task, Outcome]]:
        """Every task with its outcome, in the order in which they end."""
        for task, outcome in self._crew.run(tasks):
            self._losses.pop(task.target, None)
            yield task, outcome

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
