"""Muon for the matrices of adapters and AdamW for the rest, in one optimizer: beside PyTorch's own two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.models import build, lay_out, random_rows

from textune.config.adapters import Lora
from textune.config.load import load_config, require_runnable
from textune.config.schema import TrainSection
from textune.config.updaterules import ConstantSchedule, Muon
from textune.errors import ConfigError, ModelError
from textune.model.adapters import is_adapter
from textune.model.device import Device
from textune.ranks import ALONE
from textune.training.learner import learner_alone
from textune.training.rules import cutting_obstacle, state_bytes
from textune.training.sharing.fsdp import require
from textune.training.updates import build_optimizer, set_learning_rate, update_weights

CPU = Device(torch.device("cpu"), "fp32")
MUON = Muon(lr=1e-2, weight_decay=0.1, momentum=0.9, beta1=0.8, eps=1e-6)


def adapted(folder: Path, **keys: Any) -> Any:
    built = build("bert", folder)
    built.model.adapt(Lora(r=4, bias="all", **keys), seed=1)
    built.model.freeze()
    return built


def steps(model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], num_steps: int) -> None:
    """Equal gradients for every optimizer, under a rate that rises from zero."""
    generator = torch.Generator().manual_seed(3)
    for number in range(num_steps):
        for _, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in optimizers:
            set_learning_rate(optimizer, MUON.lr * min(1.0, number / 5))
            optimizer.step()


def trained(built: Any) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in built.model.named_parameters() if p.requires_grad}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_fifty_steps_are_those_of_the_two_optimizers_of_pytorch(tmp_path: Path, options: dict[str, Any]) -> None:
    """To the last bit; the magnitudes of DoRA, which are vectors, are AdamW's."""
    ours, theirs = adapted(tmp_path / "ours", options=options), adapted(tmp_path / "theirs", options=options)
    before = {name: p.detach().clone() for name, p in trained(ours).items()}
    steps(ours.model, [build_optimizer(ours.model, MUON)], 50)

    parameters = trained(theirs)
    matrices = [p for name, p in parameters.items() if is_adapter(name) and p.ndim == 2]
    others = {name: p for name, p in parameters.items() if not any(p is one for one in matrices)}
    assert len(matrices) == 2 * 13 and any(p.ndim == 2 for p in others.values())
    decayed = [{"params": [p], "weight_decay": 0.1 if p.ndim == 2 else 0.0} for p in others.values()]
    muon = torch.optim.Muon(
        matrices, lr=MUON.lr, weight_decay=0.1, momentum=0.9, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(decayed, lr=MUON.lr, betas=(0.8, 0.999), eps=1e-6, fused=True)
    steps(theirs.model, [muon, adamw], 50)
    for name, parameter in trained(ours).items():
        assert torch.equal(parameter, parameters[name]), name
        assert not torch.equal(parameter, before[name]), name


def test_an_update_is_as_large_as_one_of_adamw(tmp_path: Path) -> None:
    """Root mean square of about 0.2 times the rate, whatever the shape and the gradient: one rate serves both."""
    built = adapted(tmp_path)
    before = {name: p.detach().clone() for name, p in trained(built).items()}
    optimizer = build_optimizer(built.model, Muon(lr=1e-2, weight_decay=0))
    for parameter in trained(built).values():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 100
    optimizer.step()
    for name, parameter in trained(built).items():
        if is_adapter(name):
            change = (parameter - before[name]).square().mean().sqrt().item()
            assert 0.1 * 1e-2 < change < 0.4 * 1e-2, name


def test_a_run_that_goes_on_from_its_state_ends_with_the_same_bits(tmp_path: Path) -> None:
    section = TrainSection(optimizer=MUON, schedule=ConstantSchedule())

    def learner() -> Any:
        return learner_alone(adapted(tmp_path / "bert").model.eval(), section, CPU)

    def step(one: Any, number: int) -> None:
        built = build("bert", tmp_path / "bert")
        rows = random_rows(built, seed=number)
        one.model(lay_out(built, rows)).square().mean().backward()
        one.step()
        one.zero_grad()

    whole, first = learner(), learner()
    for number in range(6):
        step(whole, number)
    for number in range(3):
        step(first, number)
    saved, numbers = {name: tensor.clone() for name, tensor in first.tensors()}, first.numbers()
    assert {name.rpartition("/")[2] for name in saved if name.startswith("optimizer/")} == {
        "momentum_buffer",
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    again = learner()
    again.restore(set(saved), saved.__getitem__, numbers)
    for number in range(3, 6):
        step(again, number)
    ends = dict(again.tensors())
    for name, tensor in whole.tensors():
        assert torch.equal(tensor, ends[name]), name


def test_a_step_whose_gradient_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    built = adapted(tmp_path)
    optimizer = build_optimizer(built.model, MUON)
    before = {name: p.detach().clone() for name, p in trained(built).items()}
    for parameter in trained(built).values():
        parameter.grad = torch.full_like(parameter, float("inf"))
    assert not torch.isfinite(update_weights(optimizer, None, max_grad_norm=1.0))
    assert all(torch.equal(p, before[name]) for name, p in trained(built).items())


def test_the_state_takes_the_bytes_that_are_reckoned_with(tmp_path: Path) -> None:
    built = adapted(tmp_path)
    optimizer = build_optimizer(built.model, MUON)
    steps(built.model, [optimizer], 1)
    held = sum(t.nbytes for state in optimizer.state.values() for key, t in state.items() if key != "step")
    assert held == state_bytes(MUON, trained(built))
    matrices = {name: p for name, p in trained(built).items() if is_adapter(name)}
    assert state_bytes(MUON, matrices) == 4 * sum(p.numel() for p in matrices.values())


def test_rates_by_layer_hold_for_both(tmp_path: Path) -> None:
    built = adapted(tmp_path)
    optimizer = build_optimizer(built.model, Muon(lr=1e-3, layer_decay=0.5, head_lr=1e-2))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in trained(built).items():
        if ".layer.0." in name:
            assert rates[id(parameter)] == pytest.approx(0.25e-3), name
        elif "classifier" in name:
            assert rates[id(parameter)] == pytest.approx(1e-2), name


def test_without_adapters_it_is_refused_and_so_are_slices_of_weights() -> None:
    tree = {"model": {"pretrained": "x"}, "data": {"train": {"files": ["a.csv"]}}}
    kind = "train.optimizer.kind=muon"
    with refused(ConfigError, key="train.optimizer.kind", value="muon"):
        require_runnable(load_config(tree, [kind]).experiment)
    require_runnable(load_config(tree, [kind, "model.lora.r=4"]).experiment)
    python = ["model.kind=python", "model.object=a.b:C", "model.tokenizer=t"]
    with refused(ConfigError, key="train.optimizer.kind", value="muon"):
        require_runnable(load_config({"data": tree["data"]}, [kind, *python]).experiment)
    assert cutting_obstacle(MUON)
    sharded = TrainSection(optimizer=MUON, distributed={"kind": "fsdp"})  # type: ignore[arg-type]
    with refused(ModelError, key="train.optimizer.kind", value="muon", reason="orthogonal"):
        require(sharded, CPU, ALONE, None)
