"""A stand-in for PyTorch's flash attention of variable length, so that a computer without a GPU can test all that is
around it.

It takes the processor's place in PyTorch's own operators, below their derivative, exactly where a GPU has its kernels.
It is written from the definition, one sequence and one head at a time, in double precision.

Shapes: T tokens, h heads of d, g key heads, S sequences, L tokens of one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
"""The marks of a test that runs on a CUDA device, and is left out without one."""


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Give a test these marks."""
    marked, skipped = GPU
    return marked(skipped(test))


@dataclass(frozen=True)
class Call:
    """The arguments of one forward call."""

    bounds: list[int]
    longest: int
    dropout: float
    causal: bool
    scale: float
    window: tuple[int, int]
    dtype: torch.dtype


@dataclass
class Calls:
    """What the operators were called with, in order."""

    forward: list[Call] = field(default_factory=list)
    num_backward: int = 0


@dataclass(frozen=True)
class Attention:
    """One call's options, applied to one sequence and head at a time."""

    call: Call
    seed: int

    def pieces(self, num_heads: int, num_key_heads: int) -> Iterator[tuple[slice, int, int]]:
        """(tokens of a sequence, head, its key head)."""
        for start, end in itertools.pairwise(self.call.bounds):
            for head in range(num_heads):
                yield slice(start, end), head, head * num_key_heads // num_heads

    def scores(self, query_Ld: torch.Tensor, key_Ld: torch.Tensor) -> torch.Tensor:
        """[L, L]: query i sees key j where i - left <= j <= i + right; a negative limit is none."""
        left, right = self.call.window
        right = 0 if self.call.causal else right
        steps = torch.arange(len(query_Ld))
        ahead = steps[None, :] - steps[:, None]
        hidden = torch.zeros_like(ahead, dtype=torch.bool)
        if left >= 0:
            hidden |= ahead < -left
        if right >= 0:
            hidden |= ahead > right
        return (query_Ld @ key_Ld.T * self.call.scale).masked_fill(hidden, -torch.inf)

    def kept(self, piece: slice, head: int) -> torch.Tensor:
        """[L, L]: 0 where a probability is dropped, else 1 / (1 - dropout)."""
        length = piece.stop - piece.start
        generator = torch.Generator().manual_seed(self.seed + 1000 * piece.start + head)
        random = torch.rand(length, length, generator=generator, dtype=torch.float64)
        return (random >= self.call.dropout).double() / (1 - self.call.dropout)


def _checked_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds_q: torch.Tensor,
    bounds_k: torch.Tensor,
    max_q: int,
    max_k: int,
    dropout: float,
    causal: bool,
    scale: float,
    window: tuple[int, int],
) -> Call:
    """What flash_api.cpp of PyTorch demands, and that every token is covered."""
    assert query.dtype == key.dtype == value.dtype
    assert all(tensor.stride(-1) == 1 and tensor.shape[-1] % 8 == 0 for tensor in (query, key, value))
    assert query.shape[1] % key.shape[1] == 0 and key.shape == value.shape
    assert bounds_q.dtype == torch.int32 and bounds_q.is_contiguous() and torch.equal(bounds_q, bounds_k)
    bounds = bounds_q.tolist()
    assert bounds[0] == 0 and bounds[-1] == len(query) == len(key)
    # A longest sequence of 1 token is a path of its own in the kernel.
    assert 1 < max_q == max_k and all(0 < end - start <= max_q for start, end in itertools.pairwise(bounds))
    return Call(bounds, int(max_q), dropout, causal, scale, window, query.dtype)


@contextmanager
def flash_attention_on_cpu() -> Iterator[Calls]:
    """Let both operators run on the processor, and record their calls."""
    calls = Calls()

    def forward(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bounds_q: torch.Tensor,
        bounds_k: torch.Tensor,
        max_q: int,
        max_k: int,
        dropout: float,
        causal: bool,
        return_debug_mask: bool,
        *,
        scale: float,
        window_size_left: int,
        window_size_right: int,
        **rest: Any,
    ) -> tuple[torch.Tensor, ...]:
        assert not return_debug_mask and all(option is None for option in rest.values())
        window = (window_size_left, window_size_right)
        call = _checked_call(query, key, value, bounds_q, bounds_k, max_q, max_k, dropout, causal, scale, window)
        calls.forward.append(call)
        attention = Attention(call, int(torch.randint(2**40, ())) if dropout else 0)
        output = torch.empty_like(query)
        logsumexp = torch.empty(query.shape[1], len(query))
        for piece, head, shared in attention.pieces(query.shape[1], key.shape[1]):
            scores = attention.scores(query[piece, head].double(), key[piece, shared].double())
            output[piece, head] = (scores.softmax(1) * attention.kept(piece, head) @ value[piece, shared].double()).to(
                query
            )
            logsumexp[head, piece] = scores.logsumexp(1).float()
        state = torch.tensor([attention.seed, 0]).view(torch.uint64)
        return output, logsumexp, state, torch.empty((), dtype=torch.uint64), query.new_empty(0)

    def backward(
        grad: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        output: torch.Tensor,
        logsumexp: torch.Tensor,
        bounds_q: torch.Tensor,
        bounds_k: torch.Tensor,
        max_q: int,
        max_k: int,
        dropout: float,
        causal: bool,
        state: torch.Tensor,
        _unused: torch.Tensor,
        *,
        scale: float,
        window_size_left: int,
        window_size_right: int,
    ) -> tuple[torch.Tensor, ...]:
        window = (window_size_left, window_size_right)
        call = _checked_call(query, key, value, bounds_q, bounds_k, max_q, max_k, dropout, causal, scale, window)
        calls.num_backward += 1
        attention = Attention(call, int(state.view(torch.int64)[0]))
        wide = [torch.zeros(tensor.shape, dtype=torch.float64) for tensor in (query, key, value)]
        for piece, head, shared in attention.pieces(query.shape[1], key.shape[1]):
            q_Ld, k_Ld, v_Ld = query[piece, head].double(), key[piece, shared].double(), value[piece, shared].double()
            grad_Ld = grad[piece, head].double()
            kept = attention.kept(piece, head)
            weights = (attention.scores(q_Ld, k_Ld) - logsumexp[head, piece].double().unsqueeze(1)).exp()
            delta_L1 = (grad_Ld * output[piece, head].double()).sum(1, keepdim=True)
            inner = weights * (grad_Ld @ v_Ld.T * kept - delta_L1) * scale
            wide[0][piece, head] += inner @ k_Ld
            wide[1][piece, shared] += inner.T @ q_Ld
            wide[2][piece, shared] += (weights * kept).T @ grad_Ld
        return tuple(
            torch.empty_like(tensor).copy_(gradient)
            for tensor, gradient in zip((query, key, value), wide, strict=True)
        )

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    try:
        yield calls
    finally:
        library._destroy()
