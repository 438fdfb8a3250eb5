"""The compiled AdamW beside PyTorch's: the same weights, the same state, and copies for the products that keep up with
it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.models import LEVELS, build, kernels_of, lay_out, random_rows, require_kernels
from kits.runs import threads

from textune.config.schema import TrainSection
from textune.config.updaterules import AdamW
from textune.model.device import Device
from textune.model.native.adamw import KernelAdamW
from textune.model.native.copies import WorkingCopy
from textune.model.native.kernels import Kernels
from textune.training.learner import learner_alone
from textune.training.updates import build_optimizer, update_weights

SHAPES = [(1,), (5, 3), (17,), (200, 100), (1, 16), (33_000,), (7, 1)]
"""Odd, of one number, and longer than a stretch of the kernel."""


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Of every level that this machine has."""
    return kernels_of(request.param)


def weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.1) for shape in SHAPES]


def groups(parameters: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": parameters[:4], "weight_decay": 0.1}, {"params": parameters[4:], "weight_decay": 0.0}]


def give_gradients(parameters: list[torch.nn.Parameter], step: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(step + 1)
    for index, parameter in enumerate(parameters):
        parameter.grad = torch.randn(parameter.shape, generator=generator) * size
        if index == 2 and step == 1:
            parameter.grad = None


def run(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], first: int, last: int) -> list[float]:
    """Norms of the gradients; the rate changes and one weight has no gradient in the second step."""
    norms = []
    for step in range(first, last):
        give_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + step % 3)
        norms.append(float(update_weights(optimizer, None, max_grad_norm=[0.0, 1.0, 1e6][step % 3])))
    return norms


def same(ours: list[torch.nn.Parameter], theirs: list[torch.nn.Parameter]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_weights_and_state_are_those_of_pytorch(kernels: Kernels) -> None:
    ours, theirs = weights(), weights()
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-7}
    fast, slow = (
        KernelAdamW(groups(ours), kernels, **options),
        torch.optim.AdamW(groups(theirs), fused=True, **options),
    )
    torch.testing.assert_close(run(fast, ours, 0, 7), run(slow, theirs, 0, 7), rtol=1e-5, atol=0)
    same(ours, theirs)
    mine, other = fast.state_dict(), slow.state_dict()
    assert mine["state"].keys() == other["state"].keys()
    for index, state in other["state"].items():
        assert state.keys() == mine["state"][index].keys()
        for name, tensor in state.items():
            torch.testing.assert_close(mine["state"][index][name], tensor, rtol=1e-6, atol=1e-6)


def test_either_goes_on_from_the_state_of_the_other(kernels: Kernels) -> None:
    start = weights()
    first = torch.optim.AdamW(groups(start), lr=1e-3, fused=True)
    run(first, start, 0, 3)
    state, results = first.state_dict(), []
    for kind in (lambda g: KernelAdamW(g, kernels, lr=1e-3), lambda g: torch.optim.AdamW(g, lr=1e-3, fused=True)):
        parameters = copy.deepcopy(start)
        optimizer = kind(groups(parameters))
        optimizer.load_state_dict(copy.deepcopy(state))
        run(optimizer, parameters, 3, 6)
        results.append(parameters)
    same(*results)


def test_threads_change_no_bit(kernels: Kernels) -> None:
    results = []
    for number in (1, 2, 3):
        parameters = weights()
        with threads(number):
            norms = run(KernelAdamW(groups(parameters), kernels, lr=1e-3), parameters, 0, 4)
        results.append((norms, parameters))
    for norms, parameters in results[1:]:
        assert norms == results[0][0]
        assert all(torch.equal(*pair) for pair in zip(parameters, results[0][1], strict=True))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(kernels: Kernels, wrong: float) -> None:
    parameters = weights()
    optimizer = KernelAdamW(groups(parameters), kernels, lr=1e-3)
    run(optimizer, parameters, 0, 2)
    before = copy.deepcopy((parameters, optimizer.state_dict()["state"]))
    give_gradients(parameters, 5)
    assert parameters[3].grad is not None
    parameters[3].grad[17, 3] = wrong
    assert not torch.isfinite(update_weights(optimizer, None, max_grad_norm=1.0))
    torch.testing.assert_close((parameters, optimizer.state_dict()["state"]), before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_are_written_with_the_weights(kernels: Kernels, dtype: torch.dtype) -> None:
    parameters = [torch.nn.Parameter(torch.randn(5, 7)), torch.nn.Parameter(torch.randn(3, 7))]
    held = WorkingCopy(*parameters)
    optimizer = KernelAdamW(parameters, kernels, lr=0.1)
    first = held.get(dtype, with_grad=True)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        assert held.get(dtype, with_grad=True).data_ptr() == first.data_ptr()  # nobody has made another
        assert torch.equal(first, torch.cat([p.detach() for p in parameters]).to(dtype))
    with torch.no_grad():
        parameters[0].zero_()
    assert torch.equal(held.get(dtype, with_grad=True), torch.cat([p.detach() for p in parameters]).to(dtype))


def test_two_copies_of_one_weight_both_keep_up(kernels: Kernels) -> None:
    """A model that was made fast twice may still have its first copies."""
    shared, other = torch.nn.Parameter(torch.randn(5, 7)), torch.nn.Parameter(torch.randn(3, 7))
    held = {
        WorkingCopy(shared): [shared],
        WorkingCopy(shared, other): [shared, other],
        WorkingCopy(other, shared): [other, shared],
    }
    optimizer = KernelAdamW([shared, other], kernels, lr=0.1)
    for _ in range(3):
        for each, parts in held.items():
            assert torch.equal(
                each.get(torch.bfloat16, with_grad=True), torch.cat([p.detach() for p in parts]).bfloat16()
            )
        shared.grad, other.grad = torch.randn(5, 7), torch.randn(3, 7)
        optimizer.step()


def test_a_step_without_gradients_changes_nothing(kernels: Kernels) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = KernelAdamW([weight], kernels, lr=0.1)
    assert float(update_weights(optimizer, None, max_grad_norm=1.0)) == 0.0
    assert torch.equal(weight.detach(), torch.ones(4))


def test_a_graph_older_than_the_step_is_refused(kernels: Kernels) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    held = WorkingCopy(weight)
    optimizer = KernelAdamW([weight], kernels, lr=0.1)
    x = torch.randn(4, 4, requires_grad=True)
    y = x @ held.get(torch.bfloat16, with_grad=True).float()
    z = x.bfloat16() @ held.get(torch.bfloat16, with_grad=True)
    weight.grad = torch.ones(4, 4)
    optimizer.step()
    y.sum().backward()  # holds a tensor of its own
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_copy_made_while_predicting_is_not_written(kernels: Kernels) -> None:
    """Inference mode makes tensors that count no changes."""
    weights = [torch.nn.Parameter(torch.randn(4, 4)) for _ in range(2)]
    held = WorkingCopy(*weights)
    optimizer = KernelAdamW(weights, kernels, lr=0.1)
    with torch.inference_mode():
        held.get(torch.float32, with_grad=False)
    for weight in weights:
        weight.grad = torch.ones(4, 4)
    optimizer.step()
    with torch.inference_mode():
        assert torch.equal(held.get(torch.float32, with_grad=False), torch.cat(weights))


def test_weights_that_share_memory_are_changed_one_after_another(kernels: Kernels) -> None:
    """By PyTorch's AdamW: threads of the kernel would write to the same place at once."""
    module = torch.nn.Module()
    module.first = torch.nn.Parameter(torch.randn(4, 4))
    module.none = torch.nn.Parameter(torch.empty(0))
    module.also_none = torch.nn.Parameter(torch.empty(0))
    assert isinstance(build_optimizer(module, AdamW(), kernels), KernelAdamW)
    module.tied = torch.nn.Parameter(module.first.detach()[:2])
    assert type(build_optimizer(module, AdamW(), kernels)) is torch.optim.AdamW


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_of_a_run_are_those_of_pytorchs_adamw(tmp_path: Path, dtype: torch.dtype) -> None:
    """Ten steps of two micro-batches of a tiny BERT, without dropout."""
    require_kernels()
    curves = []
    for fast in (True, False):
        built = build(
            "bert", tmp_path, section={"config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
        )
        built.model.speed_up(dtype, training=True)
        if fast:
            section = TrainSection(optimizer=AdamW(lr=1e-3))
            learner = learner_alone(built.model, section, Device(torch.device("cpu"), "fp32"))
            optimizer = learner.update.optimizer
            assert isinstance(optimizer, KernelAdamW)
        else:
            optimizer = torch.optim.AdamW(groups_of(built.model), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
        batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            for _ in range(2):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                    loss = built.model(batch).square().mean()
                loss.backward()
            update_weights(optimizer, None, max_grad_norm=1.0)
            losses.append(float(loss.detach()))
        curves.append(losses)
    assert curves[0][-1] < 0.9 * curves[0][0]
    tolerance = (1e-4 if dtype == torch.float32 else 1e-2) * curves[1][0]
    torch.testing.assert_close(curves[0], curves[1], rtol=0, atol=tolerance)


def groups_of(model: torch.nn.Module) -> list[dict[str, Any]]:
    """As `build_optimizer` makes them."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": AdamW().weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
