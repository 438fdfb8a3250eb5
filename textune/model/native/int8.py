"""Linear layers with int8 weights, and whole encoder layers of them, only for prediction.

    x --project--> query, key, value --attention kernel--> --finish_layer--> y

Weights have one scale per output, computed once. Activations have 256 levels between the lowest and the highest
number of each token, computed on the fly, so that a text scores the same alone and in any batch. Sums of products are
exact, all else is fp32. In a whole layer nothing goes through memory between the attention and the next layer.

Shapes: T tokens, H hidden, I inputs, O outputs, R rows, h heads, d head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional

from textune.errors import ModelError
from textune.model.hugging import FamilyModule
from textune.model.native.calls import Call, Fields, doubles, longs, pointer, pointers
from textune.model.native.kernels import AttentionShape, Kernels

if TYPE_CHECKING:
    from textune.model.attention import PackedLayout
    from textune.model.native.layers import EncoderLayer

_SMALLEST = 1e-30
"""The scale of weights that are all zero."""


class PanelCall(Call):
    """Of `int8_panel`; the fields are its answer."""

    _fields_: ClassVar[Fields] = longs("panel", "largest")


class PanelWeights(ctypes.Structure):
    """Int8 weights in panels, with a bias, a scale and a sum for each output."""

    _fields_: ClassVar[Fields] = [
        *pointers("panels", "bias", "scale", "sums"),
        *longs("inputs", "outputs", "panel", "largest"),
    ]


class ProjectCall(Call):
    """Of `int8_project`."""

    _fields_: ClassVar[Fields] = [*longs("rows", "count"), *pointers("x", "y"), ("weights", PanelWeights * 3)]


class FinishLayerCall(Call):
    """Of `int8_finish_layer`."""

    _fields_: ClassVar[Fields] = [
        *longs("activation", "rows"),
        *doubles("first_eps", "second_eps"),
        *pointers("attended", "residual", "first_gamma", "first_beta", "second_gamma", "second_beta", "y"),
        *((name, PanelWeights) for name in ("mix", "inner", "output")),
    ]


class Weights:
    """The weights and bias of one linear layer, in the panels that kernels read; not a parameter, so never trained or
    saved.
    """

    def __init__(self, kernels: Kernels, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        weight_OI = weight_OI.detach().float()
        self.outputs, self.inputs = weight_OI.shape
        shape = PanelCall()
        kernels.call("int8_panel", shape)
        self._panel, self._largest = (
            shape.panel,
            shape.largest,
        )  # other kernels refuse the weights: they read other panels
        scale_O = weight_OI.abs().amax(1).clamp_(min=_SMALLEST) / shape.largest
        weight_OI = (weight_OI / scale_O.unsqueeze(1)).round_()
        bias_O = torch.zeros(self.outputs) if bias_O is None else bias_O.detach().float()
        self._panels = _in_panels(weight_OI.to(torch.int8), shape.panel)
        filler = -self.outputs % shape.panel
        self._vectors = [
            functional.pad(vector, (0, filler)) for vector in (bias_O, scale_O, scale_O * weight_OI.sum(1))
        ]

    def struct(self) -> PanelWeights:
        """As kernels take them."""
        bias, scale, sums = (vector.data_ptr() for vector in self._vectors)
        sizes = self.inputs, self.outputs, self._panel, self._largest
        return PanelWeights(self._panels.data_ptr(), bias, scale, sums, *sizes)


def _in_panels(weight_OI: torch.Tensor, panel: int) -> torch.Tensor:
    """[O, I] to [panels, units, panel, 4], filled up with zeros."""
    filled = functional.pad(weight_OI, (0, -weight_OI.shape[1] % 4, 0, -len(weight_OI) % panel))
    return filled.view(len(filled) // panel, panel, -1, 4).transpose(1, 2).contiguous()


def project(kernels: Kernels, weights: Sequence[Weights], x_TI: torch.Tensor) -> torch.Tensor:
    """x float32 [T, I] through up to three layers: float32 [T, sum of O]."""
    rows, y_TO = len(x_TI), torch.empty(len(x_TI), sum(each.outputs for each in weights))
    call = ProjectCall(rows=rows, count=len(weights), x=pointer(x_TI, (rows, weights[0].inputs)), y=y_TO.data_ptr())
    for place, each in enumerate(weights):
        call.weights[place] = each.struct()
    kernels.call("int8_project", call)
    return y_TO


class Int8Linear(nn.Module):
    """Replaces a linear layer, with int8 weights: float [..., I] in, [..., O] of the same type out."""

    weight = None
    """T5 reads the type of its layers' weights; this layer has no such type."""

    def __init__(self, kernels: Kernels, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        super().__init__()
        self._kernels = kernels
        self.weights = Weights(kernels, weight_OI, bias_O)
        self.out_features, self.in_features = weight_OI.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's product with quantised activations."""
        x_TI = x.reshape(-1, self.in_features).float().contiguous()
        return project(self._kernels, [self.weights], x_TI).view(*x.shape[:-1], -1).to(x.dtype)

    def _save_to_state_dict(self, *_: object) -> None:
        raise ModelError(
            "a model with int8 weights can only predict; it cannot be saved.", hint="Save it before quantising."
        )


class Int8Layer:
    """One layer of a backbone whose linear layers are int8; calling it computes a packed batch.

    Where a head reads the first token of each row alone, the last layer computes its answers for those tokens only,
    and zeros for the others.
    """

    def __init__(self, parts: EncoderLayer, kernels: Kernels, *, is_last: bool) -> None:
        linears: tuple[FamilyModule, ...] = parts.linears()
        self.parts = parts
        self.kernels = kernels
        self.is_last = is_last
        self._weights: list[Weights] = [linear.weights for linear in linears]

    def __call__(self, x_TH: torch.Tensor, layout: PackedLayout, *, training: bool, **_: object) -> torch.Tensor:
        """y float32 [T, H] of x float32 [T, H]."""
        assert not training, "made for prediction alone"
        heads, projections, x_TH = self.parts.num_heads, self._weights[:3], x_TH.contiguous()
        width = projections[0].outputs // heads
        qkv_T3hd = project(self.kernels, projections, x_TH).view(-1, 3, heads, width)
        reads_R = layout.starts_B if self.is_last and layout.reads_first else None
        shape = AttentionShape(layout.starts_B, layout.lengths_B, width**-0.5, first_only=reads_R is not None)
        attended_RH = self.kernels.attention(shape, *qkv_T3hd.unbind(1)).flatten(1)
        y_RH = self._finish(attended_RH, x_TH if reads_R is None else x_TH.index_select(0, reads_R))
        return y_RH if reads_R is None else torch.zeros_like(x_TH).index_copy_(0, reads_R, y_RH)

    def _finish(self, attended_RH: torch.Tensor, residual_RH: torch.Tensor) -> torch.Tensor:
        first, second, shape = self.parts.attention_norm, self.parts.output_norm, residual_RH.shape
        y_RH = torch.empty_like(residual_RH)
        mix, inner, output = self._weights[3:]
        call = FinishLayerCall(
            activation=self.parts.activation,
            rows=shape[0],
            first_eps=first.eps,
            second_eps=second.eps,
            attended=pointer(attended_RH, (shape[0], mix.inputs)),
            residual=pointer(residual_RH, (shape[0], mix.outputs)),
            y=pointer(y_RH, shape),
            mix=mix.struct(),
            inner=inner.struct(),
            output=output.struct(),
        )
        call.first_gamma, call.first_beta = pointer(first.weight, shape[1:]), pointer(first.bias, shape[1:])
        call.second_gamma, call.second_beta = pointer(second.weight, shape[1:]), pointer(second.bias, shape[1:])
        self.kernels.call("int8_finish_layer", call)
        return y_RH
