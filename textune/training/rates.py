"""By how much the learning rate of each weight differs from that of the schedule; for `updates.py`."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from textune.config import Optimizer
from textune.errors import ConfigError
from textune.model import TextModel, class_name, depths, head_names

_HF = "hf."
"""Begins the names of the weights of a `TextModel`."""


def rate_factors(model: torch.nn.Module, names: Iterable[str], section: Optimizer) -> dict[str, float]:
    """The factor of each weight that is trained, by its name in `model`: 1, unless `section` asks for other rates.

    ConfigError where it does and the model has no layers, or no head of its own.
    """
    if section.layer_decay == 1 and section.head_lr is None:
        return dict.fromkeys(names, 1.0)
    assert isinstance(model, TextModel)
    depth, top = depths(model.hf)
    if section.layer_decay != 1 and top == 1:
        raise ConfigError(
            f"train.optimizer.layer_decay = {section.layer_decay:g}, but {class_name(model.hf)} has no list of"
            " layers.",
            hint="Remove it.",
            key="train.optimizer.layer_decay",
            value=section.layer_decay,
        )
    heads = head_names(model.hf)
    if section.head_lr is not None and not heads:
        raise ConfigError(
            f"train.optimizer.head_lr = {section.head_lr:g}, but {class_name(model.hf)} does not tell its head from"
            " its backbone.",
            hint="Remove it.",
            key="train.optimizer.head_lr",
            value=section.head_lr,
        )
    of_head = 1.0 if section.head_lr is None else section.head_lr / section.lr
    factors = {
        _HF + name: of_head if name in heads else section.layer_decay ** (top - number)
        for name, number in depth.items()
    }
    return {name: factors.get(name, of_head) for name in names}  # the pooling of windows belongs to the head
