"""Layers as prediction computes them: whole blocks of rows behind their attention, with weights laid out for it once.

    x --project--> query, key, value --attention kernel--> --finish_layer--> y

Products are the kernels' own here, in fp32, bf16 or bytes, so that nothing between them goes through memory. Of bytes, weights
have one scale for each output, found once, and activations 256 levels between the lowest and the highest number of each token,
found as they come: a text scores the same alone and in any batch. Sums are exact, and all else is fp32.

Shapes: T tokens, H hidden, I inputs, O outputs, R rows, h heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from textune.errors import ModelError
from textune.model.native.calls import FinishLayerCall, PanelCall, PanelWeights, ProjectCall, pointer
from textune.model.native.kernels import AttentionShape, Kernels

if TYPE_CHECKING:
    from textune.model.attention import PackedLayout
    from textune.model.native.layers import EncoderLayer

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
"""Numbers of a product to the kernels' numbers for them."""
_SMALLEST = 1e-30
"""Stands for the scale of what is all zero."""


def products_dtype() -> torch.dtype:
    """What products of floats are computed in: as autocast says, where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def can_multiply(kernels: Kernels, dtype: torch.dtype) -> bool:
    """Whether kernels of this level have products of such numbers."""
    return dtype in {torch.float32, torch.int8} or (dtype == torch.bfloat16 and kernels.level == "x86-64-v4-bf16")


class Weights:
    """The weights and bias of one linear layer in the panels that kernels read; no parameter, so nothing trains or saves it."""

    def __init__(self, kernels: Kernels, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, dtype: torch.dtype) -> None:
        """`dtype`: one that the kernels can multiply."""
        weight_OI = weight_OI.detach().float()
        self.dtype = dtype
        self.outputs, self.inputs = weight_OI.shape
        shape = PanelCall(kind=_KINDS[dtype], low=dtype == torch.bfloat16)
        kernels.call("panel", shape)
        vectors = [torch.zeros(self.outputs) if bias_O is None else bias_O.detach().float()]
        if dtype == torch.int8:
            scale_O = weight_OI.abs().amax(1).clamp_(min=_SMALLEST) / shape.largest
            weight_OI = (weight_OI / scale_O.unsqueeze(1)).round_()
            vectors += [scale_O, scale_O * weight_OI.sum(1)]
        filler = -self.outputs % shape.panel
        self._panels = _in_panels(weight_OI.to(dtype), shape.panel)
        self._vectors = [functional.pad(vector, (0, filler)) for vector in vectors]

    def struct(self) -> PanelWeights:
        """As kernels take them."""
        addresses = [vector.data_ptr() for vector in self._vectors]
        bias, scale, sums = addresses if len(addresses) == 3 else (*addresses, None, None)
        return PanelWeights(self._panels.data_ptr(), bias, scale, sums, self.inputs, self.outputs)


def _in_panels(weight_OI: torch.Tensor, panel: int) -> torch.Tensor:
    """[O, I] to [panels, units, panel, numbers of a unit of 4 bytes], filled up with zeros."""
    per_unit = 4 // weight_OI.element_size()
    filled = functional.pad(weight_OI, (0, -weight_OI.shape[1] % per_unit, 0, -len(weight_OI) % panel))
    return filled.view(len(filled) // panel, panel, -1, per_unit).transpose(1, 2).contiguous()


def project(kernels: Kernels, weights: Sequence[Weights], x_TI: torch.Tensor) -> torch.Tensor:
    """x float32 [T, I] times up to three layers of the same numbers: [T, sum of O], bf16 where these are, else float32."""
    dtype, inputs = weights[0].dtype, weights[0].inputs
    low = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    y_TO = torch.empty(len(x_TI), sum(each.outputs for each in weights), dtype=low)
    call = ProjectCall(
        kind=_KINDS[dtype],
        low=low == torch.bfloat16,
        rows=len(x_TI),
        count=len(weights),
        x=pointer(x_TI, (len(x_TI), inputs)),
        y=y_TO.data_ptr(),
    )
    for place, each in enumerate(weights):
        call.weights[place] = each.struct()
    kernels.call("project", call)
    return y_TO


class Int8Linear(nn.Module):
    """Takes the place of a linear layer, with int8 weights: float [..., I] in, [..., O] of the same type out."""

    weight = None
    """T5 asks its layers for the type of their weights: this one has none to follow."""

    def __init__(self, kernels: Kernels, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        super().__init__()
        self._kernels = kernels
        self.weights = Weights(kernels, weight_OI, bias_O, torch.int8)
        self.out_features, self.in_features = weight_OI.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's product with quantised activations."""
        x_TI = x.reshape(-1, self.in_features).float().contiguous()
        return project(self._kernels, [self.weights], x_TI).view(*x.shape[:-1], -1).to(x.dtype)

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ModelError("a model with int8 weights is for prediction alone and cannot be saved.", hint="Save it before.")


class InferenceLayer:
    """One layer of a backbone without what a backward pass needs; calling it computes a packed batch.

    Where a head reads the first token of each row alone, the last layer computes its answers for those tokens only, and zeros
    for the others.
    """

    def __init__(self, parts: EncoderLayer, kernels: Kernels, *, is_last: bool) -> None:
        self.parts = parts
        self.kernels = kernels
        self.is_last = is_last
        self._state: tuple[Any, ...] = ()
        self._weights: list[Weights] = []

    def __call__(self, x_TH: torch.Tensor, layout: PackedLayout, *, training: bool = False) -> torch.Tensor:
        """y float32 [T, H] of x float32 [T, H]."""
        assert not training, "made for prediction alone"
        heads, x_TH = self.parts.num_heads, x_TH.contiguous()
        query, key, value, *rest = self._current_weights(products_dtype())
        width = query.outputs // heads
        qkv_T3hd = project(self.kernels, (query, key, value), x_TH).view(-1, 3, heads, width)
        reads_R = layout.starts_B if self.is_last and layout.reads_first else None
        shape = AttentionShape(layout.starts_B, layout.lengths_B, width**-0.5, first_only=reads_R is not None)
        attended_RH = self.kernels.attention(shape, *qkv_T3hd.unbind(1)).flatten(1)
        residual_RH = x_TH if reads_R is None else x_TH.index_select(0, reads_R)
        y_RH = self._finish(rest, attended_RH, residual_RH)
        return y_RH if reads_R is None else torch.zeros_like(x_TH).index_copy_(0, reads_R, y_RH)

    def _finish(self, weights: list[Weights], attended_RH: torch.Tensor, residual_RH: torch.Tensor) -> torch.Tensor:
        first, second, shape = self.parts.attention_norm, self.parts.output_norm, residual_RH.shape
        y_RH = torch.empty_like(residual_RH)
        mix, inner, output = weights
        call = FinishLayerCall(
            kind=_KINDS[mix.dtype],
            low=mix.dtype == torch.bfloat16,
            activation=self.parts.activation,
            rows=len(residual_RH),
            first_eps=first.eps,
            second_eps=second.eps,
            attended=pointer(attended_RH, (len(residual_RH), mix.inputs), attended_RH.dtype),
            residual=pointer(residual_RH, (len(residual_RH), mix.outputs)),
            y=pointer(y_RH, shape),
            mix=mix.struct(),
            inner=inner.struct(),
            output=output.struct(),
        )
        call.first_gamma, call.first_beta = pointer(first.weight, shape[1:]), pointer(first.bias, shape[1:])
        call.second_gamma, call.second_beta = pointer(second.weight, shape[1:]), pointer(second.bias, shape[1:])
        self.kernels.call("finish_layer", call)
        return y_RH

    def _current_weights(self, dtype: torch.dtype) -> list[Weights]:
        """Of query, key, value, the attention's output, inner and output; laid out anew when a weight has changed."""
        linears = self.parts.linears()
        floats = [linear for linear in linears if isinstance(linear, nn.Linear)]
        state = (dtype, *((p.data_ptr(), p._version) for linear in floats for p in (linear.weight, linear.bias)))
        if state != self._state:
            self._weights = [
                linear.weights if isinstance(linear, Int8Linear) else Weights(self.kernels, linear.weight, linear.bias, dtype)
                for linear in linears
            ]
            self._state = state
        return self._weights
