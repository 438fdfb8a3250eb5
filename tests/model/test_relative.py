"""The bias by distance against the formula, its gradient among all others, and how MPNet's own forward comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.models import UNEVEN, build, lay_out, random_rows

from textune.batches.layout import Group
from textune.model import attention
from textune.model.attention import PackedLayout, packed_attention
from textune.model.relative import RelativeBias

LENGTHS = (1, 2, 3, 5, 5, 4, 9)
GROUPS = (Group(1, 1), Group(2, 3), Group(3, 5), Group(1, 9))
HEADS, WIDTH, VALUE_WIDTH = 4, 6, 3


def bucket(distances: torch.Tensor) -> torch.Tensor:
    """Not the same before and behind, and far ones share a bucket."""
    return torch.where(distances < 0, -distances, 10 + distances).clamp(0, 15)


class Inputs:
    """Queries, keys, values and a table of buckets, all with gradients."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.layout = PackedLayout(GROUPS, torch.tensor(LENGTHS), np.array(LENGTHS))
        num_tokens = sum(self.layout.sizes)
        widths = ((HEADS, WIDTH), (2, WIDTH), (2, VALUE_WIDTH))
        shapes = [(1, num_tokens, heads, width) for heads, width in widths]
        self.tensors = [
            torch.randn(shape, generator=generator, dtype=torch.float64).transpose(1, 2).requires_grad_()
            for shape in shapes
        ]
        self.table = torch.nn.Embedding(16, HEADS, dtype=torch.float64)
        self.all: list[torch.Tensor] = [*self.tensors, self.table.weight]
        real = [self.layout.real(index).flatten() for index in range(len(GROUPS))]
        self.real = torch.cat(real).nonzero().flatten()

    def packed(self, *, causal: bool, window: int | None, biased: Any) -> torch.Tensor:
        """Real tokens [T', h, v] of the packed attention."""
        module = torch.nn.Module()
        output, _ = packed_attention(
            module,
            *self.tensors,
            None,
            textune_layout=self.layout,
            is_causal=causal,
            sliding_window=window,
            scaling=0.7,
            position_bias=biased,
        )
        return output[0, self.real]

    def by_hand(self, *, causal: bool, window: int | None) -> torch.Tensor:
        """The same row by row, with the bias of every pair of tokens."""
        rows = []
        for start, length in zip(self.layout.starts_B.tolist(), LENGTHS, strict=True):
            query, key, value = (tensor[0, :, start : start + length] for tensor in self.tensors)
            steps = torch.arange(length)
            distances = steps[None, :] - steps[:, None]
            scores = query @ key.repeat_interleave(2, 0).transpose(1, 2) * 0.7
            scores = scores + self.table(bucket(distances)).permute(2, 0, 1)
            hidden = (
                (distances > 0) & causal
                if window is None
                else ((distances > 0) & causal) | (distances.abs() >= window)
            )
            weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
            rows.append((weights @ value.repeat_interleave(2, 0)).transpose(0, 1))
        return torch.cat(rows)


@pytest.mark.parametrize("way", ["products", "sdpa"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_are_those_of_the_formula(
    causal: bool, window: int | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "sdpa":
        monkeypatch.setattr(attention, "MAX_PRODUCT_LENGTH", {})
    inputs = Inputs()
    bias = RelativeBias(inputs.table, bucket, inputs.layout)
    bias.look_up()
    ours = inputs.packed(causal=causal, window=window, biased=bias)
    theirs = inputs.by_hand(causal=causal, window=window)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for mine, other in zip(
        torch.autograd.grad((ours * upstream).sum(), inputs.all),
        torch.autograd.grad((theirs * upstream).sum(), inputs.all),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_layers_share_one_look_into_the_table() -> None:
    inputs = Inputs()
    bias = RelativeBias(inputs.table, bucket, inputs.layout)
    bias.look_up()
    for length in (1, 3, 9):
        steps = torch.arange(length)
        expected = inputs.table(bucket(steps[None, :] - steps[:, None])).permute(2, 0, 1)
        torch.testing.assert_close(bias.for_rows(length), expected, atol=0, rtol=0)
        assert bias.for_rows(length) is bias.for_rows(length)


def test_mpnets_own_attention_comes_back_with_the_padded_layout(tmp_path: Path) -> None:
    built = build("mpnet", tmp_path / "backbone")

    def replaced() -> list[str]:
        return [name for name, module in built.hf.named_modules() if "forward" in vars(module)]

    names = [f"mpnet.encoder.layer.{index}.attention.attn" for index in range(2)]
    assert replaced() == names
    built.model.save(tmp_path)
    assert replaced() == names
    built.model.set_layout("padded")
    assert replaced() == []
    rows = random_rows(built)
    with torch.no_grad():
        padded = built.model(lay_out(built, rows))
        built.model.set_layout("packed")
        assert replaced() == names
        torch.testing.assert_close(built.model(lay_out(built, rows, UNEVEN)), padded, atol=1e-5, rtol=1e-5)
