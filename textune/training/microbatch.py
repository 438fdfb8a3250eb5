"""One optimizer batch, computed in micro-batches that fit into memory, with the gradient of the whole."""

from __future__ import annotations

import torch

from textune.batches import Batch, Batches, MicroBatch, to_device
from textune.errors import NO_MEMORY, ModelError
from textune.exitcodes import is_out_of_memory
from textune.model import free_cached, halved
from textune.tasks import ByHead, Task
from textune.training.determinism import without_deterministic_way
from textune.training.learner import Learner

NO_ROOM = "Lower tokens.max_length, set train.gradient_checkpointing = true, or choose a smaller backbone."


def accumulate_gradients(learner: Learner, task: Task, batch: Batch) -> torch.Tensor:
    """Add the gradient of the batch's loss to the parameters; returns the loss, detached, float32 [] on the device.

    The loss is sum(weight x row loss) / sum(weight) over all rows of the batch. The total weight is known before the
    first forward pass, so micro-batches of any size give the gradient of the whole batch.

    Where ranks share the batch, the total weight is that of the rows of all ranks: loss and gradient are this rank's
    share, and their sums (not their means) over the ranks are those of the whole batch.
    """
    # A batch whose rows all have weight 0 has loss and gradient 0 instead of 0 / 0.
    totals = {
        name: total.clamp(min=torch.finfo(torch.float32).tiny) for name, total in task.total_weights(batch).items()
    }
    device = learner.device.torch
    work = [
        (
            micro_batch.to(device),
            {name: to_device(shares_B, device) for name, shares_B in _shares(task, micro_batch, totals).items()},
        )
        for micro_batch in batch.micro_batches
    ]
    loss = torch.zeros((), device=device)
    for number, (micro_batch, shares) in enumerate(work, start=1):
        loss += learner.compute(micro_batch, task, shares, last=number == len(work))
    return loss


def _shares(task: Task, micro_batch: MicroBatch, totals: ByHead) -> ByHead:
    """The factor of each row's loss in that of the batch, float32 [B] by head: its weight / the total weight."""
    weights = task.row_weights(micro_batch.targets, micro_batch.weights)
    return {
        name: weights_B / totals[name] if micro_batch.counts else torch.zeros_like(weights_B)
        for name, weights_B in weights.items()
    }


def gradients_in_memory(
    learner: Learner, task: Task, loader: Batches, batch: Batch, *, seed: int
) -> tuple[torch.Tensor, list[str]]:
    """Set the parameters' gradients to those of the batch; returns (its loss, notices for the user).

    Out of memory, the token budget of `loader` is halved and the batch computed again, with the same rows, weights and
    seed of dropout. ModelError where a single row does not fit.
    """
    notices: list[str] = []
    while True:
        learner.zero_grad()
        _seed(seed, learner.device.torch)
        try:
            return accumulate_gradients(learner, task, batch), notices
        except Exception as error:
            if refusal := without_deterministic_way(error):
                raise refusal from error
            if not is_out_of_memory(error):
                raise
            if not learner.sharing.may_redo:
                raise _refuse_redo(learner, batch) from error
        # Only here, after the handler, is the error gone, whose traceback held the whole graph.
        learner.zero_grad()
        free_cached(learner.device.torch)
        budget = halved(batch.largest, longest=batch.longest, hint=NO_ROOM)
        notices.append(f"out of memory at step {batch.step + 1}: computing {budget:,} tokens at once from here on")
        batch = loader.lower_budget(batch, budget)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators that draw on `device`; on a processor only one, since seeding all of them formats a stack
    trace."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _refuse_redo(learner: Learner, batch: Batch) -> ModelError:
    """The error of a step that ran out of memory where gradients or weights may have been exchanged already."""
    return ModelError(
        f"out of memory at step {batch.step + 1} on rank {learner.ranks.rank}: it cannot be repeated in smaller"
        f" micro-batches,"
        " since gradients or weights are exchanged between ranks while it is computed.",
        hint=f"Resume with --resume and train.max_tokens = {max(batch.largest // 2, batch.longest)}: the step stays"
        f" the same.",
        exit_code=NO_MEMORY,
    )


def refuse_update(step: int) -> ModelError:
    """The error of an update that ran out of memory, where smaller micro-batches do not help."""
    return ModelError(
        f"out of memory in the optimizer's update at step {step}: gradients and optimizer state do not fit.",
        hint='Set train.optimizer.kind = "adamw_8bit", freeze parts with model.freeze, or choose a smaller backbone.',
        exit_code=NO_MEMORY,
    )
