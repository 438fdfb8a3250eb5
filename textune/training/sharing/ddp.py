"""A copy of the model on each rank, gradients reduced once per step: PyTorch's DistributedDataParallel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.parallel import DistributedDataParallel

from textune.batches import Tokens
from textune.config import TrainSection
from textune.model import Device
from textune.ranks import Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import Engine, Targets, TorchEngine
from textune.training.sharing.alone import WholeWeights
from textune.training.updates import TorchUpdate, build_update


class DataParallel:
    """Every rank computes its share of a batch; weights and optimizer state are the same everywhere."""

    lockstep = False

    def __init__(self, engine: TorchEngine, device: Device, ranks: Ranks) -> None:
        self.weights = WholeWeights()
        self.may_redo = True
        self._engine = engine
        self._device = device
        self._ranks = ranks
        self._parallel: DistributedDataParallel | None = None
        self._last = False

    @contextlib.contextmanager
    def exchange(self, *, last: bool) -> Iterator[None]:
        """Gradients of all but the last micro-batch stay here; only in its backward pass do ranks exchange the
        sums."""
        self.may_redo, self._last = not last, last
        yield
        self.may_redo = True  # not after an error: the last micro-batch may have exchanged gradients already

    def row_losses(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """Those of the engine; DDP sees each forward pass, since it prepares the exchange there."""
        if self._parallel is None:
            self._parallel = self._wrapped(leaves_out=self._leaves_out(tokens, task, targets))
        # What its `no_sync` sets, for forward and backward.
        self._parallel.require_backward_grad_sync = self._last
        losses: ByHead = self._parallel(tokens, task, targets)
        return losses

    def _wrapped(self, *, leaves_out: bool) -> DistributedDataParallel:
        parallel = DistributedDataParallel(
            self._engine,
            device_ids=[torch.cuda.current_device()] if self._device.torch.type == "cuda" else None,
            find_unused_parameters=leaves_out,
        )
        # Buffers are the same everywhere from the start. This argument's name differs between versions of PyTorch.
        parallel.broadcast_buffers = False
        return parallel

    def _leaves_out(self, tokens: Tokens, task: Task, targets: Targets) -> bool:
        """Whether a pass may leave parameters without a gradient: a pooler that nothing reads, layers that are
        dropped.

        DDP must know, or it would wait for those gradients; searching for them in every pass takes time, and DDP warns
        where there are none. So one extra pass finds out.
        """
        config = self._engine.model.hf.config.to_dict()
        drops_layers = any("layerdrop" in name.lower() and value for name, value in config.items())
        devices = [self._device.torch] if self._device.torch.type == "cuda" else []
        with torch.random.fork_rng(devices):
            losses = self._engine(tokens, task, targets)
            trained = [parameter for parameter in self._engine.model.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(
                [losses_B.sum() for losses_B in losses.values()], trained, allow_unused=True
            )
        left_out = any(gradient is None for gradient in gradients)
        return bool(self._ranks.all_max([int(drops_layers or left_out)])[0])


def require(section: TrainSection, device: Device, ranks: Ranks, steps_per_epoch: int | None) -> None:
    """DDP shares every configuration."""


def share(engine: Engine, section: TrainSection, device: Device, ranks: Ranks) -> tuple[DataParallel, TorchUpdate]:
    """Each rank updates its own copy, all of them alike."""
    assert isinstance(engine, TorchEngine)
    return DataParallel(engine, device, ranks), build_update(engine.model, section, device)
