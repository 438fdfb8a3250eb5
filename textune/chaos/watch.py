"""A run seen from outside, by its folder alone: what its process is doing, and what a kill interrupted; for
`chaos.py`."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Literal, TypedDict

from textune.atomic import WRITING
from textune.jsontext import parse_json
from textune.training import checkpoint_name

Phase = Literal["start-up", "training", "writing", "evaluating", "reporting"]


class LastLine(TypedDict):
    """What the watcher needs of a line of metrics.jsonl."""

    kind: str
    step: int


_TAIL_BYTES = 1 << 14
"""Of metrics.jsonl: more than its last line."""


class Watcher:
    """Follows one process of a run. `look` reads the folder; the rest is what was seen there."""

    def __init__(self, run: Path, *, last_step: int | None = None, evaluations: frozenset[int] = frozenset()) -> None:
        """`last_step` and the steps of `evaluations` are those of the whole run, if they are known."""
        self.run = run
        self._last_step = last_step
        self._evaluations = evaluations
        self._manifest = _stamp(run / "manifest.json")
        self._stale = set(self._unfinished())
        self.started = time.monotonic()
        self.opened: float | None = None
        """When the process had read everything and opened the folder."""
        self.trained: float | None = None
        """When its last checkpoint was complete."""
        self.writing: dict[str, float] = {}
        """What is being written, and when that was first seen."""
        self.written: list[float] = []
        """How long writing took, in seconds."""

    def look(self) -> None:
        """Read the folder once."""
        now = time.monotonic()
        if self.opened is None:
            if _stamp(self.run / "manifest.json") == self._manifest:
                return
            self.opened = now
        present = self._unfinished()
        self._stale &= present.keys()  # what an earlier process left is removed before anything is written
        for name in [name for name in self.writing if name not in present]:
            self.written.append(now - self.writing.pop(name))
        for name in present.keys() - self._stale - self.writing.keys():
            self.writing[name] = now
        if self.trained is None and self._last_step is not None and not self.writing:
            last = self.run / "checkpoints" / checkpoint_name(self._last_step)
            self.trained = now if last.is_dir() else None

    def phase(self) -> tuple[Phase, str]:
        """What the process was doing when the folder was last looked at, in one word and in a few more."""
        if self.opened is None:
            return "start-up", "while it started"
        if self.writing:
            return "writing", f"while it wrote {', '.join(sorted(self.writing))}"
        if self.trained is not None:
            return "reporting", "while it reported"
        line = self.last_line()
        step = 0 if line is None else line["step"]
        if line is not None and line["kind"] == "step" and step in self._evaluations:
            return "evaluating", f"while it evaluated step {step}"
        return "training", f"while it trained, after step {step}"

    def last_line(self) -> LastLine | None:
        """The last step or evaluation in metrics.jsonl; None if there is none yet."""
        try:
            with (self.run / "metrics.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return None
        for text in reversed(lines):
            try:
                line = parse_json(text)
            except ValueError:  # half a line, of a process that was killed or at the start of what was read
                continue
            if isinstance(line, dict) and line.get("kind") in ("step", "evaluation"):
                return LastLine(kind=line["kind"], step=line["step"])
        return None

    @property
    def usual_writing(self) -> float | None:
        """Seconds that writing took, the median; None if none was seen."""
        return statistics.median(self.written) if self.written else None

    def _unfinished(self) -> dict[str, int]:
        """Folders that are being written, or were when a process died."""
        found: dict[str, int] = {}
        for folder in (self.run / "checkpoints", self.run):
            try:
                with os.scandir(folder) as items:
                    found |= {
                        item.name: item.inode() for item in items if item.name.endswith(WRITING) and item.is_dir()
                    }
            except FileNotFoundError:
                continue
        return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns
