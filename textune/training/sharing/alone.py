"""One process, which computes every row and holds all weights; also what a copy of the model on each rank holds."""

from __future__ import annotations

import contextlib

import torch

from textune.batches import Tokens
from textune.config import TrainSection
from textune.model import Device
from textune.ranks import Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import Engine, Targets
from textune.training.updates import TorchUpdate, build_update


class WholeWeights:
    """Weights that every rank holds as a whole."""

    cut = False

    def settle(self) -> None:
        """Nothing was gathered."""

    def whole(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """The tensor itself."""
        return contextlib.nullcontext(tensor.detach())

    def writable(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """The weight itself."""
        return contextlib.nullcontext(tensor)

    def placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """All of it."""
        return whole


class Alone:
    """Nothing is exchanged, so a step may be repeated as often as memory demands."""

    lockstep = False
    may_redo = True

    def __init__(self, engine: Engine) -> None:
        self.weights = WholeWeights()
        self._engine = engine

    def exchange(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Nothing to do around it."""
        return contextlib.nullcontext()

    def row_losses(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """Those of the engine."""
        return self._engine(tokens, task, targets)


def require(section: TrainSection, device: Device, ranks: Ranks, steps_per_epoch: int | None) -> None:
    """Every configuration trains in one process."""


def share(engine: Engine, section: TrainSection, device: Device, ranks: Ranks) -> tuple[Alone, TorchUpdate]:
    """The optimizer is the compiled kernels' where they have whole fp32 gradients on the processor."""
    by_kernels = device.torch.type == "cpu" and device.precision != "fp16"
    kernels = engine.model.accelerator.kernels if by_kernels else None
    return Alone(engine), build_update(engine.model, section, device, kernels=kernels)
