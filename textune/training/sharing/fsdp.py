"""Weights, gradients and optimizer state cut over the ranks, layer by layer: PyTorch's `fully_shard` (FSDP2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from textune.batches import Tokens
from textune.config import Sharded, TrainSection
from textune.errors import ModelError
from textune.model import Device
from textune.ranks import Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import Engine, Targets, TorchEngine
from textune.training.rules import cutting_obstacle
from textune.training.updates import TorchUpdate, build_update


class CutWeights:
    """Weights of which each rank holds a slice, as DTensors."""

    cut = True

    def __init__(self, modules: list[FSDPModule]) -> None:
        self._modules = modules

    def settle(self) -> None:
        """Free the whole weights of the outermost layers, which an evaluation leaves in the place of this rank's
        slices."""
        for module in self._modules:
            module.reshard()

    def whole(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """Gathered from all ranks; a tensor that is not cut is whole already."""
        return contextlib.nullcontext(_whole(tensor.detach()))

    def writable(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """The DTensor, whose shape is that of the whole."""
        return contextlib.nullcontext(tensor)

    def placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """This rank's slice; every rank has read the whole tensor, so nothing is sent."""
        if not isinstance(like, DTensor) or whole.shape != like.shape:
            return whole
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class FullySharded:
    """Each pass gathers a layer's weights when it needs them; every rank makes the same number of passes."""

    lockstep = True
    may_redo = False

    def __init__(self, engine: TorchEngine, root: FSDPModule) -> None:
        """`root` is the engine as `fully_shard` has changed it."""
        self.weights = CutWeights([module for module in engine.modules() if isinstance(module, FSDPModule)])
        self._engine = engine
        self._root = root

    @contextlib.contextmanager
    def exchange(self, *, last: bool) -> Iterator[None]:
        """Only in the last micro-batch do ranks send the gradients to those that hold the weights."""
        self._root.set_requires_gradient_sync(last)
        yield

    def row_losses(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """Those of the engine, whose hooks gather the weights."""
        losses: ByHead = self._engine(tokens, task, targets)
        return losses


def require(section: TrainSection, device: Device, ranks: Ranks, steps_per_epoch: int | None) -> None:
    """ModelError for an optimizer or a precision that cannot be cut over ranks."""
    if obstacle := cutting_obstacle(section.optimizer):
        raise ModelError(
            f'{obstacle}, which cannot be combined with train.distributed.kind = "fsdp": each rank holds slices of'
            " weights.",
            hint='Use "adamw" (its state is divided by the number of devices), or train.distributed.kind = "ddp".',
            key="train.optimizer.kind",
            value=section.optimizer.kind,
            reason=obstacle,
        )
    if device.precision == "fp16":
        raise ModelError(
            'train.precision = "fp16" cannot be combined with train.distributed.kind = "fsdp": ranks do not see each'
            " other's overflows.",
            hint='Use "bf16" or "fp32".',
            key="train.precision",
            value="fp16",
        )


def share(engine: Engine, section: TrainSection, device: Device, ranks: Ranks) -> tuple[FullySharded, TorchUpdate]:
    """Cut the weights, then build the optimizer over the slices."""
    assert isinstance(engine, TorchEngine) and isinstance(section.distributed, Sharded)
    mesh = init_device_mesh(device.torch.type, (ranks.world,))
    offload = (
        CPUOffloadPolicy(pin_memory=device.torch.type == "cuda")
        if section.distributed.cpu_offload
        else OffloadPolicy()
    )
    layers = [module for module in engine.model.hf.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        fully_shard(layer, mesh=mesh, offload_policy=offload)
    root = fully_shard(engine, mesh=mesh, offload_policy=offload)
    return FullySharded(engine, root), build_update(engine.model, section, device, rule=_update_slices)


def _update_slices(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, *, max_grad_norm: float
) -> torch.Tensor:
    """As `update_weights`, by the norm over all ranks; without a scaler, since `require` refuses fp16."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = _whole(torch.nn.utils.clip_grad_norm_(trained, max_grad_norm or float("inf")))
    if torch.isfinite(grad_norm):  # the same on all ranks
        optimizer.step()
    return grad_norm


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
