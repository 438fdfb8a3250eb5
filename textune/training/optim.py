"""The update rule."""

from __future__ import annotations

import torch

from textune.config.schema import AdamW


def build_optimizer(model: torch.nn.Module, section: AdamW) -> torch.optim.Optimizer:
    """AdamW over the parameters that are trained; biases and norm weights (every vector) are not decayed."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # Norm weights and biases are the vectors of a transformer; matrices and embeddings have two dimensions.
    decayed = [p for _, p in trained if p.ndim >= 2]
    kept = [p for _, p in trained if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=section.lr,
        betas=(section.beta1, section.beta2),
        eps=section.eps,
        fused=True,
    )
