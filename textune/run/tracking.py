"""What a run says while it works: one protocol, written as JSON lines, shown by the CLI, silent for Python callers.

To add a tracker: write a class with the methods of `Tracker` (`SilentTracker` has all of them) that is a context
manager, and give it a row in `TRACKERS`; every run then opens it with its folder, and closes it at the end.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypedDict

from textune.errors import RunError
from textune.jsontext import finite
from textune.run.folder import RunFolder

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run.facts import Facts
    from textune.run.manifest import Ending


class StepValues(TypedDict):
    """A logged training step; means and speeds are those since the last one."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    rows_per_second: float


class EvaluationValues(TypedDict):
    """An evaluation of one set."""

    set: str
    step: int
    epoch: float
    main: str
    """The main metric."""
    is_best: bool
    """Whether it made the model of this step the best one; only for the set that chooses it."""
    metrics: Mapping[str, float]


class Tracker(Protocol):
    """Receives what happens in a run: `start`, then steps, evaluations, notices and progress in any order, then
    `finish`.

    Notices and progress may come before `start`, while data is read. `finish` is not called where the process is
    killed.
    """

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """What is about to be trained; `state`: what the trackers kept when the run stopped, empty for a new run."""

    def notice(self, message: str) -> None:
        """Something the user should know."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far a long stage is; `done == total` ends it."""

    def step(self, values: StepValues) -> None:
        """A logged training step."""

    def evaluation(self, values: EvaluationValues) -> None:
        """An evaluation."""

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """How the run ended, and the files and folders that it leaves, such as `best` and `report.json`."""

    def state(self) -> Mapping[str, JsonValue]:
        """What a checkpoint keeps for this tracker, under names that no other tracker uses."""


class SilentTracker:
    """Says nothing."""

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Ignored."""

    def notice(self, message: str) -> None:
        """Ignored."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Ignored."""

    def step(self, values: StepValues) -> None:
        """Ignored."""

    def evaluation(self, values: EvaluationValues) -> None:
        """Ignored."""

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Ignored."""

    def state(self) -> Mapping[str, JsonValue]:
        """Nothing."""
        return {}


class JsonlTracker(SilentTracker):
    """Appends steps, evaluations and notices to a file, a JSON object per line, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def notice(self, message: str) -> None:
        self._write("notice", {"message": message})

    def step(self, values: StepValues) -> None:
        self._write("step", values)

    def evaluation(self, values: EvaluationValues) -> None:
        self._write("evaluation", values)

    def state(self) -> Mapping[str, JsonValue]:
        """Bytes of the file so far, synced: a run that resumes here continues there (`cut_lines`)."""
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            os.fsync(self._file.fileno())
        return {"metrics_bytes": self._file.tell()}

    def _write(self, kind: str, values: Mapping[str, object]) -> None:
        try:
            self._file.write(json.dumps({"kind": kind, **finite(values)}, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self._file.name} cannot be written: {error.strerror or error}.",
                hint="Fix that (free space: other runs, their checkpoints), then continue with --resume.",
            ) from error


def _lines(folder: RunFolder) -> JsonlTracker:
    return JsonlTracker(folder.metrics)


TRACKERS: dict[str, Callable[[RunFolder], AbstractContextManager[Tracker]]] = {"metrics.jsonl": _lines}
"""Every tracker that a run opens itself, beside the one that its caller gives, by name. Only the first rank opens
them, after the run folder was made; they first hear the notices from before that.
"""


def cut_lines(path: Path, size: int) -> None:
    """Remove what a JSON-lines file holds beyond `size` bytes: steps that will be done again."""
    if not path.is_file():
        return
    if path.stat().st_size >= size:
        os.truncate(path, size)
    else:  # a machine that went down has lost the end, and may have cut a line
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class Trackers:
    """Several trackers as one, which keeps the notices of a run."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self.notices: list[str] = []
        """Every notice so far: those from before there is a run folder are written into it later."""

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.start(config, facts, state)

    def notice(self, message: str) -> None:
        """Kept and passed on."""
        self.notices.append(message)
        for tracker in self._trackers:
            tracker.notice(message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.progress(stage, done, total)

    def step(self, values: StepValues) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.step(values)

    def evaluation(self, values: EvaluationValues) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.evaluation(values)

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.finish(status, files)

    def state(self) -> Mapping[str, JsonValue]:
        """That of all of them. ValueError where two use one name."""
        states = [tracker.state() for tracker in self._trackers]
        merged = {name: value for state in states for name, value in state.items()}
        if len(merged) < sum(map(len, states)):
            raise ValueError(f"two trackers keep their state under one name: {', '.join(sorted(merged))}")
        return merged
