"""An optimizer by the name of its class: the numbers of PyTorch's own, an exact resume, and what is refused."""

import json
from typing import Any

import pytest
import torch
from kits.errors import refused

from textune.config.schema import TrainSection
from textune.config.sharing import DeepSpeed
from textune.config.updaterules import AdamW, PythonOptimizer
from textune.errors import CodeError, ConfigError, ModelError
from textune.model.device import Device
from textune.ranks import ALONE
from textune.training.rules import require_optimizer
from textune.training.sharing.fsdp import require
from textune.training.sharing.zero.plan import plan_zero
from textune.training.state import OPTIMIZER
from textune.training.updates import OwnUpdate, TorchUpdate, build_optimizer, build_update

CPU = Device(torch.device("cpu"), "fp32")
OWN = "kits.ownoptimizers:"


class Weights(torch.nn.Module):
    """A matrix, which is decayed, and a vector, which is not."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
        self.vector = torch.nn.Parameter(torch.randn(9, generator=generator))


def own(name: str, **keys: Any) -> TrainSection:
    return TrainSection(optimizer=PythonOptimizer(object=name, **keys))


def train(model: torch.nn.Module, update: TorchUpdate, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        update.set_learning_rate(0.1 / (step + 1))
        update.step()


def test_a_class_of_pytorch_by_name_is_the_same_class() -> None:
    ours, theirs = Weights(), Weights()
    update = build_update(ours, own("torch.optim:AdamW", lr=0.1, weight_decay=0.3, options={"eps": 1e-3}), CPU)
    by_kind = build_update(theirs, TrainSection(optimizer=AdamW(lr=0.1, weight_decay=0.3, eps=1e-3)), CPU)
    assert [group["weight_decay"] for group in update.optimizer.param_groups] == [0.3, 0.0]
    train(ours, update, range(10))
    train(theirs, by_kind, range(10))
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, theirs.get_parameter(name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (f"{OWN}Averaged", {"least": 0.05}),
        ("torch.optim:RMSprop", {"momentum": 0.5, "centered": True}),
        ("torch.optim:Adagrad", {"initial_accumulator_value": 0.1}),
        ("torch.optim:NAdam", {}),
        ("torch.optim:Adam", {"amsgrad": True}),
        ("torch.optim:ASGD", {}),
        ("torch.optim:Rprop", {}),
    ],
)
def test_a_resume_is_exact_to_the_last_bit(name: str, options: dict[str, Any]) -> None:
    """The numbers go through JSON, as in a checkpoint, and each tensor keeps its type."""
    decay = {} if name.endswith("Rprop") else {"weight_decay": 0.1}
    section = own(name, lr=0.1, options=options, **decay)
    whole, first, second = Weights(), Weights(), Weights()
    update = build_update(whole, section, CPU)
    train(whole, update, range(9))
    before = build_update(first, section, CPU)
    train(first, before, range(4))
    tensors = {OPTIMIZER + key: value.clone() for key, value in before.tensors()}
    numbers = json.loads(json.dumps(before.numbers(), allow_nan=False))
    second.load_state_dict(first.state_dict())
    after = build_update(second, section, CPU)
    assert isinstance(after, OwnUpdate)
    after.restore(set(tensors), lambda key: tensors[key].clone(), numbers, lambda tensor, like: tensor)
    for key, value in after.tensors():
        assert value.dtype == tensors[OPTIMIZER + key].dtype and torch.equal(value, tensors[OPTIMIZER + key]), key
    train(second, after, range(4, 9))
    for key, weight in whole.named_parameters():
        assert torch.equal(weight, second.get_parameter(key)), key
    assert after.numbers() == update.numbers()


@pytest.mark.parametrize("what", ["list", "infinite", "complex", "group", "global"])
def test_a_state_that_no_checkpoint_holds_is_refused(what: str) -> None:
    model = Weights()
    update = build_update(model, own(f"{OWN}Unkept", options={"what": what}), CPU)
    train(model, update, range(1))
    with refused(CodeError, key="train.optimizer.object"):
        list(update.tensors())
        update.numbers()


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        (f"{OWN}NoOptimizer", {}, "is not a torch.optim.Optimizer"),
        (f"{OWN}Averagd", {}, "Did you mean 'Averaged'?"),
        ("no_such_module:Name", {}, "cannot be imported"),
        ("torch.optim:LBFGS", {}, "LBFGS.step needs closure"),
        (f"{OWN}Averaged", {"options": {"leest": 1}}, "does not take"),
        (f"{OWN}Averaged", {"options": {"lr": 1}}, "lr"),
        (f"{OWN}Averaged", {"options": {"weight_decay": 1}}, "train.optimizer.weight_decay says it"),
        (f"{OWN}WithoutDecay", {"weight_decay": 0.1}, "it has no weight_decay"),
        (f"{OWN}WithoutRate", {}, "it has no rate lr"),
    ],
)
def test_what_is_no_such_class_is_refused(name: str, keys: dict[str, Any], said: str) -> None:
    section = PythonOptimizer(object=name, **keys)
    with pytest.raises(CodeError) as caught:
        require_optimizer(section)
        build_optimizer(Weights(), section)
    assert said in f"{caught.value} {caught.value.hint}"


def test_a_step_that_fails_is_named_with_its_line() -> None:
    model = Weights()
    with pytest.raises(CodeError, match=r"in a step.*no step today|no step today"):
        train(model, build_update(model, own(f"{OWN}Failing"), CPU), range(1))


def test_it_is_refused_where_weights_or_states_are_cut() -> None:
    section = PythonOptimizer(object="torch.optim:RMSprop")
    fsdp = TrainSection(optimizer=section, distributed={"kind": "fsdp"})  # type: ignore[arg-type]
    with refused(ModelError, key="train.optimizer.kind", value="python", reason="may need whole weights"):
        require(fsdp, CPU, ALONE, None)
    with refused(ConfigError, key="train.optimizer.kind", value="python"):
        plan_zero(TrainSection(optimizer=section, distributed=DeepSpeed()), world=2, precision="fp32", num_trained=1)
