"""The kernel of disentangled attention against its formula, on every level of processors that this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from kits.models import LEVELS, kernels_of
from kits.runs import threads

from textune.model.distances import Distances, count_distances
from textune.model.native.disentangled import disentangled_attention, kernel_disentangled
from textune.model.native.kernels import AttentionShape, Kernels


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return kernels_of(request.param)


def packed_shape(lengths: Sequence[int], width: int, **options: Any) -> AttentionShape:
    """Rows with gaps between them, as padding and filler leave them."""
    lengths_B = torch.tensor(lengths)
    starts_B = 1 + torch.cumsum(lengths_B + 2, 0) - (lengths_B + 2)
    return AttentionShape(starts_B, lengths_B, (3 * width) ** -0.5, **options)


def tensors(shape: AttentionShape, distances: Distances, heads: int, width: int) -> list[torch.Tensor]:
    """Queries, keys and values of the tokens, keys and queries of the table's rows."""
    generator = torch.Generator().manual_seed(0)
    num_tokens = int(shape.starts_B[-1] + shape.lengths_B[-1]) + 3
    sizes = [num_tokens] * 3 + [distances.num_rows] * 2
    return [torch.randn(size, heads, width, generator=generator).requires_grad_() for size in sizes]


def by_hand(inputs: list[torch.Tensor], shape: AttentionShape, distances: Distances) -> torch.Tensor:
    """The formula, row after row; of first tokens alone where they alone ask."""
    query, key, value, far_key, far_query = inputs
    rows_D = torch.from_numpy(distances.rows_D)
    outputs = torch.zeros_like(query)
    for start, length in zip(shape.starts_B.tolist(), shape.lengths_B.tolist(), strict=True):
        places = torch.arange(length)
        table_LL = rows_D[places[None, :] - places[:, None] + distances.reach]
        q, k, v = (tensor[start : start + length] for tensor in (query, key, value))
        scores = torch.einsum("ihd,jhd->hij", q, k)
        scores = (
            scores
            + torch.einsum("ihd,ijhd->hij", q, far_key[table_LL])
            + torch.einsum("jhd,ijhd->hij", k, far_query[table_LL])
        )
        attended = torch.einsum("hij,jhd->ihd", (scores * shape.scale).softmax(-1), v)
        outputs = outputs.index_put((torch.arange(start, start + length),), attended)
    return outputs[shape.starts_B] if shape.first_only else outputs


@pytest.mark.every_day(5)
@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first only"])
@pytest.mark.parametrize("heads", [(2, 64), (3, 20), (4, 8), (1, 100)], ids=str)
@pytest.mark.parametrize("lengths", [(1,), (1, 2, 5, 13, 16, 17, 40), (33, 3), (3, 70, 2)], ids=str)
def test_output_and_gradients(
    kernels: Kernels, lengths: Sequence[int], heads: tuple[int, int], first_only: bool
) -> None:
    shape, distances = (
        packed_shape(lengths, heads[1], first_only=first_only),
        count_distances(max(lengths), 16, 512, 16),
    )
    inputs = tensors(shape, distances, *heads)
    expected = by_hand(inputs, shape, distances)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    theirs = torch.autograd.grad(expected, inputs, grad)
    for number in (1, 3):
        with threads(number):
            output = kernel_disentangled(kernels, shape, distances, inputs[:3], (inputs[3], inputs[4]))
            ours = torch.autograd.grad(output, inputs, grad)
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
        for our, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(our, their, atol=5e-5, rtol=1e-5)
    low = [tensor.detach().bfloat16() for tensor in inputs]
    rough = disentangled_attention(kernels, shape, distances, low[:3], (low[3], low[4]))
    torch.testing.assert_close(
        rough.float(), by_hand([t.float() for t in low], shape, distances), atol=1.6e-2, rtol=1.6e-2
    )


def test_a_term_that_there_is_not_adds_nothing(kernels: Kernels) -> None:
    shape, distances = packed_shape((5, 9), 8), count_distances(9, -1, -1, 4)
    inputs = tensors(shape, distances, 2, 8)
    for missing in (3, 4):
        zeros = [torch.zeros_like(t) if number == missing else t for number, t in enumerate(inputs)]
        terms = tuple(None if number == missing else inputs[number] for number in (3, 4))
        output = kernel_disentangled(kernels, shape, distances, inputs[:3], terms)
        torch.testing.assert_close(output, by_hand(zeros, shape, distances), atol=1e-5, rtol=1e-5)
        (grad,) = torch.autograd.grad(output.square().sum(), inputs[7 - missing])
        (their,) = torch.autograd.grad(by_hand(zeros, shape, distances).square().sum(), inputs[7 - missing])
        torch.testing.assert_close(grad, their, atol=5e-5, rtol=1e-5)


def test_what_is_not_a_number_stays_in_its_row_and_sums_repeat_exactly(kernels: Kernels) -> None:
    shape, distances = packed_shape((7, 30, 12), 16, dropout=0.2, seed=5), count_distances(30, 16, 512, 16)
    inputs = [tensor.detach() for tensor in tensors(shape, distances, 5, 16)]

    def outcome() -> tuple[torch.Tensor, ...]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        output = kernel_disentangled(kernels, replace(shape), distances, leaves[:3], (leaves[3], leaves[4]))
        return output.detach(), *torch.autograd.grad(output.square().sum(), leaves)

    with threads(3):
        found = []
        for _ in range(2):
            torch.manual_seed(1)
            found.append(outcome())
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
        inputs[1][int(shape.starts_B[1]) + 3] = torch.nan
        output, grad_query, *_ = outcome()
    start, end = int(shape.starts_B[1]), int(shape.starts_B[1]) + 30
    for tensor in (output, grad_query):
        assert tensor[start:end].isnan().any(dim=2).all()
        assert tensor[:start].isfinite().all() and tensor[end:].isfinite().all()


def test_arguments_that_do_not_belong_together_are_refused(kernels: Kernels) -> None:
    shape = packed_shape((5, 9), 8)
    inputs = [tensor.detach() for tensor in tensors(shape, count_distances(9, 16, 512, 16), 2, 8)]
    with pytest.raises(ValueError, match="needs"):
        disentangled_attention(kernels, shape, count_distances(8, 16, 512, 16), inputs[:3], (inputs[3], inputs[4]))
    few = count_distances(4, 16, 512, 16)
    with pytest.raises(ValueError, match="out of range"):
        disentangled_attention(kernels, shape, few, inputs[:3], (inputs[3][:7], inputs[4][:7]))


@pytest.mark.slow
def test_a_row_of_many_thousand_tokens(kernels: Kernels) -> None:
    shape, distances = packed_shape((8192,), 8, first_only=True), count_distances(8192, 256, 512, 256)
    inputs = tensors(shape, distances, 1, 8)
    with torch.no_grad():
        places = -torch.arange(8192)
        far = torch.from_numpy(distances.rows_D)[distances.reach - places]
        query, (key, value) = inputs[0][1, 0], (tensor[1:8193, 0] for tensor in inputs[1:3])
        scores = key @ query + inputs[3][far, 0] @ query + (key * inputs[4][far, 0]).sum(1)
        expected = (scores * shape.scale).softmax(0) @ value
        ours = disentangled_attention(kernels, shape, distances, inputs[:3], (inputs[3], inputs[4]))
    torch.testing.assert_close(ours[0, 0], expected, atol=1e-4, rtol=1e-4)
