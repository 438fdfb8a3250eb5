"""Worker: how many floating-point operations a second this machine's matrix products reach; the limit of everything else."""

from __future__ import annotations

import time

import torch

from bench.speed.peers.precision import device_memory, resolve, wait_for
from bench.speed.protocol import Channel

ROUNDS = 3


def best_rate(rows: int, columns: int, inner: int, *, dtype: torch.dtype, device: str, seconds: float) -> float:
    """FLOP/s of `[rows, inner] @ [inner, columns]`; of fp32 on a CPU by the faster of two libraries, MKL and oneDNN."""
    settings = ("highest", "medium") if dtype == torch.float32 and device == "cpu" else ("highest",)
    best = 0.0
    for setting in settings:
        torch.set_float32_matmul_precision(setting)
        best = max(best, rate(rows, columns, inner, dtype=dtype, device=device, seconds=seconds / len(settings)))
    return best


def rate(rows: int, columns: int, inner: int, *, dtype: torch.dtype, device: str, seconds: float) -> float:
    """FLOP/s of one library, the second matrix stored as a linear layer stores its weight; best of three."""
    left = torch.randn(rows, inner, dtype=dtype, device=device)
    right = torch.randn(columns, inner, dtype=dtype, device=device)
    pace = 1.0
    for _ in range(2):
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        wait_for(device)
        pace = time.perf_counter() - started
    count = max(1, int(seconds / ROUNDS / max(pace, 1e-6)))
    best = 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            torch.nn.functional.linear(left, right)
        wait_for(device)
        best = max(best, 2 * rows * columns * inner * count / (time.perf_counter() - started))
    return best


def main() -> None:
    """Measure every shape at each command; the limit is the best of them."""
    with Channel() as channel, torch.inference_mode():
        spec = channel.receive()
        precision = resolve("best", spec["device"])
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        channel.reply(threads=torch.get_num_threads(), precision=precision)
        for command in channel:
            rates = {
                " x ".join(map(str, shape)): best_rate(*shape, dtype=dtype, device=spec["device"], seconds=command["seconds"])
                for shape in command["shapes"]
            }
            channel.reply(best=max(rates.values()), rates=rates)
        channel.extra = device_memory(spec["device"])


if __name__ == "__main__":
    main()
