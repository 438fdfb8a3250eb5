"""Worker: how many floating-point operations a second this machine's matrix products reach; the limit of everything else."""

from __future__ import annotations

import time

import torch

from bench.speed.peers.precision import device_memory, resolve, wait_for
from bench.speed.protocol import Channel


def rate(rows: int, columns: int, inner: int, *, dtype: torch.dtype, device: str, seconds: float) -> float:
    """FLOP/s of `[rows, inner] @ [inner, columns]`, the second stored as a linear layer stores its weight; best of three."""
    left = torch.randn(rows, inner, dtype=dtype, device=device)
    right = torch.randn(columns, inner, dtype=dtype, device=device)
    for _ in range(3):
        torch.nn.functional.linear(left, right)
    wait_for(device)
    best = 0.0
    for _ in range(3):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds / 3:
            for _ in range(8):
                torch.nn.functional.linear(left, right)
            wait_for(device)
            count += 8
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
                " x ".join(map(str, shape)): rate(*shape, dtype=dtype, device=spec["device"], seconds=command["seconds"])
                for shape in command["shapes"]
            }
            channel.reply(best=max(rates.values()), rates=rates)
        channel.extra = device_memory(spec["device"])


if __name__ == "__main__":
    main()
