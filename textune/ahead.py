"""Items prepared ahead in a thread, in order: how reading, tokenising and collating overlap with computing."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from typing import TypeVar

Item = TypeVar("Item")

_CLOSING_SECONDS = 1.0
"""A thread that waits for input (such as a terminal) cannot be woken; after this time it is left to end on its own."""


class _Failed:
    """An error on its way to the consumer of the items."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Ended:
    """Follows the last item."""


def ahead(items: Generator[Item], depth: int, *, name: str) -> Generator[Item]:
    """The items, produced in a thread of that name, at most `depth` ahead of their use; 0 produces them here.

    An error of `items` is raised here, at its position. Closing the result ends the thread, which closes `items`.
    """
    if depth == 0:
        yield from items
        return
    ready: queue.Queue[Item | _Failed | _Ended] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Item | _Failed | _Ended) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        last: _Failed | _Ended = _Ended()
        try:
            with contextlib.closing(items):
                for item in items:
                    if not put(item):
                        break
        except BaseException as error:  # handed to the consumer, which raises it
            last = _Failed(error)
        put(last)

    thread = threading.Thread(target=produce, name=name, daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _Ended):
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        stopped.set()
        thread.join(_CLOSING_SECONDS)
