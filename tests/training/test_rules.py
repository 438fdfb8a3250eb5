"""Every update rule beside the library's own, or its paper written out, after 50 steps on equal gradients; what is
known of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lion_pytorch
import pytest
import schedulefree
import torch
import transformers
from kits.errors import refused
from kits.models import build, lay_out, random_rows

from textune.config.load import load_config, require_runnable
from textune.config.schema import TrainSection
from textune.config.sharing import DeepSpeed
from textune.config.updaterules import (
    Adafactor,
    AdamW,
    AdamW8bit,
    ConstantSchedule,
    Lion,
    Muon,
    PythonOptimizer,
    ScheduleFree,
    Sgd,
)
from textune.errors import ConfigError, ModelError
from textune.model.device import Device
from textune.ranks import ALONE
from textune.training.learner import learner_alone
from textune.training.rules import UPDATE_RULES, cutting_obstacle, state_bytes
from textune.training.schedule import SCHEDULES
from textune.training.sharing.fsdp import require
from textune.training.sharing.zero.plan import plan_zero
from textune.training.updates import build_optimizer, build_update, set_learning_rate

CPU = Device(torch.device("cpu"), "fp32")
SECTIONS = (
    AdamW(lr=1e-2, weight_decay=0.1),
    Adafactor(lr=1e-2, weight_decay=0.1),
    Adafactor(lr=1e-2, beta1=0.9, decay_rate=-0.7, clip_threshold=0.5, scale_parameter=True, eps1=1e-20, eps2=1e-2),
    Sgd(lr=1e-1, weight_decay=0.1),
    Sgd(lr=1e-1, momentum=0.8, nesterov=True),
    Sgd(lr=1e-1, momentum=0),
    Lion(lr=1e-2, beta1=0.85, beta2=0.95),
    ScheduleFree(lr=1e-2, weight_decay=0.1),
    ScheduleFree(lr=1e-2, beta1=0.8, beta2=0.95, eps=1e-4),
)


class Weights(torch.nn.Module):
    """A matrix, which is decayed, and a vector, which is not; with a weight that never has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
        self.vector = torch.nn.Parameter(torch.randn(9, generator=generator))
        self.idle = torch.nn.Parameter(torch.ones(3, 3))


def gradients(steps: int = 50) -> Iterator[tuple[float, dict[str, torch.Tensor]]]:
    """A rate that rises for five steps from 0, as a warm-up does, and gradients of many sizes."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        scale = 10.0 ** float(torch.randint(-3, 2, (), generator=generator))
        yield (
            min(1.0, step / 5),
            {
                "matrix": torch.randn(7, 5, generator=generator) * scale,
                "vector": torch.randn(9, generator=generator) * scale,
            },
        )


def ours(section: Any) -> dict[str, torch.Tensor]:
    """float32 weights after 50 steps, as they are published."""
    model = Weights()
    update = build_update(model, TrainSection(optimizer=section, schedule=ConstantSchedule()), CPU)
    for share, step in gradients():
        set_learning_rate(update.optimizer, section.lr * share)
        for name, gradient in step.items():
            getattr(model, name).grad = gradient.clone()
        update.optimizer.step()
    with update.published():
        return {name: p.detach().clone() for name, p in model.named_parameters()}


def of_library(made: Any, section: Any, *, publish: bool = False) -> dict[str, torch.Tensor]:
    """The same by an optimizer of a library, made of hand-made groups."""
    model = Weights()
    groups = [
        {"params": [model.matrix, model.idle], "weight_decay": section.weight_decay},
        {"params": [model.vector], "weight_decay": 0.0},
    ]
    optimizer = made(groups)
    if publish:
        optimizer.train()
    for share, step in gradients():
        for group in optimizer.param_groups:
            group["lr"] = section.lr * share
        for name, gradient in step.items():
            getattr(model, name).grad = gradient.clone()
        optimizer.step()
    if publish:
        optimizer.eval()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def reference(section: Any) -> dict[str, torch.Tensor]:
    match section:
        case AdamW():
            betas = (section.beta1, section.beta2)
            return of_library(lambda g: torch.optim.AdamW(g, betas=betas, eps=section.eps, foreach=False), section)
        case Adafactor():
            keys = {"eps": (section.eps1, section.eps2), "clip_threshold": section.clip_threshold}
            keys |= {"decay_rate": section.decay_rate, "beta1": section.beta1}
            keys |= {"scale_parameter": section.scale_parameter, "relative_step": False, "lr": section.lr}
            return of_library(lambda g: transformers.Adafactor(g, **keys), section)
        case Sgd():
            keys = {"momentum": section.momentum, "nesterov": section.nesterov, "foreach": False}
            return of_library(lambda g: torch.optim.SGD(g, lr=section.lr, **keys), section)
        case Lion():
            return {name: by_hand(name, section, _lion) for name in ("matrix", "vector", "idle")}
        case ScheduleFree():
            return {name: by_hand(name, section, _schedule_free) for name in ("matrix", "vector", "idle")}
    raise AssertionError(section)


def by_hand(name: str, section: Any, rule: Any) -> torch.Tensor:
    """In float64, number by number as the paper has it."""
    start = getattr(Weights(), name).detach().double()
    decay = section.weight_decay if start.ndim > 1 else 0.0
    steps = [(section.lr * share, step[name].double()) for share, step in gradients() if name in step]
    return rule(start, steps, section, decay).float() if steps else start.float()


def _lion(w: torch.Tensor, steps: Any, section: Lion, decay: float) -> torch.Tensor:
    m = torch.zeros_like(w)
    for lr, g in steps:
        c = section.beta1 * m + (1 - section.beta1) * g
        w = w - lr * (torch.sign(c) + decay * w)
        m = section.beta2 * m + (1 - section.beta2) * g
    return w


def _schedule_free(start: torch.Tensor, steps: Any, section: ScheduleFree, decay: float) -> torch.Tensor:
    """The three sequences of algorithm 1: gradients at y, steps of z, the mean x."""
    x, z, v, total = start, start, torch.zeros_like(start), 0.0
    for number, (lr, g) in enumerate(steps, start=1):
        y = (1 - section.beta1) * z + section.beta1 * x
        v = section.beta2 * v + (1 - section.beta2) * g * g
        root = (v / (1 - section.beta2**number)).sqrt() + section.eps
        z = z - lr * g / root - lr * decay * y
        total += lr**2
        share = lr**2 / total if total else 0.0
        x = (1 - share) * x + share * z
    return x


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section.kind} {section.lr:g}")
@pytest.mark.parity("AZ-10")
def test_fifty_steps_are_those_of_the_library_or_the_paper(section: Any) -> None:
    """Equal to the last bit where the library computes; within 5e-6 of PyTorch's AdamW and SGD one by one, and of a
    paper in float64, in which Lion's weights take steps of 0.01."""
    found, wanted = ours(section), reference(section)
    for name, weight in wanted.items():
        exact = isinstance(section, Adafactor)
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0 if exact else 5e-6, msg=name)
    moved = (found["matrix"] - Weights().matrix.detach()).abs().min()
    assert moved > 1e-4 and torch.equal(found["idle"], torch.ones(3, 3))


def test_lion_is_that_of_its_package() -> None:
    section = Lion(lr=1e-2)
    theirs = of_library(lambda g: lion_pytorch.Lion(g, lr=section.lr, betas=(section.beta1, section.beta2)), section)
    for name, weight in ours(section).items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-6)


def test_schedule_free_is_that_of_its_package() -> None:
    section = ScheduleFree(lr=1e-2, weight_decay=0.1)
    theirs = of_library(lambda g: schedulefree.AdamWScheduleFree(g, lr=section.lr), section, publish=True)
    for name, weight in ours(section).items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=2e-6)


def test_every_kind_is_compared_and_has_its_rule() -> None:
    """AdamW of 8 bits in `test_optim.py`, Muon in `test_muon.py`, a class of one's own in `test_ownoptimizer.py`."""
    assert set(UPDATE_RULES) == {section.kind for section in SECTIONS} | {AdamW8bit().kind, Muon().kind, "python"}


def test_publishing_comes_and_goes_without_a_trace(tmp_path: Path) -> None:
    """What is evaluated differs from what is trained, and training never notices: weights and state to the last
    bit."""
    trained = {}
    for often in (False, True):
        built = build("bert", tmp_path)
        section = TrainSection(optimizer=ScheduleFree(lr=1e-2), schedule=ConstantSchedule())
        learner = learner_alone(built.model, section, CPU)
        batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
        learner.model.eval()  # no dropout
        for step in range(6):
            learner.model(batch).square().mean().backward()
            learner.step()
            learner.zero_grad()
            within = dict(learner.tensors())
            if often:
                before = {name: p.detach().clone() for name, p in built.hf.named_parameters()}
                with learner.published(), learner.published():  # once is enough
                    shown = {name: p.detach().clone() for name, p in built.hf.named_parameters()}
                # After one step the mean is that step.
                assert any(not torch.equal(shown[name], before[name]) for name in before) is (step > 0)
                for name, p in built.hf.named_parameters():
                    assert torch.equal(p, before[name]), name
                    y = within.get(f"optimizer/hf.{name}/y")
                    assert y is None or y.shape == p.shape
        trained[often] = {name: tensor.clone() for name, tensor in learner.tensors()}
        assert "y" not in next(iter(learner.update.optimizer.state.values()))
    assert trained[True].keys() == trained[False].keys()
    assert all(torch.equal(tensor, trained[False][name]) for name, tensor in trained[True].items())


def test_the_state_takes_the_bytes_that_are_reckoned_with(tmp_path: Path) -> None:
    for section in (*SECTIONS, AdamW()):
        built = build("bert", tmp_path)
        learner = learner_alone(built.model, TrainSection(optimizer=section, schedule=ConstantSchedule()), CPU)
        for parameter in built.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        learner.step()
        held = sum(t.numel() * t.element_size() for name, t in learner.tensors() if name.startswith("optimizer/"))
        reckoned = state_bytes(section, dict(built.model.named_parameters()))
        rows_and_columns = 4 * sum(sum(p.shape[:2]) + 2 for p in built.model.parameters())
        assert reckoned <= held <= reckoned + rows_and_columns, section


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section.kind} {section.lr:g}")
def test_what_cannot_be_cut_is_refused_by_name(section: Any) -> None:
    whole = bool(cutting_obstacle(section))
    assert whole == isinstance(section, Adafactor)
    train = TrainSection(optimizer=section, distributed={"kind": "fsdp"})  # type: ignore[arg-type]
    if whole:
        with refused(ModelError, key="train.optimizer.kind", value=section.kind, reason="scales a number by its row"):
            require(train, CPU, ALONE, None)
    else:
        require(train, CPU, ALONE, None)
    zero = TrainSection(optimizer=section, distributed=DeepSpeed())
    if UPDATE_RULES[section.kind].moments:
        plan_zero(zero, world=2, precision="fp32", num_trained=1)
    else:
        with refused(ConfigError, key="train.optimizer.kind", value=section.kind):
            plan_zero(zero, world=2, precision="fp32", num_trained=1)


def test_the_page_says_what_the_table_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "update-rules.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)`(?: \(default\))? \| ([^|]+) \| ([^|]+) \| (\d+)[^|]*\| (exact|full table) \| (.+) \|$",
        page,
        re.M,
    )
    sections = {
        section.kind: section
        for section in (
            *(Adafactor(), AdamW(), AdamW8bit(), Lion(), Muon(), ScheduleFree(), Sgd()),
            PythonOptimizer(object="torch.optim:RMSprop"),
        )
    }
    assert {kind for kind, *_ in rows} == set(UPDATE_RULES)
    for kind, rate, of_adapters, size, vocabulary, sharing in rows:
        rule = UPDATE_RULES[kind]
        assert (rate, of_adapters) == (str(rule.peak or "none"), str(rule.adapter_peak or "none")), kind
        for peak in (rule.peak, rule.adapter_peak):
            assert peak is None or float(peak.lowest) < float(peak.highest) <= peak.limit, kind
        peak = rule.peak or rule.adapter_peak
        assert (peak is None) is rule.is_own, kind
        assert peak is None or float(peak.lowest) <= sections[kind].lr <= float(peak.highest), kind
        assert rule.state_bytes(sections[kind]) == int(size), kind
        assert vocabulary == ("full table" if rule.whole else "exact"), kind
        ways = ["ddp", *["fsdp"] * (not rule.whole), *["deepspeed"] * bool(rule.moments)]
        assert sharing == ", ".join(ways), kind
    assert set(re.findall(r"`(\w+)`", page.partition("## Schedules")[2].partition("##")[0])) >= set(SCHEDULES)


def test_what_cannot_go_together_is_refused() -> None:
    tree = {"model": {"pretrained": "x"}, "data": {"train": {"files": ["a.csv"]}}}

    def ask(*words: str) -> None:
        require_runnable(load_config(tree, words).experiment)

    free = "train.optimizer.kind=schedule_free"
    with refused(ConfigError, key="train.schedule.kind", value="linear"):
        ask(free)
    ask(free, "train.schedule.kind=constant", "train.schedule.warmup=6 %")
    ask(free, "train.schedule.kind=constant_with_warmup")
    with refused(ConfigError, key="train.optimizer.nesterov", value=True):
        ask("train.optimizer.kind=sgd", "train.optimizer.nesterov=true", "train.optimizer.momentum=0")
    with refused(ConfigError, key="task.gamma", value=3.0):
        ask("task.kind=multiclass", "task.gamma=3")
    ask("task.kind=multiclass", "task.loss=focal", "task.gamma=3")
    with pytest.raises(ConfigError, match="beta2 belongs to kind"):
        ask("train.optimizer.kind=adafactor", "train.optimizer.beta2=0.9")


def test_only_what_has_a_gradient_is_changed() -> None:
    for section in SECTIONS:
        optimizer = build_optimizer(Weights(), section)
        optimizer.step()
        assert not optimizer.state or all(not state for state in optimizer.state.values()), section


@pytest.mark.parametrize(("kind", "key"), [("polynomial", "power"), ("cosine_with_restarts", "num_cycles")])
def test_a_schedule_without_its_key_is_told_what_to_write(kind: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, [f"train.schedule.kind={kind}"])
    assert caught.value.key == f"train.schedule.{key}"
    written = re.findall(r"train\.schedule\.\w+ = \d+(?:\.\d+)?", caught.value.hint)
    load_config({}, [f"train.schedule.kind={kind}", written[0].replace(" ", "")])
