"""The training loop as a visible generator: one optimizer step at a time, nothing else.

The driver in `run/` logs, stops, and evaluates and saves within `Learner.published`; another driver is a `for` over
`steps()`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch

from textune.batches import Batches
from textune.config import TrainSection
from textune.exitcodes import is_out_of_memory
from textune.tasks import Task
from textune.training.learner import Learner
from textune.training.microbatch import gradients_in_memory, refuse_update
from textune.training.schedule import learning_rate


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did; tensors stay on the device, so that the driver chooses when to read them."""

    step: int
    """Optimizer steps done, from 1."""
    loss: torch.Tensor
    """Weighted mean loss of the batch, float32 []; where ranks share it, this rank's part of that sum."""
    grad_norm: torch.Tensor
    """Norm of the gradient before clipping, float32 []."""
    lr: float
    """Learning rate of this step."""
    num_rows: int
    num_tokens: int
    """Real tokens, without padding."""
    notices: list[str]
    """What the user should know about this step: that it ran out of memory, and what was done."""


def steps(
    learner: Learner,
    task: Task,
    loader: Batches,
    section: TrainSection,
    *,
    total_steps: int,
    warmup_steps: int,
) -> Generator[StepResult]:
    """Train on the batches of `loader` and yield after every optimizer step, until `total_steps` are done.

    Dropout depends on (seed, step, rank) alone, so a step is the same whatever ran before it. A gradient that is not
    finite changes no weight: for fp16's scaler that is an ordinary overflow; elsewhere the driver sees its norm and
    stops. Out of memory, the step is repeated in smaller micro-batches; ModelError where that cannot help.
    """
    learner.model.train()
    with closing(iter(loader)) as batches:
        for batch in batches:
            if batch.step >= total_steps:
                return
            lr = learning_rate(
                batch.step,
                schedule=section.schedule,
                peak=section.optimizer.lr,
                warmup_steps=warmup_steps,
                total_steps=total_steps,
            )
            learner.set_learning_rate(lr)
            seed = _step_seed(section.drawing_seed, batch.step, learner.ranks.rank)
            loss, notices = gradients_in_memory(learner, task, loader, batch, seed=seed)
            try:
                grad_norm = learner.step()
            except Exception as error:
                if is_out_of_memory(error):
                    raise refuse_update(batch.step + 1) from error
                raise
            learner.zero_grad()  # evaluating and saving need the memory
            yield StepResult(
                batch.step + 1, loss, grad_norm, lr, batch.num_rows, batch.num_tokens, [*batch.notices, *notices]
            )
            if batch.step + 1 == total_steps:
                return


def _step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step and rank; the multipliers (2^64 / golden ratio, and a prime) keep neighbours
    apart."""
    return ((seed + 1) * 0x9E3779B97F4A7C15 + step + rank * 0xD1342543DE82EF95) % (1 << 63)
