"""A copy of the model on each rank, gradients added up once a step: PyTorch's DistributedDataParallel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.parallel import DistributedDataParallel

from textune.batches import TokenBatch
from textune.config import TrainSection
from textune.model import Device, TextModel
from textune.ranks import Ranks
from textune.training.learner import Learner


class DataParallelLearner(Learner):
    """Every rank computes its share of a batch; weights and optimizer state are the same everywhere."""

    def __init__(self, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> None:
        super().__init__(model, section, device, ranks)
        self._parallel: DistributedDataParallel | None = None
        self._last = False

    @contextlib.contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """Gradients of all but the last micro-batch are added up here; only then do ranks exchange them, in its backward."""
        self.may_redo, self._last = not last, last
        yield
        self.may_redo = True

    def logits(self, tokens: TokenBatch) -> torch.Tensor:
        """Logits float32 [B, C]; the wrapper sees each pass, since it prepares the exchange there."""
        if self._parallel is None:
            self._parallel = self._wrapped(leaves_out=self._leaves_out(tokens))
        # What its `no_sync` sets, for forward and backward.
        self._parallel.require_backward_grad_sync = self._last
        with self.device.autocast():
            logits_BC: torch.Tensor = self._parallel(tokens)
        return logits_BC

    def _wrapped(self, *, leaves_out: bool) -> DistributedDataParallel:
        parallel = DistributedDataParallel(
            self.model,
            device_ids=[torch.cuda.current_device()] if self.device.torch.type == "cuda" else None,
            find_unused_parameters=leaves_out,
        )
        # Buffers are the same everywhere from the start. As an argument this has another name in every other version.
        parallel.broadcast_buffers = False
        return parallel

    def _leaves_out(self, tokens: TokenBatch) -> bool:
        """Whether a pass may leave parameters without a gradient: a pooler that nothing reads, layers that are dropped.

        Ranks must know, or they would wait for those gradients; looking for them in every pass takes time and is complained
        about where there are none. So one pass on the side tells.
        """
        config = self.model.hf.config.to_dict()
        drops_layers = any("layerdrop" in name.lower() and value for name, value in config.items())
        devices = [self.device.torch] if self.device.torch.type == "cuda" else []
        with torch.random.fork_rng(devices):
            with self.device.autocast():
                logits_BC = self.model(tokens)
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(logits_BC.sum(), trained, allow_unused=True)
        left_out = any(gradient is None for gradient in gradients)
        return bool(self.ranks.all_max([int(drops_layers or left_out)])[0])

    def backward(self, loss: torch.Tensor) -> None:
        """The wrapper takes the mean over ranks, and the gradient of a step is their sum."""
        super().backward(loss * self.ranks.world)
