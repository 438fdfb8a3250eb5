"""Flash attention of variable length: its arguments and its meaning on a stand-in, and itself where there is a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from kits.flash import Calls, flash_attention_on_cpu, on_gpu
from kits.models import (
    PACKED,
    UNEVEN,
    Built,
    build,
    gradients,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    random_types,
    without_dropout,
)
from torch.nn import functional

from textune.model import attention, varlen
from textune.model.varlen import Sequences, cut_into_sequences, describe_attention, varlen_attention, varlen_obstacle

CPU = torch.device("cpu")
CUDA = torch.device("cuda")

ROWS = ((0, 1), (1, 3), (4, 5), (9, 4), (14, 9), (23, 9))
"""(start, length): position 13 is padding."""
NUM_TOKENS = 36
"""Four of them are filler."""
REAL = [start + step for start, length in ROWS for step in range(length)]
WIDTH = 8


class Cut(NamedTuple):
    """What a layout shows to the function."""

    sequences: Sequences | None


def cut(device: torch.device = CPU) -> Cut:
    starts_B, lengths_B = np.array(ROWS).T
    return Cut(cut_into_sequences(starts_B, lengths_B, num_tokens=NUM_TOKENS, device=device))


def make_inputs(num_heads: int = 4, num_key_heads: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key and value as the layers lay them out: [T, heads, d] in memory, the heads first in shape."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(NUM_TOKENS, heads, WIDTH) for heads in (num_heads, num_key_heads, num_key_heads)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).transpose(0, 1).requires_grad_()
        for shape in shapes
    ]


def by_hand(tensors: list[torch.Tensor], *, causal: bool, window: int | None, scale: float) -> torch.Tensor:
    """Row after row, query after query: [real tokens, h, d]."""
    query, key, value = tensors
    outputs = []
    for start, length in ROWS:
        for place in range(length):
            seen = [
                start + other
                for other in range(length)
                if not (causal and other > place) and (window is None or abs(place - other) < window)
            ]
            heads = []
            for head in range(len(query)):
                shared = head * len(key) // len(query)
                weights = (key[shared, seen] @ query[head, start + place] * scale).softmax(0)
                heads.append(weights @ value[shared, seen])
            outputs.append(torch.stack(heads))
    return torch.stack(outputs)


@pytest.fixture
def calls() -> Iterator[Calls]:
    """The stand-in, in force."""
    with flash_attention_on_cpu() as calls:
        yield calls


# --- sequences -------------------------------------------------------------------------------------------------------


def test_rows_padding_and_filler_are_sequences_of_their_own() -> None:
    sequences = cut().sequences
    assert sequences is not None
    assert sequences.bounds_S1.tolist() == [0, 1, 4, 9, 13, 14, 23, 32, 36]
    assert sequences.bounds_S1.dtype == torch.int32
    assert sequences.longest == 64


def test_a_batch_without_padding_is_its_rows() -> None:
    sequences = cut_into_sequences(np.array([0, 2, 4]), np.array([2, 2, 65]), num_tokens=69, device=CPU)
    assert sequences.bounds_S1.tolist() == [0, 2, 4, 69]
    assert sequences.longest == 128


def test_filler_longer_than_every_row_counts_as_the_longest() -> None:
    assert cut_into_sequences(np.array([0]), np.array([3]), num_tokens=200, device=CPU).longest == 256


# --- the function ----------------------------------------------------------------------------------------------------


@pytest.mark.every_day(5)
@pytest.mark.parametrize("num_key_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_are_those_of_the_formula(
    causal: bool, window: int | None, num_key_heads: int, calls: Calls
) -> None:
    tensors = make_inputs(num_key_heads=num_key_heads)
    output_Thd = varlen_attention(*tensors, cut(), causal=causal, window=window, scale=0.7, dropout=0.0)
    expected = by_hand(tensors, causal=causal, window=window, scale=0.7)
    torch.testing.assert_close(output_Thd[REAL], expected)
    assert torch.isfinite(output_Thd).all()
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((output_Thd[REAL] * weights).sum(), tensors)
    theirs = torch.autograd.grad((expected * weights).sum(), tensors)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    assert len(calls.forward) == calls.num_backward == 1


def test_filler_and_padding_get_no_gradient_and_give_none(calls: Calls) -> None:
    tensors = make_inputs()
    output_Thd = varlen_attention(*tensors, cut(), causal=False, window=None, scale=0.7, dropout=0.0)
    output_Thd[REAL].sum().backward()
    rest = sorted(set(range(NUM_TOKENS)) - set(REAL))
    assert rest == [13, 32, 33, 34, 35]
    for tensor in tensors:
        assert tensor.grad is not None
        assert torch.equal(tensor.grad[:, rest], torch.zeros_like(tensor.grad[:, rest]))


@pytest.mark.parametrize(
    ("causal", "window", "limits"),
    [(False, None, (-1, -1)), (False, 64, (63, 63)), (True, None, (-1, 0)), (True, 6, (5, 0))],
)
def test_the_operator_is_told_everything(
    causal: bool, window: int | None, limits: tuple[int, int], calls: Calls
) -> None:
    layout = cut()
    varlen_attention(*make_inputs(dtype=torch.bfloat16), layout, causal=causal, window=window, scale=0.3, dropout=0.25)
    (call,) = calls.forward
    assert layout.sequences is not None
    assert (call.causal, call.window, call.scale, call.dropout) == (causal, limits, 0.3, 0.25)
    assert (call.bounds, call.longest) == (layout.sequences.bounds_S1.tolist(), 64)
    assert call.dtype == torch.bfloat16


def test_gradients_go_through_the_same_dropped_probabilities(calls: Calls) -> None:
    tensors = make_inputs()

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return varlen_attention(*inputs, cut(), causal=False, window=None, scale=0.7, dropout=0.4)

    def difference(position: int, step: torch.Tensor) -> float:
        moved = [tensor.detach() for tensor in tensors]
        sums = []
        for sign in (1, -1):
            changed = [*moved[:position], moved[position] + sign * step, *moved[position + 1 :]]
            sums.append(run(*changed).sum())
        return float(sums[0] - sums[1]) / 2

    grads = torch.autograd.grad(run(*tensors).sum(), tensors)
    generator = torch.Generator().manual_seed(4)
    for position, gradient in enumerate(grads):
        step = 1e-4 * torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        assert difference(position, step) == pytest.approx(float((gradient * step).sum()), rel=1e-4, abs=1e-9)
    assert not torch.equal(
        run(*tensors), varlen_attention(*tensors, cut(), causal=False, window=None, scale=0.7, dropout=0.0)
    )


# --- where it can run ------------------------------------------------------------------------------------------------


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A GPU and a build of PyTorch that can do everything, as far as anyone asks."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(varlen, "_allowed_by_torch", lambda *arguments: True)
    varlen_obstacle.cache_clear()
    yield monkeypatch
    varlen_obstacle.cache_clear()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [8, 64, 256])
def test_a_capable_gpu_has_no_obstacle(dtype: torch.dtype, head_dim: int, capable: pytest.MonkeyPatch) -> None:
    assert varlen_obstacle(CUDA, dtype, head_dim, None) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"device": CPU}, "CUDA device, not cpu"),
        ({"dtype": torch.float32}, "bf16 or fp16 only"),
        ({"head_dim": 264}, "up to 256 in steps of 8, these are 264 wide"),
        ({"head_dim": 12}, "these are 12 wide"),
        ({"softcap": 50.0}, "cannot cap its scores"),
    ],
)
def test_what_it_is_asked_for_can_be_an_obstacle(
    changed: dict[str, Any], words: str, capable: pytest.MonkeyPatch
) -> None:
    wanted = {"device": CUDA, "dtype": torch.bfloat16, "head_dim": 64, "softcap": None, **changed}
    assert words in varlen_obstacle(**wanted)


@pytest.mark.parametrize(
    ("target", "name", "value", "words"),
    [
        (torch.version, "hip", "6.4", "ROCm"),
        (torch.backends.cuda, "is_flash_attention_available", lambda: False, "this build of PyTorch"),
        (torch.cuda, "get_device_capability", lambda device: (7, 5), "8.0, this GPU has 7.5"),
        (varlen, "_allowed_by_torch", lambda *arguments: False, "refuses flash attention for heads 64 wide"),
    ],
)
def test_a_gpu_or_a_build_can_lack_it(
    target: Any, name: str, value: Any, words: str, capable: pytest.MonkeyPatch
) -> None:
    capable.setattr(target, name, value)
    assert words in varlen_obstacle(CUDA, torch.bfloat16, 64, None)


def test_the_device_is_asked_once(capable: pytest.MonkeyPatch) -> None:
    asked = []
    capable.setattr(varlen, "_allowed_by_torch", lambda *arguments: not asked.append(arguments))
    for _ in range(3):
        varlen_obstacle(CUDA, torch.bfloat16, 64, None)
    assert len(asked) == 1


def test_a_build_for_processors_is_told_no_by_pytorch_itself() -> None:
    if torch.cuda.is_available():
        pytest.skip("this build has CUDA")
    assert not varlen._allowed_by_torch(CPU, torch.bfloat16, 64)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (transformers.BertConfig(), "flash attention of variable length"),
        (transformers.DistilBertConfig(), "flash attention of variable length"),
        (transformers.GPT2Config(), "flash attention of variable length"),
        (transformers.Gemma3TextConfig(head_dim=256), "flash attention of variable length"),
        (transformers.Gemma2Config(), "attention group by group: PyTorch's flash attention cannot cap"),
        (transformers.DebertaV2Config(), "attention group by group: flash attention has no terms for distances"),
        (transformers.MPNetConfig(), "attention group by group: flash attention has no bias by distance"),
        (
            transformers.DeepseekV2Config(),
            "attention group by group: flash attention takes keys and values of one width only",
        ),
        (
            transformers.BertConfig(hidden_size=312),
            "attention group by group: flash attention takes heads of up to 256",
        ),
    ],
)
def test_the_header_says_how_attention_is_computed(config: Any, words: str, capable: pytest.MonkeyPatch) -> None:
    assert describe_attention(CUDA, torch.bfloat16, config).startswith(words)


# --- whole models ----------------------------------------------------------------------------------------------------


def trained_gradients(built: Built, batch: Any, labels: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    loss = functional.cross_entropy(built.model(batch), labels)
    return loss.item(), gradients(built.hf, loss)


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two whole gradients, relative to the second."""
    difference = torch.stack([(ours[name] - gradient).norm() for name, gradient in theirs.items()]).norm()
    return float(difference / torch.stack([gradient.norm() for gradient in theirs.values()]).norm())


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", [family for family in PACKED if family not in {"gemma2", *varlen.ADDED_TERMS}])
def test_loss_and_gradients_are_those_of_the_padded_forward(
    family: str, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "varlen_obstacle", lambda *arguments: "")
    built = build(family, tmp_path / "backbone")
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved")
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3
    padded_loss = functional.cross_entropy(plain(**plain_inputs(built, rows, types)).logits, labels)
    theirs = gradients(plain, padded_loss)
    for groups, round_from in (((1,) * len(rows), 1), (UNEVEN, 1000)):
        monkeypatch.setattr(attention, "ROUND_FROM", round_from)
        calls.forward.clear()
        loss, ours = trained_gradients(built, lay_out(built, rows, groups, types=types), labels)
        assert len(calls.forward) == built.hf.config.num_hidden_layers
        assert loss == pytest.approx(padded_loss.item(), rel=1e-5)
        assert distance(ours, theirs) < 1e-5


def test_a_backbone_that_caps_its_scores_goes_group_by_group(
    tmp_path: Path, calls: Calls, capable: pytest.MonkeyPatch
) -> None:
    capable.setattr(varlen, "varlen_obstacle", lambda device, *rest: varlen_obstacle(CUDA, torch.bfloat16, *rest[1:]))
    capped, free = build("gemma2", tmp_path / "capped"), build("gemma", tmp_path / "free")
    with torch.no_grad():
        for built in (capped, free):
            built.model(lay_out(built, random_rows(built), UNEVEN))
    assert len(calls.forward) == free.hf.config.num_hidden_layers


# --- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_key_heads", [2, 4])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("causal", [False, True])
@on_gpu
def test_the_kernel_computes_the_formula(causal: bool, window: int | None, num_key_heads: int) -> None:
    tensors = make_inputs(num_key_heads=num_key_heads, dtype=torch.bfloat16)
    copies = [tensor.detach().to(CUDA).requires_grad_() for tensor in tensors]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = by_hand(exact, causal=causal, window=window, scale=0.35)
    output_Thd = varlen_attention(*copies, cut(CUDA), causal=causal, window=window, scale=0.35, dropout=0.0)
    assert torch.isfinite(output_Thd).all()
    torch.testing.assert_close(output_Thd[REAL].cpu().double(), expected, rtol=0.02, atol=0.02)
    ours = torch.autograd.grad(output_Thd[REAL].square().sum(), copies)
    theirs = torch.autograd.grad(expected.square().sum(), exact)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.isfinite(mine).all()
        # Who sees only itself gives query and key no gradient at all, but for rounding.
        assert (mine.cpu().double() - other).norm() < 0.02 * (other.norm() + theirs[2].norm())


@on_gpu
def test_the_kernel_drops_the_stated_share_by_the_seed() -> None:
    tensors = [tensor.detach().to(CUDA) for tensor in make_inputs(dtype=torch.bfloat16)]
    options = {"causal": False, "window": None, "scale": 0.35}
    still = varlen_attention(*tensors, cut(CUDA), **options, dropout=0.0).float()
    torch.manual_seed(0)
    draws = torch.stack([varlen_attention(*tensors, cut(CUDA), **options, dropout=0.25).float() for _ in range(400)])
    torch.manual_seed(0)
    assert torch.equal(draws[0], varlen_attention(*tensors, cut(CUDA), **options, dropout=0.25).float())
    assert not torch.equal(draws[0], draws[1])
    # The first row has one token and one probability: a head's output is dropped whole, or scaled up.
    share = (draws[:, 0, :, 0] == 0).double().mean().item()
    assert abs(share - 0.25) < 0.05
    error = (draws.mean(0) - still).abs() / (draws.std(0) / 400**0.5 + 0.01)
    assert error.max() < 6


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "gpt2", "llama", "gemma3"])
@on_gpu
def test_on_a_gpu_bf16_is_as_near_to_fp32_as_the_padded_forward_is(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = torch.ops.aten._flash_attention_forward
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", lambda *a, **k: (used.append(1), real(*a, **k))[1])
    built = build(family, tmp_path / "backbone")
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved", attention="sdpa").to(CUDA)
    built.model.to(CUDA)
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built, (*range(1, 40), 130, 200))
    types = random_types(built, rows)
    labels = (torch.arange(len(rows)) % 3).to(CUDA)
    inputs = {name: tensor.to(CUDA) for name, tensor in plain_inputs(built, rows, types).items()}
    exact_loss = functional.cross_entropy(plain(**inputs).logits, labels)
    exact = gradients(plain, exact_loss)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        padded_loss = functional.cross_entropy(plain(**inputs).logits.float(), labels)
    padded = gradients(plain, padded_loss)
    batch = lay_out(built, rows, (1,) * len(rows), types=types).to(CUDA)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = functional.cross_entropy(built.model(batch), labels)
    ours = gradients(built.hf, loss)
    assert len(used) == built.hf.config.num_hidden_layers
    assert abs(loss.item() - exact_loss.item()) < 2 * abs(padded_loss.item() - exact_loss.item()) + 0.01
    assert distance(ours, exact) < 2 * distance(padded, exact) + 0.005


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "llama"])
@on_gpu
def test_on_a_gpu_a_forward_and_backward_pass_waits_for_nothing(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    built.model.to(CUDA).train()
    rows = random_rows(built, range(1, 40))
    batch = lay_out(built, rows, (1,) * len(rows)).pinned()

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits_BC = built.model(batch.to(CUDA))
        logits_BC.sum().backward()

    step()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
