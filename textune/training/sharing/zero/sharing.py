"""Optimizer state, gradients and weights partitioned over the ranks by DeepSpeed's ZeRO (arXiv:1910.02054).

DeepSpeed partitions and gathers weights, averages gradients and clips them. The mathematics stay textune's: fp32
weights under autocast, the AdamW of `updates.py` on each rank's partition (also where that is offloaded to the host),
textune's loss scale and learning rate. So none of DeepSpeed's own operators has to be compiled.

    keys.py       what a DeepSpeed JSON file may say       plan.py      what DeepSpeed gets
    library.py    DeepSpeed itself                         update.py    its step, and the state by weight
    lossscale.py  the loss scale of fp16
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from textune.batches import Tokens
from textune.config import DeepSpeed, TrainSection
from textune.model import Device
from textune.ranks import Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import Engine, Targets, TorchEngine
from textune.training.rules import rule_of
from textune.training.sharing.alone import WholeWeights
from textune.training.sharing.zero.library import ZeroEngine, gathered, start_engine
from textune.training.sharing.zero.lossscale import LossScale
from textune.training.sharing.zero.plan import plan_zero, require_deepspeed
from textune.training.sharing.zero.update import ZeroUpdate
from textune.training.state import trained_in
from textune.training.updates import build_optimizer


class PartitionedWeights:
    """Weights of which each rank holds a partition (stage 3)."""

    cut = True

    def settle(self) -> None:
        """DeepSpeed frees what it gathers by itself."""

    @contextlib.contextmanager
    def whole(self, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
        """Gathered from all ranks; a tensor that is not partitioned is whole already."""
        with gathered(tensor) as whole:
            yield whole.detach()

    def writable(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """The gathered weight; every rank takes what the first one wrote."""
        return gathered(tensor, changed=True)

    def placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """All of it: DeepSpeed partitions it again."""
        return whole


class Zero:
    """Several ranks that each update a part of the model; in stage 3 each pass gathers weights from the others."""

    may_redo = False
    """What ranks have exchanged cannot be taken back, and DeepSpeed exchanges even where a process is alone."""

    def __init__(self, engine: ZeroEngine, *, stage: int) -> None:
        # From stage 2 on the ranks exchange in every backward pass, in stage 3 in every forward pass too.
        self.lockstep = stage >= 2
        self.weights = PartitionedWeights() if stage == 3 else WholeWeights()
        self._engine = engine

    @contextlib.contextmanager
    def exchange(self, *, last: bool) -> Iterator[None]:
        """DeepSpeed learns which micro-batch completes a step."""
        self._engine.set_gradient_accumulation_boundary(last)
        yield

    def row_losses(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """Those of the engine within DeepSpeed's."""
        return self._engine(tokens, task, targets)


def require(section: TrainSection, device: Device, ranks: Ranks, steps_per_epoch: int | None) -> None:
    """ModelError where DeepSpeed is not installed or too old, ConfigError where its JSON file contradicts
    `section`."""
    require_deepspeed()
    plan_zero(section, world=ranks.world, precision=device.precision, num_trained=1, steps_per_epoch=steps_per_epoch)


def share(engine: Engine, section: TrainSection, device: Device, ranks: Ranks) -> tuple[Zero, ZeroUpdate]:
    """Start DeepSpeed around the engine and an optimizer over whole weights, which it partitions; errors as in
    `require`."""
    assert isinstance(engine, TorchEngine) and isinstance(section.distributed, DeepSpeed)
    model, stage = engine.model, section.distributed.stage
    num_trained = sum(parameter.numel() for parameter in trained_in(model).values())
    plan = plan_zero(section, world=ranks.world, precision=device.precision, num_trained=num_trained)
    optimizer = build_optimizer(model, section.optimizer)
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))  # DeepSpeed insists on it, even for a process alone
    started = start_engine(engine, optimizer, plan, device)
    scale = LossScale(plan.initial_scale, plan.scale_interval, plan.min_scale) if device.precision == "fp16" else None
    update = ZeroUpdate(
        started,
        model,
        optimizer,
        moments=rule_of(section.optimizer).moments,
        stage=stage,
        scale=scale,
        device=device,
        ranks=ranks,
    )
    return Zero(started, stage=stage), update
