"""Attention of one layer (12 heads of 32) on a CPU: the compiled kernel beside the written-out products and SDPA.

`python bench/attention_kernel.py` (some minutes; `--help`) prints milliseconds, the best of several calls in turns, and how
many times faster the kernel is than the better of the others. To see a processor without AVX-512 on one that has it: set
ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2 and MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention

from textune.model.native.kernels import AttentionShape, Kernels, kernel_attention
from textune.model.products import product_attention

HEADS, WIDTH, SCALE = 12, 32, 32**-0.5
ROUNDS = 12
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main() -> None:
    """Every way at every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8, 13, 16, 32, 64, 128, 256, 512], help="tokens of a row")
    parser.add_argument("--tokens", type=int, default=4096, help="of all rows")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels = Kernels()
    print(f"{kernels.level}, {options.threads} threads, {options.tokens:,} tokens")
    print("length  type  dropout                  kernel  products    SDPA  ratio   (ms)")
    for length, name, dropout in itertools.product(options.lengths, options.types, options.dropout):
        calls = ways(kernels, max(1, options.tokens // length), length, TYPES[name], dropout)
        for part, timed in (("forward", [without_gradient(call) for call in calls]), ("forward, backward", calls)):
            best = measure(timed)
            columns = "  ".join(f"{seconds * 1e3:6.1f}" for seconds in best)
            print(f"{length:6}  {name}  {dropout:7}  {part:17}  {columns}  {min(best[1:]) / best[0]:5.2f}", flush=True)


def without_gradient(call: Callable[..., object]) -> Callable[[], object]:
    """The forward pass of one way alone."""

    def forward() -> object:
        with torch.no_grad():
            return call(False)

    return forward


def ways(kernels: Kernels, rows: int, length: int, dtype: torch.dtype, dropout: float) -> list[Callable[..., object]]:
    """The same attention, three times; each with its gradients unless called with False."""
    num_tokens = rows * length
    by_token = [torch.randn(num_tokens, HEADS, WIDTH).to(dtype).requires_grad_() for _ in range(3)]
    by_head = [tensor.detach().transpose(0, 1).contiguous().requires_grad_() for tensor in by_token]
    by_row = [t.detach().view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous().requires_grad_() for t in by_token]
    grad = torch.randn(num_tokens, HEADS, WIDTH).to(dtype)
    row_grad = grad.view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous()
    shape = AttentionShape(torch.arange(0, num_tokens, length), torch.full((rows,), length), SCALE, dropout=dropout)

    def kernel(backward: bool = True) -> object:
        output = kernel_attention(kernels, shape, *by_token)
        return torch.autograd.grad(output, by_token, grad) if backward else output

    def products(backward: bool = True) -> object:
        output = product_attention(*by_head, None, num_rows=rows, scale=SCALE, dropout=dropout)
        return torch.autograd.grad(output, by_head, grad) if backward else output

    def sdpa(backward: bool = True) -> object:
        output = scaled_dot_product_attention(*by_row, dropout_p=dropout, scale=SCALE)
        return torch.autograd.grad(output, by_row, row_grad) if backward else output

    return [kernel, products, sdpa]


def measure(calls: list[Callable[..., object]]) -> list[float]:
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
