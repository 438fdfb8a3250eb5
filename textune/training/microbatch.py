"""One optimizer batch, computed in parts that fit into memory, with the gradient of the whole."""

from __future__ import annotations

import torch

from textune.batches import Batch, Batches, MicroBatch, to_device
from textune.errors import ModelError
from textune.model import free_cached, halved, is_out_of_memory
from textune.tasks import Task
from textune.training.learner import Learner

NO_ROOM = "Lower tokens.max_length, set train.gradient_checkpointing = true, or choose a smaller backbone."


def accumulate_gradients(learner: Learner, task: Task, batch: Batch) -> torch.Tensor:
    """Add the gradient of the batch's loss to the parameters; returns the loss, detached, float32 [] on the device.

    The loss is sum(weight x row loss) / sum(weight) over all rows of the batch. The total weight is known before the first
    forward pass, so micro-batches of any size give the gradient of the whole batch.

    Where ranks share the batch, the total weight is that of the rows of all ranks: loss and gradient are this rank's part, and
    their sums (not their means) over the ranks are those of the whole batch.
    """
    # A batch whose rows all weigh nothing has loss and gradient zero instead of 0 / 0.
    totals = {name: total.clamp(min=torch.finfo(torch.float32).tiny) for name, total in task.total_weights(batch).items()}
    device = learner.device.torch
    parts = [
        (
            part.to(device),
            {name: to_device(shares_B, device) for name, shares_B in _shares(task, part, totals).items()},
        )
        for part in batch.micro_batches
    ]
    loss = torch.zeros((), device=device)
    for number, (part, shares) in enumerate(parts, start=1):
        loss += learner.compute(part, task, shares, last=number == len(parts))
    return loss


def _shares(task: Task, part: MicroBatch, totals: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What each row's loss counts for in that of the batch, float32 [B] by head: its weight / the total weight."""
    weights = task.row_weights(part.targets, part.weights)
    return {
        name: weights_B / totals[name] if part.counts else torch.zeros_like(weights_B) for name, weights_B in weights.items()
    }


def gradients_in_memory(
    learner: Learner, task: Task, loader: Batches, batch: Batch, *, seed: int
) -> tuple[torch.Tensor, list[str]]:
    """Set the parameters' gradients to those of the batch; returns (its loss, what to tell the user).

    Out of memory, the bound of `loader` is halved and the batch computed again: the same rows, weights and seed of dropout.
    ModelError where a single row does not fit.
    """
    notices: list[str] = []
    while True:
        learner.zero_grad()
        _seed(seed, learner.device.torch)
        try:
            return accumulate_gradients(learner, task, batch), notices
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if not learner.sharing.may_redo:
                raise _refuse_redo(learner, batch) from error
        # Only here, behind the handler, is the error gone with its traceback, which held the whole graph.
        learner.zero_grad()
        free_cached(learner.device.torch)
        bound = halved(batch.largest, longest=batch.longest, hint=NO_ROOM)
        notices.append(f"out of memory at step {batch.step + 1}: computing {bound:,} tokens at once from here on")
        batch = loader.lower_budget(batch, bound)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators that draw on `device`; on a processor one, since the others would be told through a stack trace."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _refuse_redo(learner: Learner, batch: Batch) -> ModelError:
    """The error of a step that ran out of memory where gradients or weights may have been exchanged already."""
    return ModelError(
        f"out of memory at step {batch.step + 1} on rank {learner.ranks.rank}: it cannot be repeated in smaller micro-batches,"
        " since gradients or weights are exchanged between ranks while it is computed.",
        hint=f"Resume with --resume and train.max_tokens = {max(batch.largest // 2, batch.longest)}: the step stays the same.",
    )


def refuse_update(step: int) -> ModelError:
    """The error of an update that ran out of memory, where smaller micro-batches do not help."""
    return ModelError(
        f"out of memory in the optimizer's update at step {step}: gradients and optimizer state do not fit.",
        hint='Set train.optimizer.kind = "adamw_8bit", freeze parts with model.freeze, or choose a smaller backbone.',
    )
