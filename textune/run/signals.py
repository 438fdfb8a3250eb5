"""Signals while training: after the first, the step is finished and everything is saved; a second one stops at once.

SIGINT is a person's Ctrl+C. SIGTERM and SIGUSR1 come from a scheduler that wants the machine back (Slurm sends SIGUSR1
as a warning). The run is saved and marked as interrupted or preempted; the same command resumes it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from textune.errors import Preempted

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Signals after which a run saves and stops; Windows has no SIGUSR1."""

SAME_SECONDS = 1.0
"""A terminal sends Ctrl+C to every process, and torchrun forwards it: what arrives again so soon is the same
signal."""

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1") if hasattr(signal, name)
)
"""Signals that end a program that has nothing to save."""

NOT_YET = "nothing was saved yet; the same command starts again, and reads the token cache"
AS_BEFORE = "everything that was saved before is still there, and the same command resumes from it"


@dataclass
class Interruption:
    """Whether the run was asked to stop, and by what."""

    signal: int = 0
    """The signal's number; 0 if none has come."""
    at: float = 0.0
    """When it came, by the monotonic clock."""
    repeated: bool = False
    """Whether a second signal came, which stops the run wherever it is."""
    at_once: bool = False
    """Nothing is left to finish: even the first signal stops the program where it is."""

    def stop(self, number: int) -> NoReturn:
        """Stop a run that is trained and only lacks its reports. KeyboardInterrupt or Preempted."""
        self.signal = number
        stop_saying(number, "training is finished and saved; the same command writes the reports")


def stop_saying(number: int, what: str) -> NoReturn:
    """End with the sentence and the exit code of a signal. KeyboardInterrupt or Preempted."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(f"Stopped: {what}.")
    raise Preempted(f"stopped by {signal.Signals(number).name}: {what}.", signal_number=number)


@contextlib.contextmanager
def stopping_at_once(said: str = NOT_YET) -> Iterator[None]:
    """Within this, before the first step, a signal stops the program where it is. KeyboardInterrupt or Preempted,
    which say what was saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one may not wait for anything
        stop_saying(number, said)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def noting_signals() -> Iterator[Callable[[], int]]:
    """Within this, a signal that ends programs is only noted: gives the number of the last one, 0 if none has come.

    A signal that is ignored (`nohup`) stays ignored. Outside the main thread nothing changes.
    """
    noted = [0]

    def note(number: int, frame: FrameType | None) -> None:
        noted[0] = number

    before = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: noted[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def finishing_steps() -> Iterator[Interruption]:
    """Within this, a first signal only sets `signal`; another one stops the program wherever it is.

    Outside the main thread Python delivers no signals, and nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if not (interruption.signal or interruption.at_once):
            interruption.signal, interruption.at = number, time.monotonic()
        elif interruption.at_once:
            interruption.stop(number)
        elif time.monotonic() - interruption.at >= SAME_SECONDS:
            interruption.repeated = True
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
