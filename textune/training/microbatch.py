"""One optimizer batch, computed in parts that fit into memory, with the gradient of the whole."""

from __future__ import annotations

import torch

from textune.data.loader import Batch
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.tasks import Task


def accumulate_gradients(
    model: TextModel, task: Task, batch: Batch, device: Device, *, scaler: torch.amp.GradScaler | None = None
) -> torch.Tensor:
    """Add the gradient of the batch's loss to the parameters; returns the loss, detached, float32 [] on the device.

    The loss is sum(weight x row loss) / sum(weight) over all rows of the batch. The total weight is known before the first
    forward pass, so micro-batches of any size give the gradient of the whole batch.
    """
    parts = [
        (
            part.tokens.to(device.torch),
            (targets := part.targets.to(device.torch)),
            task.row_weights(targets, None if part.weights is None else part.weights.to(device.torch)),
        )
        for part in batch.micro_batches
    ]
    # A batch whose rows all weigh nothing has loss and gradient zero instead of 0 / 0.
    total_weight = torch.stack([weights_B.sum() for _, _, weights_B in parts]).sum().clamp(min=torch.finfo(torch.float32).tiny)
    loss = torch.zeros((), device=device.torch)
    for tokens, targets, weights_B in parts:
        with device.autocast():
            logits_BC = model(tokens)
        part_loss = (task.row_losses(logits_BC, targets) * weights_B).sum() / total_weight
        (part_loss if scaler is None else scaler.scale(part_loss)).backward()
        loss += part_loss.detach()
    return loss
