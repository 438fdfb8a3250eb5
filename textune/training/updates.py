"""The update rule."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from typing import Any, cast

import torch

from textune.config import AdamW, AdamW8bit
from textune.errors import ModelError
from textune.model import KernelAdamW, Kernels

STATE_BYTES = {"adamw": 8, "adamw_8bit": 2}
"""Bytes of optimizer state for each number that is trained, by `kind`: two moments."""


def build_optimizer(
    model: torch.nn.Module, section: AdamW | AdamW8bit, kernels: Kernels | None = None
) -> torch.optim.Optimizer:
    """AdamW over the parameters that are trained; biases and norm weights (every vector) are not decayed.

    Its step is that of `kernels`, if they are given: they need whole weights on the processor. ModelError where `adamw_8bit` is
    asked for and no package for it is installed.
    """
    require_optimizer(section)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # Norm weights and biases are the vectors of a transformer; matrices and embeddings have two dimensions.
    decayed = [p for _, p in trained if p.ndim >= 2]
    kept = [p for _, p in trained if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    options: dict[str, Any] = {"lr": section.lr, "betas": (section.beta1, section.beta2), "eps": section.eps}
    groups = [group for group in groups if group["params"]]
    if section.kind != "adamw":
        return cast(torch.optim.Optimizer, _adamw_8bit()(groups, **options))
    if kernels is not None and _are_plain([p for _, p in trained]):
        return KernelAdamW(groups, kernels, **options)
    return torch.optim.AdamW(groups, fused=True, **options)


def _are_plain(weights: list[torch.nn.Parameter]) -> bool:
    """Whether threads may change these weights side by side: each fp32, in one piece and in memory of its own."""
    places = {p.untyped_storage().data_ptr() for p in weights if p.numel()}
    apart = len(places) == sum(p.numel() > 0 for p in weights)
    return apart and all(p.dtype == torch.float32 and p.is_contiguous() for p in weights)


def require_optimizer(section: AdamW | AdamW8bit) -> None:
    """ModelError where this installation lacks the package of an optimizer."""
    if section.kind == "adamw_8bit" and not any(map(importlib.util.find_spec, ("bitsandbytes", "torchao"))):
        raise ModelError(
            'train.optimizer.kind = "adamw_8bit", but neither bitsandbytes nor torchao is installed.',
            hint='Run `pip install "textune[8bit]"`, or use "adamw".',
        )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this rate; torchao keeps it in a tensor, which is filled, since its step is compiled around it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def _adamw_8bit() -> Any:
    """bitsandbytes where it is installed: torchao compiles its step first, which takes half a minute and a compiler."""
    package = "bitsandbytes" if importlib.util.find_spec("bitsandbytes") else "torchao"
    # It logs at its import that it has no 4-bit kernels for CPUs, and both warn of what they use of torch.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{package}.optim").AdamW8bit
