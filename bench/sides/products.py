"""How many floating-point operations per second this machine's matrix products reach; the limit of everything else."""

from __future__ import annotations

import time

import torch

from bench.machine import best_precision
from bench.worker import Channel, Json, wait_for_device

ROUNDS = 3


def products(channel: Channel, spec: Json) -> None:
    """The rate of every shape of a command, in the faster float type of the device."""
    precision, device = best_precision(spec["device"]), spec["device"]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    channel.reply(threads=torch.get_num_threads(), precision=precision)
    # Of fp32 on a CPU the faster of two libraries counts, MKL and oneDNN.
    libraries = ("highest", "medium") if dtype == torch.float32 and device == "cpu" else ("highest",)

    def rate(shape: tuple[int, int, int], seconds: float) -> float:
        rows, columns, inner = shape
        left, right = (torch.randn(size, inner, dtype=dtype, device=device) for size in (rows, columns))
        best = float("inf")
        for library in libraries:
            torch.set_float32_matmul_precision(library)
            best = min(best, fastest(left, right, seconds / len(libraries)))
        return 2 * rows * columns * inner / best

    def measure(command: Json) -> Json:
        return {"rates": {" x ".join(map(str, shape)): rate(shape, command["time"]) for shape in command["shapes"]}}

    with torch.inference_mode():
        channel.serve(measure)


def fastest(left: torch.Tensor, right: torch.Tensor, seconds: float) -> float:
    """Seconds of one `left @ right.T`, as a linear layer stores its weight; the best of three rounds of many."""

    def mean_of(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            torch.nn.functional.linear(left, right)
        wait_for_device()
        return (time.perf_counter() - started) / count

    mean_of(1)
    count = max(1, int(seconds / ROUNDS / max(mean_of(1), 1e-6)))
    return min(mean_of(count) for _ in range(ROUNDS))
