"""The attention function itself, against the formula written row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from textune.batches.layout import Group
from textune.model import attention
from textune.model.attention import PackedLayout, packed_attention

LENGTHS = (1, 2, 3, 5, 5, 5, 9)
GROUPS = (Group(1, 1), Group(2, 3), Group(3, 5), Group(1, 9))
WIDTH = 4


class Layer(torch.nn.Module):
    """What a backbone's attention module shows to the function."""

    def __init__(self, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal


@pytest.fixture(params=["products", "sdpa"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sdpa":
        monkeypatch.setattr(attention, "MAX_PRODUCT_LENGTH", {})
    return str(request.param)


def make_inputs(num_heads: int = 4, num_key_heads: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    num_tokens = sum(group.rows * group.length for group in GROUPS)
    shapes = [(1, num_tokens, heads, WIDTH) for heads in (num_heads, num_key_heads, num_key_heads)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2).requires_grad_()
        for shape in shapes
    ]


def run(tensors: list[torch.Tensor], *, causal: bool = False, **options: Any) -> torch.Tensor:
    layout = PackedLayout(GROUPS, torch.tensor(LENGTHS), np.array(LENGTHS))
    output, weights = packed_attention(
        Layer(causal), *tensors, None, textune_layout=layout, position_ids=None, **options
    )
    assert weights is None
    return output


def real_tokens() -> torch.Tensor:
    """Positions that hold real tokens."""
    layout = PackedLayout(GROUPS, torch.tensor(LENGTHS), np.array(LENGTHS))
    return torch.cat([layout.real(index).flatten() for index in range(len(GROUPS))]).nonzero().flatten()


def by_hand(
    tensors: list[torch.Tensor], *, causal: bool, window: int | None, softcap: float | None, scaling: float
) -> torch.Tensor:
    """Row after row, query after query."""
    query, key, value = (tensor[0] for tensor in tensors)
    starts = PackedLayout(GROUPS, torch.tensor(LENGTHS), np.array(LENGTHS)).starts_B.tolist()
    outputs = []
    for start, length in zip(starts, LENGTHS, strict=True):
        for place in range(length):
            seen = [
                other
                for other in range(length)
                if not (causal and other > place) and (window is None or abs(place - other) < window)
            ]
            at = torch.tensor(seen) + start
            heads = []
            for head in range(query.shape[0]):
                group = head * key.shape[0] // query.shape[0]
                scores = key[group, at] @ query[head, start + place] * scaling
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                heads.append(scores.softmax(0) @ value[group, at])
            outputs.append(torch.stack(heads))
    return torch.stack(outputs)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_are_those_of_the_formula(
    causal: bool, window: int | None, softcap: float | None, kernel: str
) -> None:
    tensors = make_inputs()
    real = real_tokens()
    options = {"causal": causal, "softcap": softcap, "scaling": 0.7}
    output = run(tensors, sliding_window=window, **options)[0, real]
    expected = by_hand(tensors, window=window, **options)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(output.shape, dtype=torch.float64)
    ours = torch.autograd.grad((output * weights).sum(), tensors)
    theirs = torch.autograd.grad((expected * weights).sum(), tensors)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_what_padding_computes_is_finite(kernel: str) -> None:
    for causal in (False, True):
        output = run(make_inputs(), causal=causal, sliding_window=1)
        assert torch.isfinite(output).all()
        assert output.shape == (1, 31, 4, WIDTH)


def test_the_default_scale_is_one_over_the_root_of_the_width(kernel: str) -> None:
    tensors = make_inputs()
    assert torch.equal(run(tensors), run(tensors, scaling=WIDTH**-0.5))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_hits_the_stated_share(dropout: float, kernel: str) -> None:
    """The output is linear in the dropped probabilities, so its mean over many draws is the output without dropout."""
    tensors = make_inputs()
    still = run(tensors).detach()
    torch.manual_seed(0)
    draws = torch.stack([run(tensors, dropout=dropout).detach() for _ in range(600)])
    error = (draws.mean(0) - still).abs() / (draws.std(0) / 600**0.5 + 1e-12)
    assert error.max() < 6
    # The first row has one token and one probability: a head's output is dropped whole, or scaled up.
    first = draws[:, 0, 0, :, 0]
    share = (first == 0).double().mean()
    assert abs(share - dropout) < 0.05
    kept = first[0, first[0] != 0] / still[0, 0, first[0] != 0, 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - dropout)), rtol=1e-4, atol=0)


def test_gradients_go_through_the_same_dropped_probabilities() -> None:
    groups, lengths_B = (Group(2, 3),), torch.tensor([2, 3])
    tensors = [tensor[:, :, :6].detach().requires_grad_() for tensor in make_inputs()]

    def function(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return packed_attention(
            Layer(False), *inputs, None, textune_layout=PackedLayout(groups, lengths_B, lengths_B.numpy()), dropout=0.4
        )[0]

    assert torch.autograd.gradcheck(function, tuple(tensors))


def test_random_masks_use_all_16_bits() -> None:
    from textune.model.products import _random_mask

    torch.manual_seed(0)
    like = torch.empty(400_001)
    for drop in (1, 6554, 32768, 65535):
        share = 1 - _random_mask(like, drop).mean().item()
        spread = (drop / 65536 * (1 - drop / 65536) / len(like)) ** 0.5
        assert abs(share - drop / 65536) < 5 * spread
        assert set(_random_mask(like, drop).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_decides_the_precision_and_the_gradient_keeps_each_input_type(
    dtype: torch.dtype, kernel: str
) -> None:
    """Rotary positions leave queries and keys in fp32 while values are already rounded."""
    query, key, value = make_inputs(dtype=torch.float32)
    value = value.detach().to(dtype).requires_grad_()
    exact = run([query, key, value.float()])
    with torch.autocast("cpu", dtype=dtype):
        output = run([query, key, value])
    assert output.dtype == dtype
    assert (output - exact).abs().max() < 0.05
    grads = torch.autograd.grad(output.sum(), [query, key, value])
    assert [grad.dtype for grad in grads] == [torch.float32, torch.float32, dtype]


def test_masks_are_made_once_a_batch() -> None:
    layout = PackedLayout(GROUPS, torch.tensor(LENGTHS), np.array(LENGTHS))
    first = layout.bias(1, causal=False, window=None, dtype=torch.float32)
    assert first is not None
    assert layout.bias(1, causal=False, window=None, dtype=torch.float32) is first
    assert layout.bias(2, causal=False, window=None, dtype=torch.float32) is None
    assert layout.bias(2, causal=False, window=5, dtype=torch.float32) is None
    assert layout.bias(1, causal=False, window=None, dtype=torch.bfloat16) is not first


def test_transformers_makes_no_mask_for_it() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    assert attention.PACKED in ALL_ATTENTION_FUNCTIONS.valid_keys()
    assert attention.PACKED not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys()
