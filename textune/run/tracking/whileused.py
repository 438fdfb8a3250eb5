"""What a library keeps for a whole process, changed only while a sink is using it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class WhileUsed:
    """A change that holds while any thread is inside: the first one in makes it, the last one out takes it back."""

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        """`change` makes it, and returns what takes it back."""
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._undo: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._undo = self._change()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo()
