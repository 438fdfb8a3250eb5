"""The compiled attention of every level that this machine has, against the plain formula in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from kits.forking import in_a_process
from kits.models import LEVELS, kernels_of
from kits.runs import threads
from torch.nn.functional import scaled_dot_product_attention

from textune.model.native.kernels import AttentionShape, Kernels, kernel_attention

LENGTHS = [1, 2, 5, 13, 16, 17, 40, 70]
STARTS = [0, 1, 4, 10, 25, 41, 60, 100]
"""With gaps, as padding and filler leave them."""
NUM_TOKENS = 180
HEADS = [
    (12, 12, 32),
    (4, 2, 8),
    (2, 1, 64),
    (3, 3, 20),
    (1, 1, 5),
    (2, 2, 24),
    (2, 1, 40),
    (1, 1, 80),
    (2, 2, 96),
    (2, 2, 128),
    (1, 1, 256),
]
"""Heads, key heads, width of a head."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The kernel shares rows and heads out among threads."""
    with threads(2):
        yield


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Of every level that this machine has."""
    return kernels_of(request.param)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(heads: tuple[int, int, int], num_tokens: int = NUM_TOKENS) -> list[torch.Tensor]:
    """Query, key and value."""
    num_heads, num_key_heads, width = heads
    return [
        random(num_tokens, n, width, seed=seed) for seed, n in enumerate((num_heads, num_key_heads, num_key_heads))
    ]


def rows(lengths: list[int] = LENGTHS, starts: list[int] = STARTS, scale: float = 0.2) -> AttentionShape:
    return AttentionShape(torch.tensor(starts), torch.tensor(lengths), scale)


def by_hand(tensors: list[torch.Tensor], shape: AttentionShape) -> torch.Tensor:
    """The formula, row after row."""
    query, key, _ = tensors
    output = torch.zeros_like(query)
    for start, length in zip(shape.starts_B.tolist(), shape.lengths_B.tolist(), strict=True):
        q, k, v = (t[start : start + length].transpose(0, 1) for t in tensors)
        k, v = (t.repeat_interleave(query.shape[1] // key.shape[1], 0) for t in (k, v))
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = distance >= 0 if shape.causal else torch.ones_like(distance, dtype=torch.bool)
        if shape.window:
            seen = seen & (distance.abs() < shape.window)
        weights = (q @ k.transpose(1, 2) * shape.scale).masked_fill(~seen, -torch.inf).softmax(-1)
        output = output.index_put((torch.arange(start, start + length),), (weights @ v).transpose(0, 1))
    return output


def with_gradients(
    call: Callable[[list[torch.Tensor]], torch.Tensor], tensors: list[torch.Tensor], grad: torch.Tensor
) -> list[torch.Tensor]:
    """[output, gradients of query, key and value]."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = call(leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad.to(output.dtype))]


# --- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.every_day(5)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 3, 20])
def test_attention_and_its_gradients(kernels: Kernels, heads: tuple[int, int, int], causal: bool, window: int) -> None:
    shape = replace(rows(scale=heads[2] ** -0.5), causal=causal, window=window)
    exact = [tensor.bfloat16().double() for tensor in inputs(heads)]
    grad = random(NUM_TOKENS, heads[0], heads[2], seed=9).bfloat16()
    theirs = with_gradients(lambda leaves: by_hand(leaves, shape), exact, grad)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        ours = with_gradients(
            lambda leaves: kernel_attention(kernels, shape, *leaves), [t.to(dtype) for t in exact], grad
        )
        for our, their in zip(ours, theirs, strict=True):
            assert our.dtype == dtype
            torch.testing.assert_close(our.double(), their, atol=tolerance, rtol=tolerance)


@pytest.mark.slow
def test_rows_of_one_and_of_thousands_of_tokens(kernels: Kernels) -> None:
    lengths = [1, 8192, 3]
    shape = rows(lengths, [0, 1, 8193], 0.3)
    tensors, grad = inputs((1, 1, 24), 8196), random(8196, 1, 24, seed=9)

    def plain(leaves: list[torch.Tensor]) -> torch.Tensor:
        pieces = zip(*(tensor.split(lengths) for tensor in leaves), strict=True)
        by_head = ([piece.transpose(0, 1)[None] for piece in row] for row in pieces)
        return torch.cat([scaled_dot_product_attention(*row, scale=0.3)[0].transpose(0, 1) for row in by_head])

    ours = with_gradients(lambda leaves: kernel_attention(kernels, shape, *leaves), tensors, grad)
    for our, their in zip(ours, with_gradients(plain, tensors, grad), strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 3])
def test_the_first_token_alone_may_ask(kernels: Kernels, causal: bool, window: int) -> None:
    """As where all ask and only the first answers have a gradient."""
    shape = replace(rows(), causal=causal, window=window)
    tensors, grad = inputs((4, 2, 24)), random(len(LENGTHS), 4, 24, seed=9)
    every_grad = torch.zeros(NUM_TOKENS, 4, 24)
    every_grad[STARTS] = grad
    output, *theirs = with_gradients(lambda leaves: kernel_attention(kernels, shape, *leaves), tensors, every_grad)
    first = replace(shape, first_only=True)
    torch.testing.assert_close(kernels.attention(first, *tensors), output[STARTS])
    ours = tuple(torch.empty_like(tensor) for tensor in tensors)
    kernels.attention_backward(first, *tensors, grad, ours)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-6, rtol=1e-5)


def test_heads_may_lie_apart(kernels: Kernels) -> None:
    """Query, key and value are often views of one tensor."""
    whole = random(NUM_TOKENS, 3, 4, 37)
    apart = [whole[:, index, :, :29] for index in range(3)]
    shape, grad = rows(), random(NUM_TOKENS, 4, 29, seed=1)
    ours = with_gradients(lambda leaves: kernel_attention(kernels, shape, *leaves), apart, grad)
    together = [tensor.contiguous() for tensor in apart]
    for our, their in zip(
        ours, with_gradients(lambda leaves: kernel_attention(kernels, shape, *leaves), together, grad), strict=True
    ):
        assert torch.equal(our, their)


# --- what is not a number --------------------------------------------------------------------------------------------


def test_attention_reads_and_writes_nothing_outside_its_rows(kernels: Kernels) -> None:
    shape = rows([2], [3], 1.0)
    tensors = [torch.full((8, 2, 16), torch.nan) for _ in range(3)]
    for tensor in tensors:
        tensor[3:5] = 1.0
    output = kernels.attention(shape, *tensors)
    assert torch.equal(output[3:5], torch.ones(2, 2, 16))
    assert torch.equal(output[:3], torch.zeros(3, 2, 16)) and torch.equal(output[5:], torch.zeros(3, 2, 16))


@pytest.mark.every_day(5)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_what_is_not_a_number_spoils_its_row_and_no_other(
    kernels: Kernels, poison: float, place: int, dropout: float
) -> None:
    shape = replace(rows(), dropout=dropout, seed=5)
    tensors, grad = inputs((2, 2, 24)), random(NUM_TOKENS, 2, 24, seed=9)

    def all_of() -> list[torch.Tensor]:
        grads = tuple(torch.empty_like(tensor) for tensor in tensors)
        kernels.attention_backward(shape, *tensors, grad, grads)
        return [kernels.attention(shape, *tensors), *grads]

    before = all_of()
    tensors[place][63, 1, 7] = poison  # of the row of 40 tokens
    spoilt = torch.zeros(NUM_TOKENS, 2, dtype=torch.bool)
    spoilt[60:100, 1] = True
    plain = with_gradients(lambda leaves: by_hand(leaves, shape), [tensor.double() for tensor in tensors], grad)
    for index, (now, then) in enumerate(zip(all_of(), before, strict=True)):
        assert torch.equal(now[~spoilt], then[~spoilt])
        if not dropout and (math.isnan(poison) or index == 0):  # differences of infinities come in another order
            assert torch.equal(now.isnan(), plain[index].isnan())
        elif math.isnan(poison):
            assert now.isnan().any() == plain[index].isnan().any()


@pytest.mark.parametrize("size", [30.0, 1e4, 1e15])
def test_scores_far_apart_neither_overflow_nor_vanish(kernels: Kernels, size: float) -> None:
    tensors = inputs((2, 2, 24))
    tensors[0] *= size
    output = kernels.attention(rows(), *tensors)
    assert output.isfinite().all()
    expected = by_hand([tensor.double() for tensor in tensors], rows())
    assert (output - expected).abs().mean().item() < 2e-6 * min(size, 100)


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_is_that_of_the_probabilities(kernels: Kernels) -> None:
    length, probability = 300, 0.1
    zeros, identity = torch.zeros(length, 1, 512), torch.eye(length, 512)[:, None]
    shape = replace(rows([length], [0], 1.0), dropout=probability, seed=3)
    weights = kernels.attention(shape, zeros, zeros, identity)[:, 0, :length]
    kept = weights > 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.005)
    assert torch.allclose(weights[kept], torch.tensor(1 / length / (1 - probability)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 5])
def test_gradients_under_dropout_are_difference_quotients(kernels: Kernels, causal: bool, window: int) -> None:
    shape = replace(rows([7, 20, 50], [0, 7, 27], 0.25), causal=causal, window=window, dropout=0.3, seed=12345)
    tensors, weights = inputs((2, 1, 16), 77), random(77, 2, 16, seed=4)
    grads = tuple(torch.empty_like(tensor) for tensor in tensors)
    kernels.attention_backward(shape, *tensors, weights, grads)
    for index, grad in enumerate(grads):
        direction = random(*grad.shape, seed=10 + index)
        ends = []
        for sign in (1, -1):
            moved = list(tensors)
            moved[index] = tensors[index] + sign * 1e-2 * direction
            ends.append((kernels.attention(shape, *moved).double() * weights).sum())
        assert ((ends[0] - ends[1]) / 2e-2).item() == pytest.approx(
            (grad * direction).sum().item(), rel=1e-3, abs=2e-3
        )


# --- threads and processes -------------------------------------------------------------------------------------------


def once(kernels: Kernels) -> list[torch.Tensor]:
    shape = replace(rows(), dropout=0.1, seed=7)
    grads = tuple(torch.empty_like(tensor) for tensor in inputs((4, 2, 24)))
    kernels.attention_backward(shape, *inputs((4, 2, 24)), random(NUM_TOKENS, 4, 24, seed=9), grads)
    return [kernels.attention(shape, *inputs((4, 2, 24))), *grads]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_results_are_the_same_for_any_number_of_threads(kernels: Kernels) -> None:
    expected = once(kernels)
    for number in (1, 2, 3, 5):
        with threads(number):
            assert same(once(kernels), expected)


def test_calls_from_several_threads_of_python_do_not_meet(kernels: Kernels) -> None:
    expected = once(kernels)
    with ThreadPoolExecutor(4) as pool:
        assert all(same(found, expected) for found in pool.map(lambda _: once(kernels), range(12)))


def in_a_fork(level: str) -> list[list[float]]:
    torch.set_num_threads(1)
    return [tensor.flatten().tolist() for tensor in once(Kernels(level))]


@pytest.mark.every_day(1)
def test_a_forked_process_computes_the_same(kernels: Kernels) -> None:
    assert in_a_process(in_a_fork, kernels.level) == [tensor.flatten().tolist() for tensor in once(kernels)]
