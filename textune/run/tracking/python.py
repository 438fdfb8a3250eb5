"""`[[track]]` of kind `python`: an object of the user's own as a sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textune.config import PythonTrack
from textune.owncode import OwnObject
from textune.run.tracking.sink import Ended, Opened, Record, TrackedRun

METHODS = {"open": ("run",), "send": ("records",), "finish": ("ended",)}
"""What such an object must have, with the arguments; `keep(name, path)` and `close()` are asked for if it has them."""


class PythonSink:
    """Makes the object when the run begins, and again after a fault; then asks it what is asked of every sink."""

    def __init__(self, track: PythonTrack, key: str) -> None:
        """CodeError where the object is not there, or a class of its own lacks a method."""
        self._own = OwnObject.find(track.object, key=f"{key}.object")
        self._options = track.options
        if isinstance(self._own.target, type):
            self._own.require_class(METHODS)
        self._own.require_call(self._own.target, (), track.options, track.object.rpartition(":")[2])
        self._object: Any = None

    def open(self, run: TrackedRun) -> Opened:
        """What the object calls the run: text, a table of `run` and `sent` (`Opened`), or nothing."""
        self._object = self._own.build(self._options)
        said = self._object.open(run)
        if isinstance(said, Mapping):
            return Opened(str(said.get("run") or run.key), dict(said.get("sent") or {}))
        return Opened(str(said or run.key))

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        return [str(reason) for reason in self._object.send(records) or ()]

    def keep(self, name: str, path: Path) -> None:
        if hasattr(self._object, "keep"):
            self._object.keep(name, path)

    def finish(self, ended: Ended) -> None:
        self._object.finish(ended)

    def close(self) -> None:
        if hasattr(self._object, "close"):
            self._object.close()
        self._object = None
