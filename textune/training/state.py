"""What a checkpoint holds of a learner: names of tensors, and the numbers beside them; below `learner.py` and
`sharing/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NotRequired, TypedDict

import torch

from textune.model import TextModel

MODEL, OPTIMIZER = "model/", "optimizer/"
"""Prefixes of the names in a checkpoint: of a weight, and of the optimizer's tensors of a weight
(`optimizer/WEIGHT/KEY`)."""

Read = Callable[[str], torch.Tensor]
"""Reads the whole tensor of that name onto the CPU; KeyError where there is none."""

Placed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From (a whole tensor, the weight whose shape it has) to what this rank holds of it."""


class Numbers(TypedDict):
    """A learner's state that is not in tensors, as JSON stores it."""

    optimizer: dict[str, dict[str, float]]
    """By weight and key."""
    groups: NotRequired[list[dict[str, Any]]]
    """Of an optimizer of one's own: what each group holds beside its weights, rate and decay."""
    scaler: NotRequired[dict[str, float] | None]
    """The loss scale of fp16, in the form of `torch.amp.GradScaler`; None or absent in other precisions."""


class OptimizerState(NamedTuple):
    """What an optimizer knows of weights, without the weights: as of `Learner.restore`."""

    names: set[str]
    read: Read
    numbers: Numbers


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters (shared ones once) and persistent buffers, by name."""
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    persistent = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return parameters | buffers


def held_weights(model: TextModel) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of a model: all but the frozen weights, which the backbone's files have."""
    frozen = model.frozen_weights.by_name()
    return {name: tensor for name, tensor in weights_of(model).items() if name not in frozen}


def trained_in(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that the optimizer changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
