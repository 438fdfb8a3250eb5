"""Attention of one layer (12 heads of 32) on one CPU thread: the compiled kernel beside the written-out products and SDPA.

`python bench/attention_kernel.py` (two minutes) prints milliseconds forward and backward, the best of several calls in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention

from textune.model.native.kernels import AttentionShape, Kernels, kernel_attention
from textune.model.products import product_attention

HEADS, WIDTH, SCALE = 12, 32, 32**-0.5
ROUNDS = 12


def main() -> None:
    """Every way at every length, for 4,096 tokens."""
    torch.set_num_threads(1)
    kernels = Kernels()
    print("length  type      dropout  kernel  products    SDPA   (ms, forward and backward)")
    for length in (8, 16, 64, 256, 512):
        for dtype in (torch.bfloat16, torch.float32):
            for dropout in (0.0, 0.1):
                best = measure(ways(kernels, 4096 // length, length, dtype, dropout))
                name = str(dtype).removeprefix("torch.")
                print(f"{length:6}  {name:8}  {dropout:7}  " + "  ".join(f"{seconds * 1e3:6.1f}" for seconds in best))


def ways(kernels: Kernels, rows: int, length: int, dtype: torch.dtype, dropout: float) -> list[Callable[[], object]]:
    """The same attention and its gradients, three times."""
    num_tokens = rows * length
    by_token = [torch.randn(num_tokens, HEADS, WIDTH).to(dtype).requires_grad_() for _ in range(3)]
    by_head = [tensor.detach().transpose(0, 1).contiguous().requires_grad_() for tensor in by_token]
    by_row = [t.detach().view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous().requires_grad_() for t in by_token]
    grad = torch.randn(num_tokens, HEADS, WIDTH).to(dtype)
    row_grad = grad.view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous()
    shape = AttentionShape(torch.arange(0, num_tokens, length), torch.full((rows,), length), SCALE, dropout=dropout)

    def kernel() -> object:
        return torch.autograd.grad(kernel_attention(kernels, shape, *by_token), by_token, grad)

    def products() -> object:
        output = product_attention(*by_head, None, num_rows=rows, scale=SCALE, dropout=dropout)
        return torch.autograd.grad(output, by_head, grad)

    def sdpa() -> object:
        return torch.autograd.grad(scaled_dot_product_attention(*by_row, dropout_p=dropout, scale=SCALE), by_row, row_grad)

    return [kernel, products, sdpa]


def measure(calls: list[Callable[[], object]]) -> list[float]:
    """Best seconds of each, in turns; the first round is not counted."""
    best = [float("inf")] * len(calls)
    for number in range(ROUNDS + 1):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if number:
                best[index] = min(best[index], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
