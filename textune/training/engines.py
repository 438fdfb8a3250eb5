"""Engines: from a micro-batch to the loss of each row, by head; between a model and `learner.py`.

An engine is the module that ranks share: DDP and DeepSpeed wrap it, FSDP cuts its weights. It therefore holds
everything that a loss needs, so a task may read whatever the model gives out. Gradients flow from the row losses back
to the weights: an engine that computes them without autograd hides that behind the backward pass of its row losses
(`torch.autograd.Function`).

Layers that the model's recipe has compiled, for a processor or a GPU, are called like any others.

To add an engine: write a class as `Engine` says and a module with the functions of `EngineModule`, and give it a row
in `ENGINES`; `build_engine` chooses.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import nn

from textune.batches import Tokens
from textune.config import DeviceName, TrainingPrecision, TrainSection
from textune.model import Device, TextModel
from textune.ranks import Ranks
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


class EngineModule(Protocol):
    """A module in `ENGINES`."""

    def require(self, section: TrainSection, device: Device, ranks: Ranks) -> None:
        """Raise early what `build` would find wrong, whatever the model."""

    def build(self, model: TextModel, device: Device) -> Engine:
        """The engine of a model that is ready to train; ModelError where it cannot take it."""


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


def require(section: TrainSection, device: Device, ranks: Ranks) -> None:
    """PyTorch computes wherever a model trains."""


def build(model: TextModel, device: Device) -> TorchEngine:
    """PyTorch's engine of a model."""
    return TorchEngine(model, device)


class EngineKind(NamedTuple):
    """A row of `ENGINES`."""

    module: str
    """What does it: a module as `EngineModule` says."""
    name: str
    """What messages call it."""
    device: DeviceName = "auto"
    """What `train.device = "auto"` stands for."""
    precision: TrainingPrecision = "auto"
    """What `train.precision = "auto"` stands for."""
    packed: bool = True
    """Whether it computes packed batches."""


ENGINES = {
    "torch": EngineKind("textune.training.engines", "PyTorch"),
    "onnxruntime": EngineKind(
        "textune.training.ort.engine", "ONNX Runtime", device="cpu", precision="fp32", packed=False
    ),
}
"""By `train.engine`; `config/engines.py` has the values of other keys that each can go with."""


def engine_of(section: TrainSection) -> EngineKind:
    """What is known of `train.engine`."""
    return ENGINES[section.engine]


def require_engine(section: TrainSection, device: Device, ranks: Ranks) -> None:
    """Raise early what `build_engine` would find wrong with the installation, the machine or the processes."""
    _module(section.engine).require(section, device, ranks)


def build_engine(model: TextModel, device: Device, *, kind: str = "torch") -> Engine:
    """The engine that computes a model's losses and gradients on `device`; ModelError where it cannot take the
    model."""
    return _module(kind).build(model, device)


def _module(kind: str) -> EngineModule:
    module: EngineModule = importlib.import_module(ENGINES[kind].module)
    return module
