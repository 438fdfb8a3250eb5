"""Ctrl+C while training: once, the step is finished and the weights are saved; twice, everything stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """Whether a person has asked the run to stop."""

    asked: bool = False


@contextlib.contextmanager
def finishing_steps() -> Iterator[Interruption]:
    """Within this, the first SIGINT only sets `asked`; the second raises KeyboardInterrupt wherever the program is.

    Outside of the main thread Python delivers no signals; there nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if interruption.asked:
            raise KeyboardInterrupt
        interruption.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
