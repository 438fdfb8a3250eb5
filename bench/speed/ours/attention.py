"""Worker: attention of one layer by each of textune's ways, in turns, on one thread."""

from __future__ import annotations

import time

import torch

from bench.attention_kernel import ways
from bench.speed.protocol import Channel, Skip
from textune.model.native.kernels import Kernels
from textune.model.native.libraries import KernelError

NAMES = ("kernel", "products", "sdpa")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def best_times(kernels: Kernels, *, length: int, rows: int, precision: str, dropout: float, seconds: float) -> list[float]:
    """Least seconds of each way, forward and backward, of the rounds that fit into `seconds`, three at least; in turns."""
    calls = ways(kernels, rows, length, TYPES[precision], dropout)
    for call in calls:
        call()
    best = [float("inf")] * len(calls)
    ends, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < ends:
        for index, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - started)
        rounds += 1
    return best


def main() -> None:
    """A command gives length, tokens, precision, dropout and seconds; the reply the milliseconds of each way."""
    with Channel() as channel:
        channel.receive()
        torch.set_num_threads(1)
        try:
            kernels = Kernels()
        except KernelError as error:
            raise Skip(f"there are no compiled kernels here: {error}") from error
        channel.reply(threads=1)
        for command in channel:
            found = best_times(
                kernels,
                length=command["length"],
                rows=max(1, command["tokens"] // command["length"]),
                precision=command["precision"],
                dropout=command["dropout"],
                seconds=command["seconds"],
            )
            channel.reply(**{name: seconds * 1e3 for name, seconds in zip(NAMES, found, strict=True)})


if __name__ == "__main__":
    main()
