"""What a run says while it works: one protocol, written as JSON lines, shown by the CLI, silent for Python callers."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from textune.errors import RunError
from textune.jsontext import finite


class Tracker(Protocol):
    """Receives the facts of a run as they arise."""

    def header(self, facts: Mapping[str, str]) -> None:
        """What is about to be trained, once."""

    def notice(self, message: str) -> None:
        """Something the user should know."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far a long stage is; `done == total` ends it."""

    def step(self, values: Mapping[str, Any]) -> None:
        """A logged training step: step, total_steps, epoch, loss, lr, grad_norm, tokens_per_second, ..."""

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """An evaluation: step, epoch, metrics, main, is_best."""


class SilentTracker:
    """Says nothing."""

    def header(self, facts: Mapping[str, str]) -> None:
        """Ignored."""

    def notice(self, message: str) -> None:
        """Ignored."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Ignored."""

    def step(self, values: Mapping[str, Any]) -> None:
        """Ignored."""

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """Ignored."""


class JsonlTracker(SilentTracker):
    """Appends steps, evaluations and notices to a file, a JSON object per line, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def notice(self, message: str) -> None:
        self._write("notice", {"message": message})

    def step(self, values: Mapping[str, Any]) -> None:
        self._write("step", values)

    def evaluation(self, values: Mapping[str, Any]) -> None:
        self._write("evaluation", values)

    def synced_size(self) -> int:
        """Bytes of the file so far, seen to the disk: where a run that goes on from here writes on."""
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            os.fsync(self._file.fileno())
        return self._file.tell()

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps({"kind": kind, **finite(values)}, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self._file.name} cannot be written: {error.strerror or error}.",
                hint="Fix that (free space: other runs, their checkpoints), then continue with --resume.",
            ) from error


def cut_lines(path: Path, size: int) -> None:
    """Take away what a JSON-lines file holds beyond `size` bytes: steps that will be done again."""
    if not path.is_file():
        return
    if path.stat().st_size >= size:
        os.truncate(path, size)
    else:  # a machine that went down has lost the end, and may have cut a line
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class NoticeKeeper(SilentTracker):
    """Keeps notices, so that what was said before there was a run folder can be written into it."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def header(self, facts: Mapping[str, str]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.header(facts)

    def notice(self, message: str) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.notice(message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.progress(stage, done, total)

    def step(self, values: Mapping[str, Any]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.step(values)

    def evaluation(self, values: Mapping[str, Any]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.evaluation(values)
