"""Whether a process keeps more and more memory: resident memory, sampled while it works, and how far that rises."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

PAGE = os.sysconf("SC_PAGE_SIZE")
WARM_UP = 0.25
"""The share of the time after whose end memory counts: allocators and caches fill at first."""
MAX_FITTED = 400
"""Samples that a line is fitted to, evenly chosen."""


class Sample(NamedTuple):
    """Resident memory at one moment."""

    seconds: float
    bytes: int


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


@contextlib.contextmanager
def sampled(pid: int, *, every: float = 0.05) -> Iterator[list[Sample]]:
    """Samples of a process, taken by a thread until the block ends or the process does."""
    samples: list[Sample] = []
    done = threading.Event()

    def sample() -> None:
        with contextlib.suppress(OSError, IndexError):
            while not done.is_set():
                samples.append(Sample(time.monotonic(), resident(pid)))
                done.wait(every)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def growth(samples: list[Sample], *, warm_up: float = WARM_UP) -> float:
    """Bytes by which memory rises from the end of the warm-up to the last sample, along the line of Theil and Sen: the
    median of the slopes between all pairs of samples, which no single peak moves."""
    start, end = samples[0].seconds, samples[-1].seconds
    later = [sample for sample in samples if sample.seconds >= start + warm_up * (end - start)]
    later = later[:: max(1, len(later) // MAX_FITTED)]
    assert len(later) >= 10, "too few samples to tell"
    seconds, held = (np.array(values, np.float64) for values in zip(*later, strict=True))
    one, other = np.triu_indices(len(later), 1)
    slope = np.median((held[other] - held[one]) / (seconds[other] - seconds[one]))
    return float(slope * (seconds[-1] - seconds[0]))
