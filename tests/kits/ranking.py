"""Several processes on one run, for tests: started in a moment from a server that has imported everything once."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kits.forking import server
from kits.patience import PATIENCE

if TYPE_CHECKING:
    from textune.training.loop import StepResult


@dataclass(frozen=True)
class Watch:
    """What is watched or done within the processes."""

    record: Path | None = None
    """Folder for a JSON line a step and rank: rows of the batch, micro-batches, exchanges of gradients so far."""
    act_rank: int = 0
    act_step: int = 0
    """When `act` is done: by this rank, behind this step; 0 never."""
    act: str = ""
    """The names of signals that the rank sends itself, one after the other, or `exit`, which ends it at once."""


@dataclass
class Ended:
    """What became of the processes, by rank."""

    codes: list[int]
    """Exit codes; minus the signal's number where one ended it."""
    said: list[str]
    """Standard output and errors."""
    out: list[bytes]
    """Standard output alone."""
    seconds: float
    records: list[list[dict[str, Any]]] = field(default_factory=list)


def textune_ranks(
    world: int, arguments: Sequence[str], folder: Path, watch: Watch | None = None, stdin: bytes | None = None
) -> Ended:
    """`textune ARGUMENTS` in `world` processes as torchrun would start them; AssertionError where one does not end in
    time.

    `stdin` comes through one pipe that all of them have, as they have it from torchrun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch = watch or Watch()
    port, began = _free_port(), time.monotonic()
    logs = [folder / f"rank-{rank}.log" for rank in range(world)]
    receiver, sender = server().Pipe(duplex=False)
    processes = [
        server().Process(
            target=_work,
            args=(rank, world, port, list(arguments), logs[rank], watch, None if stdin is None else receiver),
        )
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    receiver.close()
    with sender, contextlib.suppress(BrokenPipeError), open(sender.fileno(), "wb", closefd=False) as pipe:
        pipe.write(stdin or b"")
    for process in processes:
        process.join(max(0.1, PATIENCE - (time.monotonic() - began)))
    late = [rank for rank, process in enumerate(processes) if process.is_alive()]
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    out = [log.with_suffix(".out").read_bytes() for log in logs]
    said = [_read(log) + text.decode(errors="replace") for log, text in zip(logs, out, strict=True)]
    assert not late, f"ranks {late} of {world} did not end in {PATIENCE:.0f} s: {said}"
    records = [] if watch.record is None else [_lines(watch.record / f"rank-{rank}.jsonl") for rank in range(world)]
    return Ended([int(process.exitcode) for process in processes], said, out, time.monotonic() - began, records)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read(log: Path) -> str:
    """What a rank said on standard error, without what libraries say by themselves: DeepSpeed, and PyTorch's C++ of
    DDP."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    theirs = ("real_accelerator.py", "reducer.cpp")
    return "".join(line for line in text.splitlines(keepends=True) if not any(name in line for name in theirs))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


# --- within a process ------------------------------------------------------------------------------------------------


def _work(
    rank: int, world: int, port: int, arguments: list[str], log: Path, watch: Watch, stdin: Connection | None
) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    for path, descriptor in ((log.with_suffix(".out"), 1), (log, 2)):
        with path.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), descriptor)
    if stdin is not None:
        os.dup2(stdin.fileno(), 0)
        stdin.close()
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has put another in its place
    import torch

    from textune.cli import main

    torch.set_num_threads(1)
    with _watching(rank, watch):
        main(arguments)
    sys.exit(99)  # `main` always exits


@contextlib.contextmanager
def _watching(rank: int, watch: Watch) -> Iterator[None]:
    import textune.pipeline
    import textune.run.signals as interruption
    import textune.training.loop as loop

    if watch.act_step:
        interruption.SAME_SECONDS = 0.0
        textune.pipeline.train = partial(textune.pipeline.train, after_step=partial(_act, rank, watch))
    if watch.record is None:
        yield
        return
    watch.record.mkdir(parents=True, exist_ok=True)
    exchanges = _count_exchanges()
    real = loop.gradients_in_memory
    with (watch.record / f"rank-{rank}.jsonl").open("a") as file:

        def recorded(learner: Any, task: Any, loader: Any, batch: Any, *, seed: int) -> Any:
            result = real(learner, task, loader, batch, seed=seed)
            line = {"step": batch.step, "chosen": batch.chosen.tolist(), "parts": len(batch.micro_batches)}
            file.write(json.dumps(line | {"exchanges": exchanges[0]}) + "\n")
            file.flush()
            return result

        loop.gradients_in_memory = recorded  # type: ignore[assignment]
        yield


def _act(rank: int, watch: Watch, result: StepResult) -> None:
    """What `watch` asks for, after its step."""
    if (rank, result.step) != (watch.act_rank, watch.act_step):
        return
    if watch.act == "exit":
        os._exit(7)
    for name in watch.act.split():
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(0.01)  # Python runs its handler


def _count_exchanges() -> list[int]:
    """A box with the number of exchanges of gradients so far: buckets that DDP sums up, blocks that FSDP scatters."""
    import torch
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    import textune.training.sharing.ddp as ddp

    box = [0]

    class Counting(torch.nn.parallel.DistributedDataParallel):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

            def counted(group, bucket):  # type: ignore[no-untyped-def] # torch reads annotations, and not as texts
                box[0] += 1
                return allreduce_hook(group, bucket)

            self.register_comm_hook(dist.group.WORLD, counted)

    ddp.DistributedDataParallel = Counting  # type: ignore[misc]
    for name in ("reduce_scatter_tensor", "reduce_scatter_single"):  # what FSDP calls has changed its name
        if hasattr(dist, name):
            setattr(dist, name, _counted(getattr(dist, name), box))
    return box


def _counted(real: Any, box: list[int]) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        box[0] += 1
        return real(*args, **kwargs)

    return counted
