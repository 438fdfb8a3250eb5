"""The processes that work on one run together: which of them this is, and how they agree; below every room that computes.

A launcher (torchrun, `accelerate launch`, TorchX, or `textune train` itself) starts the processes and tells each its place in
environment variables; nothing else is read from there. One process alone needs no launcher, and torch is not imported for it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.errors import ConfigError, RanksError

if TYPE_CHECKING:
    import torch

UNLIMITED = datetime.timedelta(days=365)
"""Ranks wait so long for one that reads, tokenises or saves: the work takes what it takes. One that died is noticed at once,
since its connections close (those of gloo; NCCL notices after its own time limit, or when the launcher ends all)."""

_ADDED_BY_GLOO = frozenset({"float64", "float32", "int64", "int32", "uint8", "int8"})

_NUMBERS_AT_ONCE = 1 << 22
"""Numbers exchanged in one go: of a large array never the whole is there twice."""

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run. The default is a process alone; every exchange then costs nothing."""

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine: the GPU that it takes."""
    local_world: int = 1
    """Processes of the run on this machine."""
    launcher: int = 0
    """The process that started this one, by its number."""
    group: Any = None
    """The group of processes that host memory is exchanged in (gloo); None for a process alone."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def all_max(self, values: Sequence[int]) -> list[int]:
        """The largest of each value over all ranks; every rank must call it, and with as many values."""
        if self.alone:
            return list(values)
        import torch

        tensor = torch.tensor(list(values), dtype=torch.int64)
        with explain_lost_rank():
            torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self.group)
        return [int(value) for value in tensor.tolist()]

    def total(self, array: np.ndarray) -> np.ndarray:
        """The sum of an array over all ranks, in its shape and type."""
        if self.alone:
            return array
        import torch

        # Types that gloo cannot add (bool, uint16, ...) go as wider ones.
        wide = array.dtype if array.dtype.name in _ADDED_BY_GLOO else np.dtype("int64")
        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=wide).copy())
        with explain_lost_rank():
            torch.distributed.all_reduce(tensor, group=self.group)
        return tensor.numpy().astype(array.dtype, copy=False)

    def merge_shares(self, array: np.ndarray) -> np.ndarray:
        """An array of which each rank has filled its share and left zeros elsewhere: whole on every rank, bit for bit.

        The array itself is changed; it is contiguous. What two ranks have both filled comes out as nonsense.
        """
        if self.alone:
            return array
        # As whole numbers: to those a zero adds nothing, while among floats it would turn -0.0 into 0.0.
        numbers = array.reshape(-1).view(f"i{array.itemsize}")
        for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
            piece = numbers[start : start + _NUMBERS_AT_ONCE]
            piece[:] = self.total(piece)
        return array

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on its device; the tensor itself is changed."""
        if self.alone:
            return tensor
        import torch

        with explain_lost_rank():
            torch.distributed.all_reduce(tensor, group=self.group if tensor.device.type == "cpu" else None)
        return tensor

    def broadcast(self, value: Any) -> Any:
        """What the first rank has as `value`: a plain value (numbers, texts, lists, dictionaries)."""
        if self.alone:
            return value
        import torch

        box = [value]
        with explain_lost_rank():
            torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """What every rank has as `value` (as for `broadcast`), by rank."""
        if self.alone:
            return [value]
        import torch

        values = [None] * self.world
        with explain_lost_rank():
            torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def wait(self) -> None:
        """Until every rank has come here."""
        self.all_max([0])

    def require_launcher(self) -> None:
        """RanksError where the launcher that started this process is gone: nobody would ever end it."""
        if not self.alone and os.getppid() != self.launcher:
            raise RanksError(
                "the launcher of this process (torchrun or its like) is gone.", hint="Start the run again with --resume."
            )

    def end_together(self) -> None:
        """As `wait`, before this process ends: the last exchange of others may need its connections until they are here too.

        Whoever finds the others gone already has missed nothing.
        """
        with contextlib.suppress(RanksError):
            self.wait()

    @contextlib.contextmanager
    def local_first(self) -> Iterator[None]:
        """The first rank of each machine does this, then the others: what one builds in a cache, the others find there."""
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()


ALONE = Ranks()


def launched() -> bool:
    """Whether a launcher started this process as one of several, or as one that may become one of several."""
    return all(name in os.environ for name in _PLACE)


def launched_rank() -> int:
    """The number of this process as its launcher says, before it has joined the others; 0 without a launcher."""
    text = os.environ.get("RANK", "0") if launched() else "0"
    return int(text) if text.isdigit() else 0


def join(*, group_needed: bool = False, device: str = "auto") -> Ranks:
    """Meet the other processes of the run. Called once, before anything that they must agree on; `leave` ends it.

    `group_needed`: a process alone makes a group too, for libraries that ask for one. `device`: where they will compute, as
    in the configuration. ConfigError where the launcher's variables make no sense or ask for more GPUs than there are,
    RanksError where the others do not come.
    """
    if not launched() and not group_needed:
        return ALONE
    facts = {name: _number(name) for name in _PLACE} if launched() else dict.fromkeys(_PLACE, 0) | {"WORLD_SIZE": 1}
    rank, world, local_rank = (facts[name] for name in _PLACE)
    if not 0 <= rank < world:
        raise ConfigError(f"RANK = {rank} does not fit WORLD_SIZE = {world}.", hint="Start the run with torchrun.")
    if world == 1 and not group_needed:
        return ALONE
    import torch
    import torch.distributed as dist

    local_world = _number("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in os.environ else 1
    has_cuda = device != "cpu" and torch.cuda.is_available()
    if has_cuda:
        # A scheduler may show each process one GPU of its own.
        if 1 < torch.cuda.device_count() < local_world:
            raise ConfigError(
                f"{local_world} processes on this machine, which has {torch.cuda.device_count()} GPUs.",
                hint='Start one process for each GPU, or compute on the processor: train.device = "cpu".',
            )
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    if not dist.is_initialized():
        _start_group(dist, rank, world, "cpu:gloo,cuda:nccl" if has_cuda else "gloo")
    return Ranks(rank, world, local_rank, local_world, os.getppid(), dist.new_group(backend="gloo", timeout=UNLIMITED))


def leave() -> None:
    """Part from the other processes, where there are any."""
    if _in_group():
        import torch.distributed as dist

        dist.destroy_process_group()


@contextlib.contextmanager
def joined(*, group_needed: bool = False, device: str = "auto") -> Iterator[Ranks]:
    """The ranks of a piece of work: met at its start, left at its end; a group that was there before stays. As `join`.

    RanksError where another rank is lost on the way.
    """
    belonged = _in_group()
    ranks = join(group_needed=group_needed, device=device)
    done = False
    try:
        with explain_lost_rank():
            yield ranks
            ranks.end_together()
        done = True
    finally:
        # After an error NCCL would wait for ranks that no longer come; the process ends anyway, and its connections with it.
        if not belonged and (done or ranks.alone):
            leave()


def _in_group() -> bool:
    import sys

    if "torch.distributed" not in sys.modules:
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _start_group(dist: Any, rank: int, world: int, backend: str) -> None:
    if launched():
        address = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        try:
            dist.init_process_group(backend)
        except (RuntimeError, ValueError) as error:
            raise RanksError(
                f"rank {rank} of {world} could not meet the others at {address}: {_first_line(error)}.",
                hint="Start all of them with the same torchrun command, and see that the address can be reached.",
            ) from error
        return
    store = dist.HashStore()
    dist.init_process_group(backend, store=store, rank=0, world_size=1)


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdigit():
        raise ConfigError(f"{name} = {text!r} is not a number.", hint="A launcher such as torchrun sets it.")
    return int(text)


@contextlib.contextmanager
def explain_lost_rank() -> Iterator[None]:
    """An exchange that breaks off means that another rank is gone: a sentence instead of a socket's error."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise RanksError(
            f"another rank is gone ({_first_line(error)}).",
            hint="The rank that stopped first says why. What was saved is whole: a training run resumes with --resume.",
        ) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether gloo, NCCL or the store that ranks meet at says so; other libraries raise RuntimeError too."""
    import torch.distributed as dist

    if isinstance(error, dist.DistError):  # of the backends, the network and the store
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "pair.cc", "connection closed", "connection reset", "broken pipe", "nccl"))


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
    # torch puts the place in its C++ sources first, and gloo its good wishes last.
    return (line.rpartition("] ")[2] or line).partition(". ")[0]
