"""Weights, gradients and optimizer state cut over the ranks, layer by layer: PyTorch's `fully_shard` (FSDP2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from textune.config import Sharded, TrainSection
from textune.model import Device, TextModel
from textune.ranks import Ranks
from textune.training.learner import Learner, Read


class ShardedLearner(Learner):
    """Each pass gathers a layer's weights when it needs them; every rank makes the same number of passes."""

    lockstep = True

    def __init__(self, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> None:
        assert isinstance(section.distributed, Sharded)
        mesh = init_device_mesh(device.torch.type, (ranks.world,))
        offload = (
            CPUOffloadPolicy(pin_memory=device.torch.type == "cuda") if section.distributed.cpu_offload else OffloadPolicy()
        )
        layers = [module for module in model.hf.modules() if isinstance(module, GradientCheckpointingLayer)]
        for module in (*layers, model):
            fully_shard(module, mesh=mesh, offload_policy=offload)
        super().__init__(model, section, device, ranks)
        self.may_redo = False

    @contextlib.contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """Only the last micro-batch of a step hands gradients over to the ranks that hold the weights."""
        sharded: Any = self.model  # `fully_shard` has given it more methods
        sharded.set_requires_gradient_sync(last)
        yield

    def backward(self, loss: torch.Tensor) -> None:
        """FSDP takes the mean over ranks, and the gradient of a step is their sum."""
        super().backward(loss * self.ranks.world)

    def update(self) -> torch.Tensor:
        """Clip by the norm over all ranks, and change the weights; returns that norm, float32 []. As `update_weights`."""
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        grad_norm = torch.nn.utils.clip_grad_norm_(trained, self._max_grad_norm or float("inf"))
        whole = _whole(grad_norm)
        if torch.isfinite(whole):  # the norm is that of all ranks: they agree
            self.optimizer.step()
        return whole

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """As `Learner`."""
        self._give_back()
        yield from super().tensors()

    def numbers(self) -> dict[str, Any]:
        """As `Learner`."""
        self._give_back()
        return super().numbers()

    def restore(self, names: set[str], read: Read, numbers: dict[str, Any]) -> None:
        """As `Learner`."""
        self._give_back()
        super().restore(names, read, numbers)

    def model_state(self) -> dict[str, torch.Tensor]:
        """Every weight of the Hugging Face model, whole, on the CPU of the first rank; the others get nothing."""
        self._give_back()
        state: dict[str, torch.Tensor] = {}
        gathered: dict[int, torch.Tensor] = {}
        for name, tensor in self.model.hf.state_dict(keep_vars=True).items():
            if id(tensor) not in gathered:
                whole = _whole(tensor.detach()).cpu()
                gathered[id(tensor)] = whole if self.ranks.is_first else torch.empty(0)
            state[name] = gathered[id(tensor)]
        return state

    def _give_back(self) -> None:
        """Free the whole weights of the outermost layers, which an evaluation leaves in the place of this rank's parts."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _gathered(self, tensor: torch.Tensor) -> torch.Tensor:
        return _whole(tensor)

    def _placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        if not isinstance(like, DTensor) or whole.shape != like.shape:
            return whole
        # Every rank has read the whole tensor and keeps its part of it; nothing is sent.
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
