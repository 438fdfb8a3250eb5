"""A model with what changes it: optimizer, scaler, and how several processes share both; between `optim.py` and `loop.py`.

    Learner                one process                                   here
    DataParallelLearner    a copy of the model on each rank (DDP)        ddp.py
    ShardedLearner         weights and moments cut over the ranks (FSDP2)  fsdp.py
    ZeroLearner            DeepSpeed ZeRO 1, 2, 3                        zero.py

The loop knows only these methods, and a checkpoint only `tensors` and `numbers`: whatever kind of learner wrote it, another
kind, on another number of ranks, goes on from it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from textune.batches import TokenBatch
from textune.config import Distributed, TrainSection
from textune.errors import ModelError
from textune.model import Device, KernelAdamW, Kernels, TextModel
from textune.ranks import Ranks
from textune.training.updates import build_optimizer, set_learning_rate

LEARNERS = {
    "ddp": "textune.training.sharing.ddp:DataParallelLearner",
    "fsdp": "textune.training.sharing.fsdp:ShardedLearner",
    "deepspeed": "textune.training.sharing.zero.learner:ZeroLearner",
}
"""`train.distributed.kind` to the class that several ranks use."""

MODEL, OPTIMIZER = "model/", "optimizer/"
"""What stands before the name of a weight, and of the optimizer's tensors of a weight, in a checkpoint."""

Read = Callable[[str], torch.Tensor]
"""Gives the whole tensor of that name, on the CPU; KeyError where there is none."""


class Learner:
    """One process. Every method of a learner of several ranks is called by all of them together."""

    lockstep = False
    """Whether every rank must compute the same number of micro-batches, since each pass gathers weights from the others."""

    def __init__(self, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> None:
        self.model = model
        self.device = device
        self.ranks = ranks
        self.optimizer = build_optimizer(model, section.optimizer, self._kernels(model, device))
        self.scaler = torch.amp.GradScaler(device.torch.type) if device.precision == "fp16" else None
        self._max_grad_norm = section.max_grad_norm
        self.may_redo = True
        """Whether this rank may compute the step again by itself, when memory ran out: no other has seen anything of it yet."""

    def _kernels(self, model: TextModel, device: Device) -> Kernels | None:
        """The kernels whose AdamW may change the weights: alone, where they lie whole on the processor."""
        alone = self.ranks.alone and type(self) is Learner
        return model.accelerator.kernels if alone and device.torch.type == "cpu" and device.precision != "fp16" else None

    # --- a step -------------------------------------------------------------------------------------------------------

    def part(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around forward and backward of one micro-batch; with the `last` of a step the ranks add up their gradients."""
        return contextlib.nullcontext()

    def logits(self, tokens: TokenBatch) -> torch.Tensor:
        """Logits float32 [B, C] of a batch on the device."""
        with self.device.autocast():
            logits_BC: torch.Tensor = self.model(tokens)
        return logits_BC

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of this rank's share of the loss; the step's gradient is the sum over parts and ranks."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def update(self) -> torch.Tensor:
        """Clip the gradients and change the weights; returns the gradients' norm before, float32 []."""
        return update_weights(self.optimizer, self.scaler, max_grad_norm=self._max_grad_norm)

    def zero_grad(self) -> None:
        """Free the gradients."""
        self.optimizer.zero_grad(set_to_none=True)  # which knows the weights without a walk through all modules

    def set_learning_rate(self, lr: float) -> None:
        """The rate of the next update."""
        set_learning_rate(self.optimizer, lr)

    @property
    def learning_rate(self) -> float:
        """The rate that the optimizer itself holds."""
        return float(self.optimizer.param_groups[0]["lr"])

    # --- state --------------------------------------------------------------------------------------------------------

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight and every tensor of the optimizer, whole, by name; valid until the next one is asked for.

        The order is the same on all ranks: for a sharded model each tensor is put together by all of them.
        """
        yield from ((MODEL + name, self._gathered(tensor.detach())) for name, tensor in weights_of(self.model).items())
        for name, parameter in self._trained().items():
            for key, value in sorted(self.optimizer.state.get(parameter, {}).items()):
                if isinstance(value, torch.Tensor):
                    yield f"{OPTIMIZER}{name}/{key}", self._gathered(value)

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as JSON holds it."""
        plain = {
            name: {key: value for key, value in self.optimizer.state.get(p, {}).items() if not isinstance(value, torch.Tensor)}
            for name, p in self._trained().items()
        }
        return {
            "optimizer": {name: values for name, values in plain.items() if values},
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def restore(self, names: set[str], read: Read, numbers: dict[str, Any]) -> None:
        """Take over what `tensors` and `numbers` gave; `names` are all that `read` knows. KeyError where a weight lacks,
        ValueError where one has another shape or no place."""
        weights = weights_of(self.model)
        unknown = sorted(name for name in names if name.startswith(MODEL) and name.removeprefix(MODEL) not in weights)
        if unknown:
            raise ValueError(f"the model has no {unknown[0].removeprefix(MODEL)}")
        with torch.no_grad():
            for name, tensor in weights.items():
                whole = read(MODEL + name)
                if whole.shape != tensor.shape:
                    raise ValueError(f"{name} is {list(whole.shape)} there and {list(tensor.shape)} here")
                tensor.copy_(self._placed(whole, tensor))
        state: dict[int, dict[str, Any]] = {}
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        places = {id(parameter): index for index, parameter in enumerate(order)}
        for name, parameter in self._trained().items():
            start = f"{OPTIMIZER}{name}/"
            found = sorted(key for key in names if key.startswith(start))
            values = {key.removeprefix(start): self._placed(read(key), parameter) for key in found}
            values |= numbers["optimizer"].get(name, {})
            if values:
                state[places[id(parameter)]] = values
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self.scaler is not None and numbers.get("scaler"):
            self.scaler.load_state_dict(numbers["scaler"])

    def model_state(self) -> dict[str, torch.Tensor] | None:
        """The whole state of `model.hf` for saving it; None where the model holds it itself. Only the first rank saves."""
        return None

    def _gathered(self, tensor: torch.Tensor) -> torch.Tensor:
        """The whole of a tensor of which this rank may hold a part."""
        return tensor

    def _placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """What this rank holds of a whole tensor: of a weight, or of something in a weight's shape."""
        return whole

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters (shared ones once) and persistent buffers, by name."""
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    persistent = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return parameters | buffers


def is_sharded(section: Distributed) -> bool:
    """Whether a rank holds only parts of the weights, so that each pass gathers them from all ranks."""
    return section.kind == "fsdp" or (section.kind == "deepspeed" and section.stage == 3)


def require_learner(section: TrainSection, device: Device, ranks: Ranks, *, steps_per_epoch: int | None = None) -> None:
    """Raise early what `build_learner` would find wrong with `train.distributed`.

    With `steps_per_epoch`, as soon as it is known, also what a DeepSpeed file of the user's own says of steps.
    """
    if section.distributed.kind == "deepspeed":
        from textune.training.sharing import plan_zero, require_deepspeed

        require_deepspeed()
        plan_zero(section, world=ranks.world, precision=device.precision, num_trained=1, steps_per_epoch=steps_per_epoch)
    elif section.distributed.kind == "fsdp" and section.optimizer.kind != "adamw":
        raise ModelError(
            f'train.optimizer.kind = "{section.optimizer.kind}" cannot be cut over ranks by FSDP.',
            hint='Use "adamw" (its state is divided by the number of devices), or train.distributed.kind = "ddp".',
        )
    elif section.distributed.kind == "fsdp" and device.precision == "fp16":
        raise ModelError(
            'train.precision = "fp16" does not go with train.distributed.kind = "fsdp": no rank sees another\'s overflow.',
            hint='Use "bf16" or "fp32".',
        )


def build_learner(model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> Learner:
    """The learner that `train.distributed` asks for; alone, a copy of the model for each rank is the model itself."""
    kind = section.distributed.kind
    if ranks.alone and kind == "ddp":
        return Learner(model, section, device, ranks)
    module, _, name = LEARNERS[kind].partition(":")
    learner: Learner = getattr(importlib.import_module(module), name)(model, section, device, ranks)
    return learner


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


def _clipped_step(optimizer: torch.optim.Optimizer, trained: list[torch.nn.Parameter], *, max_grad_norm: float) -> torch.Tensor:
    """The same in one pass over the gradients less: a fused optimizer divides them by `grad_scale`, as GradScaler has it do."""
    grad_norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    # The numbers of `clip_grad_norm_`, whose small constant keeps the quotient finite.
    scale = ((grad_norm + 1e-6) / (max_grad_norm or float("inf"))).clamp(min=1.0)
    vars(optimizer).update(grad_scale=scale, found_inf=(~torch.isfinite(grad_norm)).to(scale.dtype))
    optimizer.step()
    return grad_norm
