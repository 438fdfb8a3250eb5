"""Engines: from a micro-batch to the loss of each row, by head; between a model and `learner.py`.

An engine is the module that ranks share: DDP and DeepSpeed wrap it, FSDP cuts its weights. It therefore holds
everything that a loss needs, so a task may read whatever the model gives out. Gradients flow from the row losses back
to the weights: an engine that computes them without autograd hides that behind the backward pass of its row losses
(`torch.autograd.Function`).

Layers that the model's recipe has compiled, for a processor or a GPU, are called like any others.

To add an engine: write a class as `Engine` says, and give it a row in `ENGINES`; `build_engine` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import nn

from textune.batches import Tokens
from textune.model import Device, TextModel
from textune.tasks import ByHead, Task

Targets = Mapping[str, torch.Tensor]
"""Targets of a micro-batch's rows, [B] or [B, K], by head."""
OUTPUTS = "outputs"
"""What an engine calls the model's outputs, where no task reads them."""


class Engine(Protocol):
    """A module around a model; only the model's own names occur in checkpoints."""

    model: TextModel

    def __call__(self, tokens: Tokens, task: Task | None = None, targets: Targets | None = None) -> ByHead:
        """Row losses float32 [B], by head, of a batch on the device; without a task, `{OUTPUTS: the model's
        outputs}`."""


class TorchEngine(nn.Module):
    """The model as PyTorch runs it, with autograd."""

    def __init__(self, model: TextModel, device: Device) -> None:
        super().__init__()
        self.model = model
        self._device = device

    def forward(self, tokens: Tokens, task: Task | None = None, targets: Targets | None = None) -> ByHead:
        """As `Engine`; the model computes in the run's precision, the losses in float32."""
        with self._device.autocast():
            outputs: torch.Tensor = self.model(tokens)
        if task is None or targets is None:
            return {OUTPUTS: outputs}
        return task.row_losses(outputs, targets)


ENGINES: dict[str, Callable[[TextModel, Device], Engine]] = {"torch": TorchEngine}
"""Every engine, by name."""


def build_engine(model: TextModel, device: Device, *, kind: str = "torch") -> Engine:
    """The engine that computes a model's losses and gradients on `device`."""
    return ENGINES[kind](model, device)
