"""Ranks for tests: threads of one process that exchange as processes do, and real processes that never outlive their
test."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kits.patience import PATIENCE
from textune.errors import RanksError
from textune.ranks import Ranks

Result = TypeVar("Result")


class _Table:
    """Where the threads lay down what they exchange."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=PATIENCE)
        self.laid: list[Any] = [None] * world


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    """A rank that is a thread."""

    table: Any = None

    def _exchange(self, value: Any) -> list[Any]:
        """What every rank has laid down, in the order of the ranks."""
        try:
            self.table.laid[self.rank] = value
            self.table.barrier.wait()
            found = list(self.table.laid)
            self.table.barrier.wait()  # nobody lays down the next thing before all have taken this one
        except threading.BrokenBarrierError:
            raise RanksError("another rank is gone.") from None
        return found

    def all_max(self, values: Sequence[int]) -> list[int]:
        every = self._exchange(list(values))
        assert len({len(one) for one in every}) == 1
        return [max(column) for column in zip(*every, strict=True)]

    def total(self, array: np.ndarray) -> np.ndarray:
        every = self._exchange(array.copy())
        assert len({(one.shape, one.dtype) for one in every}) == 1
        return np.sum(every, axis=0, dtype=array.dtype)

    def broadcast(self, value: Any) -> Any:
        return copy.deepcopy(self._exchange(value)[0])


def on_ranks(world: int, work: Callable[[Ranks], Result]) -> list[Result]:
    """What `work` returns on each rank; the error of the rank that failed first where one failed."""
    table = _Table(world)

    def alone(rank: int) -> Result:
        try:
            return work(ThreadRanks(rank, world, rank, table=table) if world > 1 else Ranks())
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(world) as threads:
        futures = [threads.submit(alone, rank) for rank in range(world)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, RanksError)):
        raise error
    return [future.result() for future in futures]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: bytes
    err: str


def torchrun(world: int, *words: object, home: Path, stdin: bytes = b"", path: Path | None = None) -> Done:
    """`torchrun ... WORDS` with so many processes on this machine; all of them are gone when it returns.

    `path`: a folder of modules beside those of the repository.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    mark = f"TEXTUNE_TEST={uuid.uuid4().hex}"
    environment |= {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, [Path(__file__).parents[2], path]))),
    }
    environment |= dict([mark.split("=")])
    with subprocess.Popen(
        [*launcher, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=PATIENCE)
        finally:
            # The launcher gives each of its processes a session of its own: they are found by what they inherit.
            while left := marked(mark):
                for number in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                time.sleep(0.05)
    return Done(process.returncode, out, err.decode(errors="replace"))


def marked(mark: str) -> list[int]:
    """Processes with this in their environment (on Linux, where one can see that), those that have ended left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{mark}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
