"""Linear layers with int8 weights, for prediction on processors: a quarter of the memory, and faster than fp32.

Weights have one scale for each output, found once; activations one for each token, found as they come, so that a text scores
the same alone and in any batch. Products are oneDNN's (u8 x s8, summed exactly in int32); all else stays fp32. A quantised
model predicts only: it cannot be trained, and saving it is an error.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.errors import ModelError
from textune.model import processor
from textune.model.backbone import TextModel

_LEVELS = 127
_MIDDLE = 128
"""Zero among the unsigned levels, 1 to 255."""
_ROUNDING = 2.0**23
"""From here to 2**24 float32 holds the integers: adding it rounds, and leaves the integer in the lowest bits."""
_SMALLEST = 1e-30
"""Stands for the scale of what is all zero."""


class Int8Linear(nn.Module):
    """Takes the place of a linear layer: float [..., I] in, [..., O] of the same type out."""

    weight = None
    """T5 asks its layers for the type of their weights: this one has none to follow."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        super().__init__()
        weight_OI = weight_OI.detach().float().contiguous()
        # No parameters or buffers: nothing here is trained, moved to another device or saved.
        self._scale_O = weight_OI.abs().amax(1).clamp_(min=_SMALLEST) / _LEVELS
        self._weight = torch.ops.onednn.qlinear_prepack((weight_OI / self._scale_O.unsqueeze(1)).round_().to(torch.int8), None)
        self._zero_O = torch.zeros(len(weight_OI), dtype=torch.int64)
        self._bias_O = torch.zeros(len(weight_OI)) if bias_O is None else bias_O.detach().float()
        self._middle_I = torch.full((weight_OI.shape[1],), _ROUNDING + _MIDDLE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's product with quantised activations."""
        x_TI = x.reshape(-1, x.shape[-1]).float()
        peak_T1 = torch.maximum(x_TI.amax(1, keepdim=True), -x_TI.amin(1, keepdim=True)).clamp_(min=_SMALLEST)
        level_TI = torch.addcmul(self._middle_I, x_TI, _LEVELS / peak_T1).view(torch.int32).to(torch.uint8)
        product_TO = torch.ops.onednn.qlinear_pointwise(
            level_TI,
            1 / _LEVELS,
            _MIDDLE,
            self._weight,
            self._scale_O,
            self._zero_O,
            None,  # the bias comes behind the scale of the token
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return torch.addcmul(self._bias_O, product_TO, peak_T1).view(*x.shape[:-1], -1).to(x.dtype)

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ModelError("a model with int8 weights is for prediction alone and cannot be saved.", hint="Save it before.")


def require_int8(device: Literal["auto", "cpu", "cuda"]) -> None:
    """ModelError where `--precision int8` cannot be: on another device, or on a processor without products of bytes."""
    if device == "cuda":
        raise ModelError("--precision int8 computes on the processor, not on --device cuda.", hint="Use --device cpu.")
    if not processor.has_byte_products():
        raise ModelError(
            "--precision int8, but this processor has no fast products of bytes (VNNI).", hint="Use --precision auto."
        )


def quantize_linears(model: TextModel) -> int:
    """Give the backbone's linear layers int8 weights, in place; returns how many there are. The head stays as it is.

    The model must be on the processor. ModelError where the backbone has no such layers.
    """
    model.requires_grad_(False)
    replaced: dict[int, Int8Linear] = {}
    for name, parent in list(model.hf.base_model.named_modules()):
        if "pooler" in name.split("."):
            continue
        for key, child in parent._modules.items():
            # Subclasses may compute something else.
            if type(child) is nn.Linear:
                weight_OI = child.weight
            elif type(child) is Conv1D:
                weight_OI = child.weight.t()
            else:
                continue
            if id(child) not in replaced:
                replaced[id(child)] = Int8Linear(weight_OI, child.bias)
            parent._modules[key] = replaced[id(child)]
    if not replaced:
        raise ModelError(
            f"--precision int8: {model.hf.config.model_type} computes without linear layers of PyTorch's own.",
            hint="Use --precision auto.",
        )
    return len(replaced)
