"""Layers that normalise first, whole: their kernels against PyTorch's operators, the layers against plain
transformers.

That every family computes what the plain padded forward does is in test_twins.py; here are configurations that no
tiny backbone has by default, dropout, bf16, and what must be left alone.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.models import (
    LAYERS_FIRST_NORMED,
    LEVELS,
    UNEVEN,
    Built,
    build,
    gradients,
    kernels_of,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    require_kernels,
    without_dropout,
)
from kits.runs import threads
from torch import nn
from torch.nn import functional

from textune.model.native import between, prenorm
from textune.model.native.between import Addend, Norm, Rotation
from textune.model.native.kernels import Kernels
from textune.model.recompute import checkpoint_gradients

TYPES = [torch.float32, torch.bfloat16]
WIDTHS = [1, 15, 16, 40, 100]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The kernels share their rows out among threads."""
    with threads(2):
        yield


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Of every level that this machine has."""
    return kernels_of(request.param)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(ours: torch.Tensor | None, theirs: torch.Tensor | None, dtype: torch.dtype = torch.float32) -> None:
    """To 1e-5 in fp32, to the spacing of bf16 numbers else."""
    assert ours is not None and theirs is not None
    tolerance = 1e-5 if dtype == torch.float32 else 1.6e-2
    torch.testing.assert_close(ours.float(), theirs.float(), atol=tolerance, rtol=tolerance)


# --- one kernel at a time --------------------------------------------------------------------------------------------


def by_formula(norm: Norm, x: torch.Tensor) -> torch.Tensor:
    if norm.centred:
        return functional.layer_norm(x, x.shape[-1:], norm.gamma, norm.beta, norm.eps)
    return functional.rms_norm(x, x.shape[-1:], norm.gamma, norm.eps)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["centred", "centred with beta", "root mean square"])
def test_norms_of_the_residual_stream(kernels: Kernels, dtype: torch.dtype, width: int, kind: str) -> None:
    gamma, beta = random(width, seed=1).requires_grad_(), random(width, seed=2).requires_grad_()
    has_beta, centred = "beta" in kind, "centred" in kind
    norm = Norm(gamma, beta if has_beta else None, 1e-2, centred)
    ours = Norm(gamma.detach(), beta.detach() if has_beta else None, 1e-2, centred)
    residual, x, bias = (
        random(9, width, seed=3).requires_grad_(),
        random(9, width, dtype=dtype, seed=4).requires_grad_(),
        random(width, seed=5).requires_grad_(),
    )
    past, grad_y = random(9, width, seed=6), random(9, width, dtype=dtype, seed=7)
    # The norm alone: what it makes of the residual stream itself, whose gradient also comes past it.
    expected = by_formula(norm, residual)
    normed = between.normalize(kernels, ours, residual.detach(), dtype)
    close(normed.y_TH, expected, dtype)
    expected.backward(grad_y.float())
    found = between.sum_backward(kernels, past, norm=ours, normed=normed, grad_y_TH=grad_y, dtype=dtype)
    assert residual.grad is not None
    torch.testing.assert_close(found.residual_TH, residual.grad + past, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.gamma_H, gamma.grad, atol=1e-4, rtol=1e-4)
    assert found.x_TH is None and found.bias_H is None and (found.beta_H is None) != has_beta
    # After a sum.
    residual.grad = gamma.grad = beta.grad = None
    total = residual + x.float() + bias
    expected = by_formula(norm, total)
    addend = Addend(bias.detach())
    normed = between.add_and_normalize(kernels, ours, addend, x.detach(), residual.detach())
    close(normed.total_TH, total)
    close(normed.y_TH, expected, dtype)
    (expected * grad_y.float() + total * past).sum().backward()
    found = between.sum_backward(kernels, past, norm=ours, addend=addend, normed=normed, grad_y_TH=grad_y, dtype=dtype)
    pairs = [(found.residual_TH, residual.grad), (found.gamma_H, gamma.grad), (found.bias_H, bias.grad)]
    for one, other in [*pairs, (found.beta_H, beta.grad)][: 4 if has_beta else 3]:
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert found.x_TH is not None and x.grad is not None
    torch.testing.assert_close(found.x_TH, x.grad, atol=1e-4 if dtype == torch.float32 else 2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_sum_that_ends_a_layer_and_its_dropout(kernels: Kernels, dtype: torch.dtype) -> None:
    x, residual, bias = random(300, 50, dtype=dtype), random(300, 50, seed=1), random(50, seed=2)
    plain = between.add(kernels, Addend(bias), x, residual)
    close(plain, residual + x.float() + bias)
    close(between.add(kernels, Addend(None), x, residual), residual + x.float())
    addend = Addend(bias, dropout=0.25, seed=3)
    dropped = between.add(kernels, addend, x, residual)
    kept = dropped != residual
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    close(dropped, torch.where(kept, residual + (x.float() + bias) / 0.75, residual))
    grad = random(300, 50, seed=4)
    found = between.sum_backward(kernels, grad, addend=addend, dtype=dtype)
    assert found.residual_TH is grad
    close(found.x_TH, torch.where(kept, grad / 0.75, torch.zeros(())), dtype)
    torch.testing.assert_close(
        found.bias_H, torch.where(kept, grad / 0.75, torch.zeros(())).sum(0), atol=1e-4, rtol=1e-4
    )


@pytest.mark.every_day(5)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gelu", functional.gelu),
        ("gelu_pytorch_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("relu", functional.relu),
        ("silu", functional.silu),
    ],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_gates(kernels: Kernels, dtype: torch.dtype, width: int, name: str, formula: Any, has_bias: bool) -> None:
    x, grad = random(7, 2 * width, dtype=dtype) * 3, random(7, width, dtype=dtype, seed=2)
    bias = random(2 * width, seed=1) if has_bias else None
    x[0, 0], x[1, 0] = 90.0, -90.0
    inputs = x.float().requires_grad_()
    moved = inputs if bias is None else inputs + bias
    expected = formula(moved[:, :width]) * moved[:, width:]
    expected.backward(grad.float())
    kind = between.GATES[name]
    # The factor of the gate enlarges the rounding error of the activation.
    tolerance = 5e-5 if dtype == torch.float32 else 1.6e-2
    ours = between.gate(kernels, x, bias, kind, 0.0, 0)
    torch.testing.assert_close(ours.float(), expected, atol=tolerance, rtol=tolerance)
    grad_x, grad_bias = between.gate_backward(kernels, x, bias, grad, kind, 0.0, 0)
    torch.testing.assert_close(grad_x.float(), inputs.grad, atol=tolerance, rtol=tolerance)
    assert (grad_bias is not None) == has_bias
    if has_bias:
        assert inputs.grad is not None
        torch.testing.assert_close(grad_bias, inputs.grad.sum(0), atol=1e-4, rtol=1e-4)


def test_a_gate_drops_the_same_numbers_forward_and_backward(kernels: Kernels) -> None:
    x, ones = random(100, 200), torch.ones(100, 100)
    whole = between.gate(kernels, x, None, 0, 0.0, 0)
    dropped = between.gate(kernels, x, None, 0, 0.5, 9)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.02)
    close(dropped, torch.where(kept, 2 * whole, torch.zeros(())))
    grad, _ = between.gate_backward(kernels, x, None, ones, 0, 0.5, 9)
    expected, _ = between.gate_backward(kernels, x, None, 2.0 * kept, 0, 0.0, 0)
    close(grad, expected)


def rotated(x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return x * rotation.cosines_Td[:, None] + torch.cat((-right, left), -1) * rotation.sines_Td[:, None]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [2, 8, 24, 64, 80, 128])
@pytest.mark.parametrize("has_norm", [False, True])
def test_rotary_positions(kernels: Kernels, dtype: torch.dtype, width: int, has_norm: bool) -> None:
    """In a part of a larger tensor, as queries and keys lie."""
    rotation = Rotation(random(11, width, seed=1), random(11, width, seed=2))
    norm = Norm(random(width, seed=3), None, 1e-2, centred=False) if has_norm else None
    whole, grads = random(11, 7, width, dtype=dtype, seed=4), random(11, 7, width, dtype=dtype, seed=5)
    source, grad = whole[:, 1:6], grads[:, 1:6]
    inputs = source.float().requires_grad_()
    gamma = random(width, seed=3).requires_grad_()
    normed = functional.rms_norm(inputs, (width,), gamma, 1e-2) if has_norm else inputs
    expected = rotated(normed, rotation)
    expected.backward(grad.float())
    before = grads.clone()
    result = torch.empty_like(source) if has_norm else source
    raw = source.clone()
    between.rotate(kernels, rotation, source, result, norm)
    close(result, expected, dtype)
    grad_gamma = between.rotate_backward(kernels, rotation, raw, grad, norm)
    close(grad, inputs.grad, dtype if dtype == torch.bfloat16 or not has_norm else torch.bfloat16)
    assert torch.equal(grads[:, :1], before[:, :1]) and torch.equal(grads[:, 6:], before[:, 6:])
    if has_norm:
        torch.testing.assert_close(grad_gamma, gamma.grad, atol=1e-4, rtol=1e-4)


def test_other_types_than_the_kernels_know_are_refused(kernels: Kernels) -> None:
    """Half precision read as fp32 would run over the end of the memory."""
    x = torch.zeros(2, 8, dtype=torch.float16)
    with pytest.raises(ValueError, match="float32 and bfloat16"):
        between.add(kernels, Addend(None), x, torch.zeros(2, 8))


def test_odd_heads_are_refused(kernels: Kernels) -> None:
    rotation, heads = Rotation(random(3, 5), random(3, 5)), random(3, 1, 5)
    with pytest.raises(ValueError, match="the kernel rotary_forward refused its arguments"):
        between.rotate(kernels, rotation, heads, heads)


# --- models ----------------------------------------------------------------------------------------------------------


def fused(family: str, folder: Path, **keys: Any) -> Built:
    require_kernels()
    built = build(family, folder, section={"compile": "on"}, **keys)
    built.model.speed_up(torch.float32, training=True)
    assert f"{built.hf.config.num_hidden_layers} whole layers" in built.model.accelerator.note
    return built


VARIANTS = {
    "modernbert, first token": ("modernbert", {"classifier_pooling": "cls"}),
    "modernbert, mean": ("modernbert", {"classifier_pooling": "mean"}),
    "modernbert, all biases": ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True}),
    "modernbert, silu": ("modernbert", {"hidden_activation": "silu", "classifier_pooling": "mean"}),
    "eurobert, mean": ("eurobert", {"classifier_pooling": "mean"}),
    "gpt2, relu": ("gpt2", {"activation_function": "relu", "scale_attn_by_inverse_layer_idx": True}),
    "llama, biases, every head its own keys": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    ),
    "llama, one key head": ("llama", {"num_key_value_heads": 1}),
    "llama, sees both sides": ("llama", {"is_causal": False}),
    "qwen2, windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3, biases": ("qwen3", {"attention_bias": True}),
}


@pytest.mark.every_day(5)
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_are_those_of_plain_transformers(variant: str, tmp_path: Path) -> None:
    family, keys = VARIANTS[variant]
    built = fused(family, tmp_path / "backbone", **keys)
    with torch.no_grad():  # new norms and biases are ones and zeros, which hide mistakes
        for name, parameter in built.hf.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(random(*parameter.shape, seed=len(name)), alpha=0.1)
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved")
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    labels = torch.arange(len(rows)) % 3
    padded_loss = functional.cross_entropy(plain(**plain_inputs(built, rows)).logits, labels)
    theirs = gradients(plain, padded_loss)
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    loss = functional.cross_entropy(built.model(lay_out(built, rows, UNEVEN)), labels)
    assert loss.item() == pytest.approx(padded_loss.item(), rel=1e-5)
    ours = gradients(built.hf, loss)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7 * whole, name


@pytest.mark.parametrize("family", LAYERS_FIRST_NORMED)
def test_layers_run_whole_and_bf16_stays_near_fp32(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = fused(family, tmp_path)
    calls = []
    whole = prenorm.FastPrenormLayer.__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(self)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(prenorm.FastPrenormLayer, "__call__", counted)
    batch = lay_out(built, random_rows(built), UNEVEN)
    targets = torch.arange(len(batch.rows)) % 3
    exact = gradients(built.hf, functional.cross_entropy(built.model(batch), targets))
    assert len(calls) == built.hf.config.num_hidden_layers
    with torch.autocast("cpu", torch.bfloat16):
        logits = built.model(batch)
    low = gradients(built.hf, functional.cross_entropy(logits, targets))
    whole_norm = torch.stack([gradient.norm() for gradient in exact.values()]).norm()
    for name, gradient in exact.items():
        assert (low[name] - gradient).norm() < 0.06 * gradient.norm() + 0.01 * whole_norm, name


DROPOUTS = {
    "modernbert": {
        "attention_dropout": 0.2,
        "mlp_dropout": 0.2,
        "embedding_dropout": 0.1,
        "classifier_pooling": "mean",
    },
    "gpt2": {"attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.1},
    "llama": {"attention_dropout": 0.2},
    "qwen3": {"attention_dropout": 0.2},
}


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", DROPOUTS)
def test_a_layer_under_dropout_has_the_gradient_of_what_it_computes(family: str, tmp_path: Path) -> None:
    """With fixed masks a whole model is a smooth function of each weight: its difference quotient is its gradient."""
    built = fused(family, tmp_path, **DROPOUTS[family])
    batch = lay_out(built, random_rows(built), UNEVEN)
    built.model.train()

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return functional.cross_entropy(built.model(batch), torch.arange(len(batch.rows)) % 3)

    theirs = gradients(built.hf, loss())
    again = gradients(built.hf, loss())
    assert all(np.array_equal(theirs[name].numpy(), again[name].numpy()) for name in theirs)
    torch.manual_seed(6)
    assert built.model(batch).sum().item() != pytest.approx(built.model(batch).sum().item(), rel=1e-6)
    step = 1e-2
    for name, parameter in built.hf.named_parameters():
        if theirs[name].norm() < 1e-3:
            continue
        direction = theirs[name] / theirs[name].norm()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
                ends.append(loss().item())
                parameter.sub_(direction, alpha=sign * step)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(theirs[name].norm().item(), rel=0.03, abs=3e-4), name


@pytest.mark.parametrize(("pooling", "answers"), [("cls", 11), ("mean", 73)])
def test_of_the_last_layer_only_what_the_head_reads_is_computed(
    pooling: str, answers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = fused("modernbert", tmp_path, classifier_pooling=pooling)
    batch = lay_out(built, random_rows(built), (1,) * 11)
    rows = []
    add = between.add

    def counted(kernels: Kernels, addend: Addend, x_TH: torch.Tensor, residual_TH: torch.Tensor) -> torch.Tensor:
        rows.append(len(x_TH))
        return add(kernels, addend, x_TH, residual_TH)

    monkeypatch.setattr(between, "add", counted)
    built.model(batch)
    assert len(batch.ids_T) == 75
    assert rows == [75] * 3 + [answers if pooling == "cls" else 75]


@pytest.mark.parametrize("family", ["modernbert", "gpt2", "llama"])
def test_frozen_parts_get_no_gradient_and_the_rest_the_same(family: str, tmp_path: Path) -> None:
    built = fused(family, tmp_path)
    batch = lay_out(built, random_rows(built), UNEVEN)
    expected = gradients(built.hf, built.model(batch).square().sum())
    frozen = {name for name, _ in built.hf.named_parameters() if ".0." in name or "emb" in name or "norm" in name}
    assert 0 < len(frozen) < len(expected)
    for name, parameter in built.hf.named_parameters():
        parameter.requires_grad_(name not in frozen)
    ours = gradients(built.hf, built.model(batch).square().sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], torch.zeros_like(gradient) if name in frozen else gradient)


@pytest.mark.parametrize("family", ["modernbert", "gpt2", "qwen3"])
def test_working_copies_follow_the_optimizer(family: str, tmp_path: Path) -> None:
    built = fused(family, tmp_path)
    kernels = built.model.accelerator.kernels
    batch = lay_out(built, random_rows(built), UNEVEN)
    optimizer = torch.optim.AdamW(built.model.parameters(), lr=1e-2, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        built.model(batch).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            fast = built.model(batch)
            built.model.accelerator.kernels = None
            plain = built.model(batch)
            built.model.accelerator.kernels = kernels
        close(fast, plain)


@pytest.mark.parametrize("family", ["modernbert", "gpt2", "qwen3"])
def test_copies_of_a_model_compute_the_same(family: str, tmp_path: Path) -> None:
    built = fused(family, tmp_path)
    batch = lay_out(built, random_rows(built), UNEVEN)
    with torch.no_grad():
        before = built.model(batch)
        twins = [copy.deepcopy(built.model), pickle.loads(pickle.dumps(built.model))]
        for parameter in built.model.parameters():
            parameter.mul_(0.5)
        for twin in twins:  # with weights of its own
            close(twin(batch), before)
        assert not torch.allclose(built.model(batch), before)


class Adapted(nn.Linear):
    """Stands for a layer that an adapter or a quantiser has put in the place of another."""


def test_layers_that_are_not_quite_of_their_kind_are_left_alone(tmp_path: Path) -> None:
    require_kernels()
    checkpointed = build("llama", tmp_path / "checkpointed", section={"compile": "on"})
    checkpoint_gradients(checkpointed.model)
    changed = build("modernbert", tmp_path / "changed", section={"compile": "on"})
    changed.hf.model.layers[1].mlp.Wi.__class__ = Adapted
    odd = build("gpt2", tmp_path / "odd", section={"compile": "on"}, activation_function="tanh")
    for built, layers in ((checkpointed, None), (changed, 3), (odd, None)):
        built.model.speed_up(torch.float32, training=True)
        expected = "attention and dropout" if layers is None else f"attention, dropout and {layers} whole layers"
        assert f"{expected}; " in built.model.accelerator.note
