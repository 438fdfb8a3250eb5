"""A copy of the model on each rank, gradients added up once a step: PyTorch's DistributedDataParallel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.parallel import DistributedDataParallel

from textune.config.schema import TrainSection
from textune.data.loader import TokenBatch
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.ranks import Ranks
from textune.training.learner import Learner


class DataParallelLearner(Learner):
    """Every rank computes its share of a batch; weights and optimizer state are the same everywhere."""

    def __init__(self, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> None:
        super().__init__(model, section, device, ranks)
        # A module that some batch does not use (a pooler, say) must not make the others wait for its gradient.
        self._parallel = DistributedDataParallel(
            model,
            device_ids=[torch.cuda.current_device()] if device.torch.type == "cuda" else None,
            find_unused_parameters=True,
        )
        # Buffers are the same everywhere from the start. As an argument this has another name in every other version.
        self._parallel.broadcast_buffers = False

    @contextlib.contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """Gradients of all but the last micro-batch are added up here; only then do ranks exchange them, in its backward."""
        self.may_redo = not last
        with contextlib.nullcontext() if last else self._parallel.no_sync():
            yield
        self.may_redo = True

    def logits(self, tokens: TokenBatch) -> torch.Tensor:
        """Logits float32 [B, C]; the wrapper sees each pass, since it prepares the exchange there."""
        with self.device.autocast():
            logits_BC: torch.Tensor = self._parallel(tokens)
        return logits_BC

    def backward(self, loss: torch.Tensor) -> None:
        """The wrapper takes the mean over ranks, and the gradient of a step is their sum."""
        super().backward(loss * self.ranks.world)
