"""Gives known kinds of layers in a backbone a fast forward for packed batches, with the same mathematics.

Nothing else in the model changes: parameters, their names and what is saved stay the same.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from textune.model.hugging import Forward, HuggingModel
from textune.model.native.copies import watch_optimizers
from textune.model.native.int8 import Int8Layer
from textune.model.native.kernels import Kernels
from textune.model.native.kinds import PRENORM, find_prenorm
from textune.model.native.layers import POSTNORM, EncoderLayer, FastLayer, find_postnorm, is_int8
from textune.model.native.prenorm import FastPrenormLayer, PrenormLayer


def install(hf: HuggingModel, kernels: Kernels) -> int:
    """Give each known layer of `hf` its fast forward; return the number of layers.

    A layer whose forward was already replaced (for recomputation in the backward pass, say) is not changed.
    """
    watch_optimizers()
    known = _known_layers(hf)
    for module, parts, is_last in known:
        module.forward = functools.partial(_forward, module, module.forward, _make(parts, kernels, is_last=is_last))
    return len(known)


def count_known(hf: HuggingModel) -> int:
    """How many layers `install` would change."""
    return len(_known_layers(hf))


def _known_layers(hf: HuggingModel) -> list[tuple[nn.Module, EncoderLayer | PrenormLayer, bool]]:
    """(layer, its parts, whether it is the last one)."""
    layers = [module for module in hf.base_model.modules() if type(module).__name__ in {*POSTNORM, *PRENORM}]
    found = [(module, find_postnorm(module) or find_prenorm(module), module is layers[-1]) for module in layers]
    return [
        (module, parts, is_last)
        for module, parts, is_last in found
        if parts is not None and "forward" not in vars(module)
    ]


def _make(
    parts: EncoderLayer | PrenormLayer, kernels: Kernels, *, is_last: bool
) -> FastLayer | FastPrenormLayer | Int8Layer:
    if isinstance(parts, EncoderLayer):
        return (Int8Layer if is_int8(parts) else FastLayer)(parts, kernels, is_last=is_last)
    return FastPrenormLayer(parts, kernels, is_last=is_last)


def _forward(
    module: nn.Module,
    original: Forward,
    fast: FastLayer | FastPrenormLayer | Int8Layer,
    hidden_states: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    # DeBERTa's layers take it instead of a mask.
    layout = kwargs.get("textune_layout", args[0] if args else None)
    is_fp16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16
    on_cpu = hidden_states.device.type == "cpu" and hidden_states.dtype == torch.float32
    if layout is None or getattr(layout, "kernels", None) is None or not on_cpu or is_fp16:
        return original(hidden_states, *args, **kwargs)
    return fast(hidden_states.squeeze(0), layout, training=module.training, **kwargs).unsqueeze(0)
