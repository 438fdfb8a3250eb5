"""Every compiled kernel against PyTorch's own operators; layers with dropout against their own difference
quotients."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.models import (
    LAYERS_LAST_NORMED,
    LEVELS,
    Built,
    build,
    gradients,
    kernels_of,
    lay_out,
    random_rows,
    require_kernels,
    without_dropout,
)
from kits.runs import threads
from torch.nn import functional

from textune.errors import ModelError
from textune.model.native.kernels import AttentionShape, FastDropout, Kernels, Norm
from textune.model.native.layers import FastLayer
from textune.model.recompute import checkpoint_gradients

TYPES = [torch.float32, torch.bfloat16]


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


def close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype = torch.float32) -> None:
    """To 1e-5 in fp32, to the spacing of bf16 numbers else."""
    tolerance = 1e-5 if dtype == torch.float32 else 1.6e-2
    torch.testing.assert_close(ours.float(), theirs.float(), atol=tolerance, rtol=tolerance)


# --- one kernel at a time --------------------------------------------------------------------------------------------


@pytest.mark.every_day(5)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 15, 16, 17, 48, 100])
@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (0, functional.gelu),
        (1, lambda x: functional.gelu(x, approximate="tanh")),
        (2, functional.relu),
    ],
)
def test_activation(kernels: Kernels, dtype: torch.dtype, width: int, kind: int, formula: Any) -> None:
    x, bias, grad = random(7, width, dtype=dtype) * 3, random(width, seed=1), random(7, width, dtype=dtype, seed=2)
    x[0, 0], x[1, 0] = 90.0, -90.0
    inputs, vector = x.float().requires_grad_(), bias.clone().requires_grad_()
    expected = formula(inputs + vector)
    expected.backward(grad.float())
    close(kernels.activation(x, bias, kind), expected, dtype)
    grad_x, grad_bias = kernels.activation_backward(x, bias, grad.clone(), kind)
    assert inputs.grad is not None and vector.grad is not None
    close(grad_x, inputs.grad, dtype)
    close(grad_bias, vector.grad)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 16, 40, 100])
@pytest.mark.parametrize("parts", [1, 2])
def test_norm_of_a_residual_sum(kernels: Kernels, dtype: torch.dtype, width: int, parts: int) -> None:
    x, residual = random(9, width, dtype=dtype), random(9, width, seed=1)
    bias, gamma, beta = (random(width, seed=seed).requires_grad_() for seed in (2, 3, 4))
    grad, grad_low = random(9, width, seed=5), random(9, width, dtype=dtype, seed=6)
    inputs, others = x.float().requires_grad_(), residual.clone().requires_grad_()
    expected = functional.layer_norm(others + inputs + bias, (width,), gamma, beta, 1e-5)
    expected.backward(grad + grad_low.float() if parts == 2 else grad)
    norm = Norm(bias.detach(), gamma.detach(), beta.detach(), 1e-5)
    y, low, mean, scale = kernels.norm(norm, x, residual)
    close(y, expected)
    close(low, expected, dtype)
    assert low.dtype == dtype
    ours = kernels.norm_backward(norm, x, residual, mean, scale, grad, grad_low if parts == 2 else None)
    for our, their, kind in zip(
        ours, (others, inputs, gamma, beta, bias), (torch.float32, dtype, *[torch.float32] * 3), strict=True
    ):
        assert their.grad is not None
        torch.testing.assert_close(our.float(), their.grad, atol=1e-4 if kind == torch.float32 else 2e-2, rtol=2e-2)


def test_column_sums(kernels: Kernels) -> None:
    for dtype in TYPES:
        x = random(33, 50, dtype=dtype)
        close(kernels.column_sums(x), x.float().sum(0))


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_keeps_the_share_and_the_mean(kernels: Kernels, probability: float) -> None:
    ones = torch.ones(1000, 300)
    dropped = kernels.dropout(ones, probability, seed=7)
    kept = dropped > 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.004)
    assert torch.allclose(dropped[kept], torch.tensor(1 / (1 - probability)))
    # Neighbours in a row, neighbours in a column, and the same place under another seed are independent.
    other = kernels.dropout(ones, probability, seed=8) > 0
    for one, two in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (kept, other)):
        assert (one & two).float().mean().item() == pytest.approx((1 - probability) ** 2, abs=0.006)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", LAYERS_LAST_NORMED)
def test_a_layer_under_dropout_has_the_gradient_of_what_it_computes(family: str, tmp_path: Path) -> None:
    """With fixed masks a whole model is a smooth function of each weight: its difference quotient is its gradient."""
    built = compiled(family, tmp_path)
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    built.model.train()

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return functional.cross_entropy(built.model(batch), torch.arange(len(batch.rows)) % 3)

    theirs = gradients(built.hf, loss())
    assert loss().item() == loss().item()
    torch.manual_seed(6)
    assert built.model(batch).sum().item() != pytest.approx(built.model(batch).sum().item(), rel=1e-6)
    step = 1e-2
    for name, parameter in built.hf.named_parameters():
        if theirs[name].norm() < 1e-3 or "relu" in str(built.hf.config.to_dict().get("hidden_act")):
            continue
        direction = theirs[name] / theirs[name].norm()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
                ends.append(loss().item())
                parameter.sub_(direction, alpha=sign * step)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(theirs[name].norm().item(), rel=0.03, abs=2e-4), name


# --- models ----------------------------------------------------------------------------------------------------------


def compiled(family: str, folder: Path, **keys: Any) -> Built:
    require_kernels()
    built = build(family, folder, section={"compile": "on"}, **keys)
    built.model.speed_up(torch.float32, training=True)
    return built


@pytest.mark.parametrize("family", LAYERS_LAST_NORMED)
def test_known_layers_run_whole_and_bf16_stays_near_fp32(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = compiled(family, tmp_path)
    calls = []
    whole = FastLayer.__call__

    def counted(self: FastLayer, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(self)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(FastLayer, "__call__", counted)
    without_dropout(built.model)
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    targets = torch.arange(len(batch.rows)) % 3
    exact = gradients(built.hf, functional.cross_entropy(built.model(batch), targets))
    assert len(calls) == built.hf.config.num_hidden_layers
    with torch.autocast("cpu", torch.bfloat16):
        logits = built.model(batch)
    low = gradients(built.hf, functional.cross_entropy(logits, targets))
    whole_norm = torch.stack([gradient.norm() for gradient in exact.values()]).norm()
    for name, gradient in exact.items():
        assert (low[name] - gradient).norm() < 0.05 * gradient.norm() + 0.01 * whole_norm, name


def test_of_the_last_layer_only_what_the_head_reads_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = compiled("bert", tmp_path)
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    rows = []
    norm = Kernels.norm

    def counted(self: Kernels, parameters: Norm, x_TH: torch.Tensor, residual_TH: torch.Tensor) -> Any:
        rows.append(len(x_TH))
        return norm(self, parameters, x_TH, residual_TH)

    monkeypatch.setattr(Kernels, "norm", counted)
    built.model(batch)
    assert rows == [len(batch.ids_T)] * 2 + [len(batch.rows)] * 2


def test_working_copies_follow_the_optimizer(tmp_path: Path) -> None:
    built = compiled("bert", tmp_path)
    kernels = built.model.accelerator.kernels
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    optimizer = torch.optim.AdamW(built.model.parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        built.model(batch).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            fast = built.model(batch)
            built.model.accelerator.kernels = None
            plain = built.model(batch)
            built.model.accelerator.kernels = kernels
        close(fast, plain)


def test_frozen_parts_get_no_gradient_and_the_rest_the_same(tmp_path: Path) -> None:
    built = compiled("bert", tmp_path)
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    expected = gradients(built.hf, built.model(batch).square().sum())
    frozen = {name for name, _ in built.hf.named_parameters() if "layer.0" in name or "embeddings" in name}
    for name, parameter in built.hf.named_parameters():
        parameter.requires_grad_(name not in frozen)
    built.model(batch).square().sum()
    ours = gradients(built.hf, built.model(batch).square().sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], torch.zeros_like(gradient) if name in frozen else gradient)


def test_a_saved_model_knows_nothing_of_kernels(tmp_path: Path) -> None:
    built = compiled("bert", tmp_path / "backbone")
    assert any(isinstance(module, FastDropout) for module in built.hf.modules())
    plain = build("bert", tmp_path / "backbone", section={"compile": "off"})
    assert built.hf.state_dict().keys() == plain.hf.state_dict().keys()
    for name, model in (("fast", built), ("plain", plain)):
        (tmp_path / name).mkdir()
        model.model.save(tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "fast" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


# --- whose layers ----------------------------------------------------------------------------------------------------


def test_off_and_padded_models_keep_pytorchs_own(tmp_path: Path) -> None:
    off = build("bert", tmp_path / "off", section={"compile": "off"})
    off.model.speed_up(torch.float32, training=True)
    assert off.model.accelerator.kernels is None and 'model.compile = "off"' in off.model.accelerator.note
    padded = build("xlnet", tmp_path / "padded")
    padded.model.speed_up(torch.float32, training=True)
    assert padded.model.accelerator.note == "PyTorch's own: they need the packed layout"
    forced = build("xlnet", tmp_path / "forced", section={"compile": "on"})
    with pytest.raises(
        ModelError,
        match=r'model.compile = "on", but there are no compiled kernels for this run: they need the packed layout',
    ):
        forced.model.speed_up(torch.float32, training=True)


def test_results_do_not_depend_on_chance(tmp_path: Path) -> None:
    """The same seed gives the same numbers, bit for bit, whatever threads do."""
    built = compiled("bert", tmp_path)
    built.model.train()
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))

    def once() -> list[np.ndarray]:
        torch.manual_seed(1)
        return [g.numpy() for g in gradients(built.hf, built.model(batch).square().sum()).values()]

    first = once()
    for _ in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(first, once(), strict=True))


def test_too_little_memory_is_an_error_and_not_the_end_of_the_process(kernels: Kernels) -> None:
    """Rows so long that their scratch memory cannot be had."""
    shape = AttentionShape(torch.tensor([0]), torch.tensor([2**44]), 1.0, first_only=True)
    with pytest.raises(MemoryError, match="no memory for the kernel attention_forward"):
        kernels.attention(shape, *[torch.zeros(1, 1, 16).expand(2**44, 1, 16) for _ in range(3)])


def test_copies_of_a_model_compute_the_same(tmp_path: Path) -> None:
    built = compiled("bert", tmp_path)
    batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
    twin = copy.deepcopy(built.model)
    with torch.no_grad():
        before = built.model(batch)
        close(twin(batch), before)
        # The copy has weights of its own: changing the model's leaves it alone.
        for parameter in built.model.parameters():
            parameter.mul_(0.5)
        close(twin(batch), before)
        assert not torch.allclose(built.model(batch), before)


def test_checkpointed_layers_are_left_alone(tmp_path: Path) -> None:
    require_kernels()
    built = build("bert", tmp_path, section={"compile": "on"})
    checkpoint_gradients(built.model)
    built.model.speed_up(torch.float32, training=True)
    assert "layers" not in built.model.accelerator.note


def test_softcaps_keep_their_groups(tmp_path: Path) -> None:
    built = compiled("gemma2", tmp_path)
    assert built.model.accelerator.note == f"compiled for {built.model.accelerator.way}: dropout"
    assert (
        built.model.group_cost(torch.float32)
        > 0
        == compiled("llama", tmp_path / "llama").model.group_cost(torch.float32)
    )
