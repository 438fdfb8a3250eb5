"""The training loop as a visible generator: one optimizer step at a time, nothing else.

The driver (`pipeline.py`) logs, evaluates, saves and stops; whoever wants another driver writes a `for` over `steps()`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch

from textune.config.schema import TrainSection
from textune.data.loader import Batches
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.memory import is_out_of_memory
from textune.tasks import Task
from textune.training.microbatch import gradients_in_memory, refuse_update
from textune.training.optim import build_optimizer, set_learning_rate
from textune.training.schedule import learning_rate


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did; tensors stay on the device so that reading them is the driver's choice."""

    step: int
    """Optimizer steps done, from 1."""
    loss: torch.Tensor
    """Weighted mean loss of the batch, float32 []."""
    grad_norm: torch.Tensor
    """Norm of the gradient before clipping, float32 []."""
    lr: float
    """Learning rate of this step."""
    num_rows: int
    num_tokens: int
    """Real tokens, padding left out."""
    notices: list[str]
    """What the user should know of this step: that memory ran out and how it went on."""


def steps(
    model: TextModel,
    task: Task,
    loader: Batches,
    section: TrainSection,
    *,
    device: Device,
    total_steps: int,
    warmup_steps: int,
) -> Generator[StepResult]:
    """Train on the batches of `loader` and yield after every optimizer step, until `total_steps` are done.

    Dropout depends on (seed, step) alone, so a step is the same step whatever ran before it. A gradient that is not finite is
    an overflow for fp16's scaler, which skips that update; elsewhere it surfaces in the loss, for the driver to judge. Where
    memory runs out, the step is done again in smaller parts; ModelError where that cannot help.
    """
    optimizer = build_optimizer(model, section.optimizer)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    scaler = torch.amp.GradScaler(device.torch.type) if device.precision == "fp16" else None
    with closing(iter(loader)) as batches:
        for batch in batches:
            if batch.step >= total_steps:
                return
            model.train()
            lr = learning_rate(
                batch.step,
                kind=section.schedule.kind,
                peak=section.optimizer.lr,
                warmup_steps=warmup_steps,
                total_steps=total_steps,
            )
            set_learning_rate(optimizer, lr)
            seed = _step_seed(section.seed, batch.step)
            loss, notices = gradients_in_memory(model, task, loader, batch, device, seed=seed, scaler=scaler)
            try:
                grad_norm = _update(optimizer, trained, scaler, max_grad_norm=section.max_grad_norm)
            except Exception as error:
                if is_out_of_memory(error):
                    raise refuse_update(batch.step + 1) from error
                raise
            model.zero_grad(set_to_none=True)  # evaluating and saving need the memory
            yield StepResult(batch.step + 1, loss, grad_norm, lr, batch.num_rows, batch.num_tokens, [*batch.notices, *notices])
            if batch.step + 1 == total_steps:
                return


def _update(
    optimizer: torch.optim.Optimizer,
    trained: list[torch.nn.Parameter],
    scaler: torch.amp.GradScaler | None,
    *,
    max_grad_norm: float,
) -> torch.Tensor:
    """Clip the gradients and change the weights; returns the gradients' norm before, float32 []."""
    if scaler is None and optimizer.defaults.get("fused"):
        return _clipped_step(optimizer, trained, max_grad_norm=max_grad_norm)
    if scaler is not None:
        scaler.unscale_(optimizer)
    # A limit of infinity measures the norm and changes nothing.
    grad_norm = torch.nn.utils.clip_grad_norm_(trained, max_grad_norm or float("inf"))
    if scaler is None:
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
    vars(optimizer).update(grad_scale=scale, found_inf=torch.zeros_like(scale))
    optimizer.step()
    return grad_norm


def _step_seed(seed: int, step: int) -> int:
    """A seed of its own for every step; the multiplier (2^64 / golden ratio) keeps neighbouring seeds and steps apart."""
    return ((seed + 1) * 0x9E3779B97F4A7C15 + step) % (1 << 63)
