"""Layers that the backward pass computes again instead of keeping what it needs (gradient checkpointing); for
`recipe.py`."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.hugging import Forward


class _Checkpointed:
    """What computes a layer, keeping only the inputs while training and computing the rest again for the backward
    pass."""

    def __init__(self, layer: nn.Module, forward: Forward) -> None:
        self.enabled = True
        self._layer = layer
        self._forward = forward

    def __call__(self, *args: object, **kwargs: object) -> object:
        if not (self.enabled and self._layer.training and torch.is_grad_enabled()):
            return self._forward(*args, **kwargs)
        return checkpoint(
            functools.partial(self._forward, **kwargs), *args, use_reentrant=False, preserve_rng_state=True
        )


def checkpoint_gradients(model: TextModel) -> None:
    """Checkpoint every layer of the model, as it computes now; dropout draws the same numbers again.

    The layers are those that transformers itself would checkpoint. Its own switch is not used: it does not see layers
    whose forward was replaced by a faster one. ModelError where the family has no such layers.
    """
    layers = [module for module in model.hf.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not (model.hf.supports_gradient_checkpointing and layers):
        raise ModelError(
            f"train.gradient_checkpointing = true, but transformers cannot do that for {model.hf.config.model_type}.",
            hint="Remove the key; train.max_tokens bounds the memory for every backbone.",
        )
    for layer in layers:
        name = _entry(layer)
        setattr(layer, name, _Checkpointed(layer, getattr(layer, name)))


def checkpointed_layers(model: TextModel) -> list[_Checkpointed]:
    """The layers that `checkpoint_gradients` has changed."""
    entries = (getattr(module, _entry(module)) for module in model.modules())
    return [entry for entry in entries if isinstance(entry, _Checkpointed)]


def _entry(module: nn.Module) -> str:
    """The attribute that calling a module ends in: where `Module.compile` keeps what it made, or the forward."""
    return "forward" if module._compiled_call_impl is None else "_compiled_call_impl"
