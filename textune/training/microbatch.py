"""One optimizer batch, computed in parts that fit into memory, with the gradient of the whole."""

from __future__ import annotations

import torch

from textune.data.loader import Batch, Batches, to_device
from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.memory import free_cached, halved, is_out_of_memory
from textune.tasks import Task

NO_ROOM = "Lower tokens.max_length, set train.gradient_checkpointing = true, or choose a smaller backbone."


def accumulate_gradients(
    model: TextModel, task: Task, batch: Batch, device: Device, *, scaler: torch.amp.GradScaler | None = None
) -> torch.Tensor:
    """Add the gradient of the batch's loss to the parameters; returns the loss, detached, float32 [] on the device.

    The loss is sum(weight x row loss) / sum(weight) over all rows of the batch. The total weight is known before the first
    forward pass, so micro-batches of any size give the gradient of the whole batch.
    """
    weights = [task.row_weights(part.targets, part.weights) for part in batch.micro_batches]
    # A batch whose rows all weigh nothing has loss and gradient zero instead of 0 / 0.
    total_weight = torch.stack([weights_B.sum() for weights_B in weights]).sum().clamp(min=torch.finfo(torch.float32).tiny)
    parts = [
        (part.tokens.to(device.torch), to_device(part.targets, device.torch), to_device(weights_B / total_weight, device.torch))
        for part, weights_B in zip(batch.micro_batches, weights, strict=True)
    ]
    loss = torch.zeros((), device=device.torch)
    for tokens, targets, shares_B in parts:
        with device.autocast():
            logits_BC = model(tokens)
        part_loss = (task.row_losses(logits_BC, targets) * shares_B).sum()
        (part_loss if scaler is None else scaler.scale(part_loss)).backward()
        loss += part_loss.detach()
    return loss


def gradients_in_memory(
    model: TextModel,
    task: Task,
    loader: Batches,
    batch: Batch,
    device: Device,
    *,
    seed: int,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[torch.Tensor, list[str]]:
    """Set the parameters' gradients to those of the batch; returns (its loss, what to tell the user).

    Where memory runs out, the bound of `loader` is halved and the batch computed anew: the same rows, weights and seed of
    dropout. ModelError where one row alone is too much.
    """
    notices: list[str] = []
    while True:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        try:
            return accumulate_gradients(model, task, batch, device, scaler=scaler), notices
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, behind the handler, is the error gone with its traceback, which held the whole graph.
        model.zero_grad(set_to_none=True)
        free_cached(device.torch)
        bound = halved(batch.largest, longest=batch.longest, hint=NO_ROOM)
        notices.append(f"out of memory at step {batch.step + 1}: computing {bound:,} tokens at once from here on")
        batch = loader.lower_bound(batch, bound)


def refuse_update(step: int) -> ModelError:
    """The error of an update that ran out of memory, which smaller micro-batches cannot mend."""
    return ModelError(
        f"memory does not suffice for the optimizer's update at step {step}: gradients and optimizer state do not fit.",
        hint='Set train.optimizer.kind = "adamw_8bit", freeze parts with model.freeze, or choose a smaller backbone.',
    )
