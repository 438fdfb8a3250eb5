"""From gradients to weights: the optimizer, clipping and the loss scale of fp16; below `learner.py`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Protocol

import torch

from textune.config import Optimizer, TrainSection
from textune.errors import CodeError
from textune.model import Device, KernelAdamW, Kernels
from textune.owncode import OwnObject, article
from textune.training.optimizers import ScheduleFreeAdamW
from textune.training.ownoptimizer import KEY
from textune.training.rates import rate_factors
from textune.training.rules import Group, require_optimizer, rule_of
from textune.training.state import OPTIMIZER, Numbers, Placed, Read, trained_in
from textune.training.tensorfile import TYPES

_OF_TEXTUNE = ("params", "lr", "weight_decay", "factor", "adapters")
"""What a group of parameters has from the configuration, whatever was saved."""


class Rule(Protocol):
    """How gradients are clipped and applied: `update_weights`, or FSDP's own."""

    def __call__(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, *, max_grad_norm: float
    ) -> torch.Tensor:
        """Change the weights; returns the gradients' norm before clipping, float32 []. A `max_grad_norm` of 0 clips
        nothing."""


class TorchUpdate:
    """An optimizer of PyTorch's over what this rank holds of the weights, with clipping and, in fp16, a loss scale."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        trained: dict[str, torch.nn.Parameter],
        *,
        scaler: torch.amp.GradScaler | None,
        max_grad_norm: float,
        rule: Rule,
    ) -> None:
        """`trained` are the optimizer's parameters by name; the other arguments are those of `Rule`."""
        self.optimizer = optimizer
        self.scaler = scaler
        self._trained = trained
        self._max_grad_norm = max_grad_norm
        self._rule = rule

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, times the loss scale, to that of the step."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self) -> torch.Tensor:
        """Clip the gradients and change the weights; returns the gradients' norm before, float32 []."""
        return self._rule(self.optimizer, self.scaler, max_grad_norm=self._max_grad_norm)

    def zero_grad(self) -> None:
        """Free the gradients."""
        self.optimizer.zero_grad(set_to_none=True)  # which knows the weights without a walk through all modules

    def published(self) -> contextlib.AbstractContextManager[None]:
        """Within it the weights are those that are evaluated and saved."""
        if isinstance(self.optimizer, ScheduleFreeAdamW):
            return self.optimizer.published()
        return contextlib.nullcontext()

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the next step."""
        set_learning_rate(self.optimizer, lr)

    @property
    def learning_rate(self) -> float:
        """The rate that the optimizer itself holds for weights whose factor is 1."""
        return rate_held(self.optimizer)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The optimizer's tensors as (WEIGHT/KEY, what this rank holds), in the same order on all ranks."""
        for name, parameter in self._trained.items():
            for key, value in sorted(self.optimizer.state.get(parameter, {}).items()):
                if isinstance(value, torch.Tensor):
                    yield f"{name}/{key}", value

    def numbers(self) -> Numbers:
        """The optimizer's numbers that are not tensors, and the loss scale."""
        plain = {
            name: {
                key: value
                for key, value in self.optimizer.state.get(p, {}).items()
                if not isinstance(value, torch.Tensor)
            }
            for name, p in self._trained.items()
        }
        return {
            "optimizer": {name: values for name, values in plain.items() if values},
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def restore(self, names: set[str], read: Read, numbers: Numbers, placed: Placed) -> None:
        """Take over what `tensors` and `numbers` gave; `names` are those of a checkpoint."""
        state: dict[int, dict[str, torch.Tensor | float]] = {}
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        places = {id(parameter): index for index, parameter in enumerate(order)}
        for name, parameter in self._trained.items():
            start = f"{OPTIMIZER}{name}/"
            found = sorted(full for full in names if full.startswith(start))
            values: dict[str, torch.Tensor | float] = {
                full.removeprefix(start): placed(read(full), parameter) for full in found
            }
            values |= numbers["optimizer"].get(name, {})
            if values:
                state[places[id(parameter)]] = values
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if isinstance(self.optimizer, ScheduleFreeAdamW):
            self.optimizer.withdraw()
        if self.scaler is not None and (saved := numbers.get("scaler")):
            self.scaler.load_state_dict(saved)


class OwnUpdate(TorchUpdate):
    """`TorchUpdate` whose state may be anything that is made of tensors and plain numbers, also of a group."""

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """As there; CodeError where the state cannot be kept."""
        for name, parameter in self._trained.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                _require_kept(self.optimizer, f"the state {key!r} of {name}", value, fits=isinstance(key, str))
        others = [key for key in self.optimizer.state if not isinstance(key, torch.Tensor)]
        if others:
            raise _unkept(self.optimizer, f"its state has {others[0]!r}, which belongs to no weight")
        yield from super().tensors()

    def numbers(self) -> Numbers:
        """As there, with what the groups hold beside what the configuration says."""
        groups = [
            {key: value for key, value in group.items() if key not in _OF_TEXTUNE}
            for group in self.optimizer.param_groups
        ]
        for group in groups:
            for key, value in group.items():
                for one in value if isinstance(value, list | tuple) else [value]:
                    _require_kept(self.optimizer, f"{key!r} of a group", one, fits=not isinstance(one, torch.Tensor))
        return {**super().numbers(), "groups": groups}

    def restore(self, names: set[str], read: Read, numbers: Numbers, placed: Placed) -> None:
        """As there, each tensor in the type that it was saved in."""
        super().restore(names, read, numbers, placed)
        for name, parameter in self._trained.items():
            state = self.optimizer.state.get(parameter, {})
            for key, value in state.items():
                if isinstance(value, torch.Tensor):  # PyTorch casts them to the type of the weight
                    state[key] = placed(read(f"{OPTIMIZER}{name}/{key}"), parameter).to(value.device)
            state.update(numbers["optimizer"].get(name, {}))  # and makes generators of texts
        for group, saved in zip(self.optimizer.param_groups, numbers["groups"], strict=True):
            group.update(
                {key: tuple(value) if isinstance(group.get(key), tuple) else value for key, value in saved.items()}
            )


def _require_kept(optimizer: torch.optim.Optimizer, what: str, value: object, *, fits: bool = True) -> None:
    """CodeError unless a checkpoint holds a value to the last bit: a tensor, or a plain number or text."""
    if isinstance(value, torch.Tensor):
        fits = fits and value.layout == torch.strided and value.dtype in TYPES
    elif isinstance(value, float):
        fits = fits and math.isfinite(value)
    else:
        fits = fits and isinstance(value, bool | int | str | None)
    if not fits:
        raise _unkept(optimizer, f"{what} is {article(value)}, and a checkpoint holds tensors and plain numbers")


def _unkept(optimizer: torch.optim.Optimizer, reason: str) -> CodeError:
    kind = type(optimizer)
    hint = "Nothing is pickled: keep what it needs as tensors and numbers in its state."
    return OwnObject(f"{kind.__module__}:{kind.__qualname__}", KEY, kind).error(reason, hint=hint)


def build_update(
    model: torch.nn.Module,
    section: TrainSection,
    device: Device,
    *,
    kernels: Kernels | None = None,
    rule: Rule | None = None,
) -> TorchUpdate:
    """The update of a model's trained weights as they are now; `kernels` and errors are those of `build_optimizer`."""
    make = OwnUpdate if rule_of(section.optimizer).is_own else TorchUpdate
    return make(
        build_optimizer(model, section.optimizer, kernels),
        trained_in(model),
        scaler=torch.amp.GradScaler(device.torch.type) if device.precision == "fp16" else None,
        max_grad_norm=section.max_grad_norm,
        rule=rule or update_weights,
    )


# --- clipping --------------------------------------------------------------------------------------------------------


def update_weights(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, *, max_grad_norm: float
) -> torch.Tensor:
    """Clip the gradients and let the optimizer change the weights; returns the gradients' norm before, float32 [].

    Where the norm is not finite no weight is changed.
    """
    if isinstance(optimizer, KernelAdamW):
        optimizer.max_norm = max_grad_norm or float("inf")
        optimizer.step()
        return optimizer.grad_norm
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    if scaler is None and optimizer.defaults.get("fused") and type(optimizer).__module__.startswith("torch.optim"):
        return _clipped_step(optimizer, trained, max_grad_norm=max_grad_norm)
    if scaler is not None:
        scaler.unscale_(optimizer)
    # A limit of infinity measures the norm and changes nothing.
    grad_norm = torch.nn.utils.clip_grad_norm_(trained, max_grad_norm or float("inf"))
    if scaler is None:
        if torch.isfinite(grad_norm):
            optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return grad_norm


def _clipped_step(
    optimizer: torch.optim.Optimizer, trained: list[torch.nn.Parameter], *, max_grad_norm: float
) -> torch.Tensor:
    """The same in one pass over the gradients less: a fused optimizer divides them by `grad_scale`, as GradScaler has
    it do."""
    grad_norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    # The numbers of `clip_grad_norm_`, whose small constant keeps the quotient finite.
    scale = ((grad_norm + 1e-6) / (max_grad_norm or float("inf"))).clamp(min=1.0)
    vars(optimizer).update(grad_scale=scale, found_inf=(~torch.isfinite(grad_norm)).to(scale.dtype))
    optimizer.step()
    return grad_norm


# --- optimizers ------------------------------------------------------------------------------------------------------


def build_optimizer(
    model: torch.nn.Module, section: Optimizer, kernels: Kernels | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the parameters that are trained; biases and norm weights (every vector) are not decayed.

    Its step is that of `kernels`, if they are given and have it: they need whole weights on the processor. ModelError
    where no package for it is installed, ConfigError for rates of parts that the model does not have.
    """
    require_optimizer(section)
    trained = trained_in(model)
    factors = rate_factors(model, trained, section)
    rule = rule_of(section)
    groups: dict[tuple[float, bool, bool], Group] = {}
    # Norm weights and biases are the vectors of a transformer; matrices and embeddings have two dimensions.
    for decayed in (True, False):
        for name, parameter in trained.items():
            if (parameter.ndim >= 2) is not decayed:
                continue
            factor, decay = factors[name], section.weight_decay if decayed else 0.0
            apart = rule.sets_apart(name, parameter)
            empty: Group = {"params": [], "weight_decay": decay, "factor": factor}
            if apart:
                empty["adapters"] = True
            groups.setdefault((factor, decayed, apart), empty)["params"].append(parameter)
    optimizer = rule.build(section, list(groups.values()), kernels)
    set_learning_rate(optimizer, section.lr)
    return optimizer


def rate_held(optimizer: torch.optim.Optimizer) -> float:
    """The rate of the schedule that the groups hold, each times its factor."""
    group = max(optimizer.param_groups, key=lambda group: group.get("factor", 1.0) == 1)
    return float(group["lr"]) / float(group.get("factor", 1.0))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this rate times its factor; torchao keeps it in a tensor, which is filled, since its step is
    compiled around it."""
    for group in optimizer.param_groups:
        rate = lr * group.get("factor", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
