"""The processes of one run: which of them this is, and how they exchange values; below every room that computes.

A launcher (torchrun, `accelerate launch`, TorchX, or `textune train` itself) starts the processes and tells each its
rank in environment variables; nothing else is read from them. A single process needs no launcher, and neither numpy
nor torch is imported for it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from textune.errors import ConfigError, RanksError

if TYPE_CHECKING:
    import numpy as np
    import torch

UNLIMITED = datetime.timedelta(days=365)
"""How long ranks wait for one that reads, tokenises or saves, which may take long. A rank that died is noticed
immediately, since its connections close (with gloo; NCCL notices after its own time limit, or when the launcher ends
all ranks)."""

_ADDED_BY_GLOO = frozenset({"float64", "float32", "int64", "int32", "uint8", "int8"})

_NUMBERS_AT_ONCE = 1 << 22
"""Numbers per exchange, so that a large array is never held twice as a whole."""

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run. The default is a single process, whose exchanges cost nothing."""

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine: the GPU that it uses."""
    local_world: int = 1
    """Processes of the run on this machine."""
    launcher: int = 0
    """Process id of the launcher that started this process."""
    group: Any = None
    """The process group for exchanging host memory (gloo); None for a single process."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that prints and writes for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def all_max(self, values: Sequence[int]) -> list[int]:
        """The maximum of each value over all ranks; every rank must call it with the same number of values."""
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

        # Types that gloo cannot add (bool, uint16, ...) are sent as wider ones.
        wide = array.dtype if array.dtype.name in _ADDED_BY_GLOO else "int64"
        tensor = torch.from_numpy(array.astype(wide, order="C"))
        with explain_lost_rank():
            torch.distributed.all_reduce(tensor, group=self.group)
        return tensor.numpy().astype(array.dtype, copy=False)

    def merge_shares(self, array: np.ndarray) -> np.ndarray:
        """Merge an array of which each rank has filled its share and left zeros elsewhere: complete on every rank,
        bit for bit.

        The array is changed in place and must be contiguous. Elements that two ranks have filled are undefined.
        """
        if self.alone:
            return array
        # Added as integers: among floats, adding a zero would turn -0.0 into 0.0.
        numbers = array.reshape(-1).view(f"i{array.itemsize}")
        for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
            piece = numbers[start : start + _NUMBERS_AT_ONCE]
            piece[:] = self.total(piece)
        return array

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on its device; the tensor is changed in place."""
        if self.alone:
            return tensor
        import torch

        with explain_lost_rank():
            torch.distributed.all_reduce(tensor, group=self.group if tensor.device.type == "cpu" else None)
        return tensor

    def broadcast(self, value: _Value) -> _Value:
        """The first rank's `value`, a plain value (numbers, texts, lists, dictionaries)."""
        if self.alone:
            return value
        import torch

        box = [value]
        with explain_lost_rank():
            torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gathered(self, value: _Value) -> list[_Value]:
        """Every rank's `value` (as for `broadcast`), by rank."""
        if self.alone:
            return [value]
        import torch

        values = [value] * self.world  # each of them is replaced
        with explain_lost_rank():
            torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def wait(self) -> None:
        """Wait until every rank has arrived here."""
        self.all_max([0])

    def require_launcher(self) -> None:
        """Raise RanksError if the launcher that started this process is gone: nothing would ever end the process."""
        if not self.alone and os.getppid() != self.launcher:
            raise RanksError(
                "the launcher of this process (such as torchrun) is gone.", hint="Start the run again with --resume."
            )

    def end_together(self) -> None:
        """Wait before this process ends: the last exchange of other ranks may need its connections until they arrive
        here.

        If the other ranks have already exited, there is nothing to wait for.
        """
        with contextlib.suppress(RanksError):
            self.wait()

    @contextlib.contextmanager
    def local_first(self) -> Iterator[None]:
        """Run the body on the first rank of each machine, then on the others, which find in caches what the first
        built.
        """
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()


ALONE = Ranks()


def launched() -> bool:
    """Whether a launcher started this process, as one of one or several."""
    return all(name in os.environ for name in _PLACE)


def launched_rank() -> int:
    """The rank that the launcher gave this process, before it has joined the others; 0 without a launcher."""
    text = os.environ.get("RANK", "0") if launched() else "0"
    return int(text) if text.isdigit() else 0


def launched_world() -> int:
    """How many processes the launcher started; 1 without a launcher."""
    text = os.environ.get("WORLD_SIZE", "1") if launched() else "1"
    return int(text) if text.isdigit() else 1


def join(*, group_needed: bool = False, device: str = "auto") -> Ranks:
    """Join the other processes of the run. Called once, before anything that they must agree on; `leave` ends it.

    `group_needed`: a single process creates a group, too, for libraries that need one. `device`: where the processes
    will compute, as in the configuration. ConfigError if the launcher's variables make no sense or ask for more GPUs
    than there are, RanksError if the others do not come.
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
        # A scheduler may show each process only its own GPU.
        if 1 < torch.cuda.device_count() < local_world:
            raise ConfigError(
                f"{local_world} processes on this machine, which has {torch.cuda.device_count()} GPUs.",
                hint='Start one process per GPU, or compute on the CPU: train.device = "cpu".',
            )
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    if not dist.is_initialized():
        _start_group(dist, rank, world, "cpu:gloo,cuda:nccl" if has_cuda else "gloo")
    return Ranks(rank, world, local_rank, local_world, os.getppid(), dist.new_group(backend="gloo", timeout=UNLIMITED))


def leave() -> None:
    """Leave the group of processes, if there is one."""
    if _in_group():
        import torch.distributed as dist

        dist.destroy_process_group()


@contextlib.contextmanager
def joined(*, group_needed: bool = False, device: str = "auto") -> Iterator[Ranks]:
    """The ranks of a piece of work: joined at its start (as by `join`), left at its end; a group that existed before
    stays.

    RanksError if another rank is lost meanwhile.
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
        # After an error NCCL would wait for ranks that never come; the process ends anyway, and so do its connections.
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
                hint="Start all of them with the same torchrun command, and check that the address can be reached.",
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
    """Turn the error of an exchange that breaks off into a RanksError that says that another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise RanksError(
            f"another rank is gone ({_first_line(error)}).",
            hint="The rank that stopped first reports why. Everything saved is intact: resume a training run with"
            " --resume.",
        ) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether the error comes from gloo, NCCL or the store where ranks meet; other libraries
    raise RuntimeError, too.
    """
    import torch.distributed as dist

    if isinstance(error, dist.DistError):  # of the backends, the network and the store
        return True
    text = str(error).lower()
    return any(
        word in text for word in ("gloo", "pair.cc", "connection closed", "connection reset", "broken pipe", "nccl")
    )


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
    # torch begins with a place in its C++ sources, and gloo ends with advice.
    return (line.rpartition("] ")[2] or line).partition(". ")[0]
