"""From gradients to weights: the optimizer, clipping and the loss scale of fp16; below `learner.py`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TypedDict

import torch

from textune.config import AdamW, AdamW8bit, TrainSection
from textune.errors import ModelError
from textune.model import Device, KernelAdamW, Kernels
from textune.training.state import OPTIMIZER, Numbers, Placed, Read, trained_in

STATE_BYTES = {"adamw": 8, "adamw_8bit": 2}
"""Bytes of optimizer state for each number that is trained, by `kind`: two moments."""


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

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the next step."""
        set_learning_rate(self.optimizer, lr)

    @property
    def learning_rate(self) -> float:
        """The rate that the optimizer itself holds."""
        return float(self.optimizer.param_groups[0]["lr"])

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
        if self.scaler is not None and (saved := numbers.get("scaler")):
            self.scaler.load_state_dict(saved)


def build_update(
    model: torch.nn.Module,
    section: TrainSection,
    device: Device,
    *,
    kernels: Kernels | None = None,
    rule: Rule | None = None,
) -> TorchUpdate:
    """The update of a model's trained weights as they are now; `kernels` and errors are those of `build_optimizer`."""
    return TorchUpdate(
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
    if scaler is None and optimizer.defaults.get("fused"):
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


class Group(TypedDict):
    """Parameters with the same decay."""

    params: list[torch.nn.Parameter]
    weight_decay: float


class Options(TypedDict):
    """What every AdamW takes beside its groups."""

    lr: float
    betas: tuple[float, float]
    eps: float


def build_optimizer(
    model: torch.nn.Module, section: AdamW | AdamW8bit, kernels: Kernels | None = None
) -> torch.optim.Optimizer:
    """AdamW over the parameters that are trained; biases and norm weights (every vector) are not decayed.

    Its step is that of `kernels`, if they are given: they need whole weights on the processor. ModelError where
    `adamw_8bit` is asked for and no package for it is installed.
    """
    require_optimizer(section)
    trained = list(trained_in(model).values())
    # Norm weights and biases are the vectors of a transformer; matrices and embeddings have two dimensions.
    groups: list[Group] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    options: Options = {"lr": section.lr, "betas": (section.beta1, section.beta2), "eps": section.eps}
    return OPTIMIZERS[section.kind](groups, options, kernels)


def _adamw(groups: list[Group], options: Options, kernels: Kernels | None) -> torch.optim.Optimizer:
    if kernels is not None and _are_plain([p for group in groups for p in group["params"]]):
        return KernelAdamW(groups, kernels, **options)
    return torch.optim.AdamW([{**group} for group in groups], fused=True, **options)


def _adamw_8bit(groups: list[Group], options: Options, kernels: Kernels | None) -> torch.optim.Optimizer:
    """bitsandbytes where it is installed: torchao compiles its step first, which takes half a minute and a
    compiler."""
    package = "bitsandbytes" if importlib.util.find_spec("bitsandbytes") else "torchao"
    # It logs at its import that it has no 4-bit kernels for CPUs, and both warn about what they use of torch.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer: torch.optim.Optimizer = importlib.import_module(f"{package}.optim").AdamW8bit(groups, **options)
    return optimizer


OPTIMIZERS: dict[str, Callable[[list[Group], Options, Kernels | None], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
}
"""`train.optimizer.kind` to what builds it; each has its line in `STATE_BYTES` too."""


def _are_plain(weights: list[torch.nn.Parameter]) -> bool:
    """Whether threads may change these weights side by side: each fp32, in one piece and in memory of its own."""
    places = {p.untyped_storage().data_ptr() for p in weights if p.numel()}
    apart = len(places) == sum(p.numel() > 0 for p in weights)
    return apart and all(p.dtype == torch.float32 and p.is_contiguous() for p in weights)


def require_optimizer(section: AdamW | AdamW8bit) -> None:
    """ModelError where this installation lacks the package of an optimizer."""
    if section.kind == "adamw_8bit" and not any(map(importlib.util.find_spec, ("bitsandbytes", "torchao"))):
        raise ModelError(
            'train.optimizer.kind = "adamw_8bit", but neither bitsandbytes nor torchao is installed.',
            hint='Run `pip install "textune[8bit]"`, or use "adamw".',
        )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this rate; torchao keeps it in a tensor, which is filled, since its step is compiled around
    it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
