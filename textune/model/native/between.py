"""Kernel calls on tensors for what lies between the products of pre-norm layers; before `prenorm.py`.

Shapes: T tokens, H hidden, I inner width, n heads, d head width. Activations are float32 or bfloat16 ("low"); the
residual stream, statistics and vectors are float32. All tensors are contiguous but for the token and head strides of
[T, n, d].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from textune.model.native.calls import GatedCall, ResidualNormCall, RotaryCall, is_low, pointer, strided
from textune.model.native.kernels import Kernels

GATES = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2, "silu": 3, "swish": 3}
"""Activations of a gate: names in a backbone's configuration to the kernels' numbers."""


@dataclass(frozen=True)
class Addend:
    """dropout(x + bias), which is added to the residual stream; `bias` float32 [H]."""

    bias: torch.Tensor | None
    dropout: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Norm:
    """A layer norm, or, where it is not `centred`, a root mean square norm; vectors float32 [H]."""

    gamma: torch.Tensor
    beta: torch.Tensor | None
    eps: float
    centred: bool


class Normed(NamedTuple):
    """The result of a norm (`y` in the type of activations), and what its gradient needs: input float32 [T, H],
    statistics [T].
    """

    total_TH: torch.Tensor
    y_TH: torch.Tensor
    mean_T: torch.Tensor
    scale_T: torch.Tensor


class SumGradients(NamedTuple):
    """Gradients of residual + addend and its norm: of the residual float32, of x, of gamma, beta and the bias."""

    residual_TH: torch.Tensor
    x_TH: torch.Tensor | None
    gamma_H: torch.Tensor | None
    beta_H: torch.Tensor | None
    bias_H: torch.Tensor | None


def normalize(kernels: Kernels, norm: Norm, x_TH: torch.Tensor, dtype: torch.dtype) -> Normed:
    """norm(x) of x float32, in `dtype`."""
    return _normalize(kernels, norm, None, None, x_TH, x_TH, dtype)


def add_and_normalize(
    kernels: Kernels, norm: Norm, addend: Addend, x_TH: torch.Tensor, residual_TH: torch.Tensor
) -> Normed:
    """norm(residual + dropout(x + bias)), in the type of x."""
    return _normalize(kernels, norm, addend, x_TH, residual_TH, torch.empty_like(residual_TH), x_TH.dtype)


def add(kernels: Kernels, addend: Addend, x_TH: torch.Tensor, residual_TH: torch.Tensor) -> torch.Tensor:
    """float32 [T, H]: residual + dropout(x + bias)."""
    total_TH = torch.empty_like(residual_TH)
    call = _residual_norm(None, addend, residual_TH.shape, x_TH.dtype)
    call.x, call.residual = pointer(x_TH, residual_TH.shape, x_TH.dtype), pointer(residual_TH, residual_TH.shape)
    call.total = pointer(total_TH, residual_TH.shape)
    kernels.call("residual_norm_forward", call)
    return total_TH


def sum_backward(
    kernels: Kernels,
    grad_TH: torch.Tensor,
    *,
    norm: Norm | None = None,
    addend: Addend | None = None,
    normed: Normed | None = None,
    grad_y_TH: torch.Tensor | None = None,
    dtype: torch.dtype,
) -> SumGradients:
    """Gradients of the three functions above: `grad_TH` is that of the total from elsewhere, `grad_y_TH` that of the
    norm.
    """
    shape, vector = grad_TH.shape, grad_TH.shape[1:]
    call = _residual_norm(norm, addend, shape, dtype)
    call.grad = pointer(grad_TH, shape)
    total_TH, x_TH, vectors = grad_TH, None, dict.fromkeys(("gamma", "beta", "bias"), grad_TH.new_empty(0))
    if norm is not None and normed is not None and grad_y_TH is not None:
        total_TH = torch.empty_like(grad_TH)
        call.total, call.grad_y = pointer(normed.total_TH, shape), pointer(grad_y_TH, shape, dtype)
        call.means, call.scales = pointer(normed.mean_T, shape[:1]), pointer(normed.scale_T, shape[:1])
        call.grad_total = pointer(total_TH, shape)
        vectors["gamma"] = torch.empty_like(norm.gamma)
        call.grad_gamma = pointer(vectors["gamma"], vector)
        if norm.beta is not None:
            vectors["beta"] = torch.empty_like(norm.beta)
            call.grad_beta = pointer(vectors["beta"], vector)
    if addend is not None:
        # Without dropout and in fp32, the residual's gradient is also that of x.
        is_same = dtype == torch.float32 and not addend.dropout
        x_TH = total_TH if is_same else torch.empty_like(grad_TH, dtype=dtype)
        call.grad_x = None if is_same and addend.bias is None else pointer(x_TH, shape, dtype)
        if addend.bias is not None:
            vectors["bias"] = torch.empty_like(addend.bias)
            call.grad_bias = pointer(vectors["bias"], vector)
    if call.grad_x is None and call.grad_y is None:
        return SumGradients(total_TH, x_TH, None, None, None)
    kernels.call("residual_norm_backward", call)
    gamma, beta, bias = (one if len(one) else None for one in vectors.values())
    return SumGradients(total_TH, x_TH, gamma, beta, bias)


def gate(
    kernels: Kernels, x_TI: torch.Tensor, bias_I: torch.Tensor | None, kind: int, dropout: float, seed: int
) -> torch.Tensor:
    """dropout(activation(first half of x + bias) * second half of x + bias): [T, 2I] to [T, I]."""
    y_TI = x_TI.new_empty(len(x_TI), x_TI.shape[1] // 2)
    call = _gated(x_TI, bias_I, kind, dropout, seed)
    call.y = pointer(y_TI, y_TI.shape, x_TI.dtype)
    kernels.call("gated_forward", call)
    return y_TI


def gate_backward(
    kernels: Kernels,
    x_TI: torch.Tensor,
    bias_I: torch.Tensor | None,
    grad_TI: torch.Tensor,
    kind: int,
    dropout: float,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradients of x [T, 2I] and of the bias."""
    grad_x_TI = torch.empty_like(x_TI)
    grad_bias_I = None if bias_I is None else torch.empty_like(bias_I)
    call = _gated(x_TI, bias_I, kind, dropout, seed)
    call.grad_y = pointer(grad_TI, (len(x_TI), x_TI.shape[1] // 2), x_TI.dtype)
    call.grad_x = pointer(grad_x_TI, x_TI.shape, x_TI.dtype)
    call.grad_bias = None if grad_bias_I is None else pointer(grad_bias_I, x_TI.shape[1:])
    kernels.call("gated_backward", call)
    return grad_x_TI, grad_bias_I


@dataclass(frozen=True)
class Rotation:
    """The rotation of the numbers of a head at each token: both float32 [T, d]."""

    cosines_Td: torch.Tensor
    sines_Td: torch.Tensor


def rotate(
    kernels: Kernels, rotation: Rotation, source_Tnd: torch.Tensor, result_Tnd: torch.Tensor, norm: Norm | None = None
) -> None:
    """Write rotate(norm(source)) into `result_Tnd`, which may be the source where there is no norm."""
    kernels.call("rotary_forward", _rotary(rotation, source_Tnd, result_Tnd, norm))


def rotate_backward(
    kernels: Kernels, rotation: Rotation, source_Tnd: torch.Tensor, grad_Tnd: torch.Tensor, norm: Norm | None = None
) -> torch.Tensor | None:
    """Replace the gradient of `rotate`'s result by that of its source; returns the gradient of the norm's gamma."""
    call = _rotary(rotation, source_Tnd, grad_Tnd, norm)
    grad_gamma_d = None if norm is None else torch.empty_like(norm.gamma)
    call.grad_gamma = None if grad_gamma_d is None else pointer(grad_gamma_d, (source_Tnd.shape[2],))
    kernels.call("rotary_backward", call)
    return grad_gamma_d


def _normalize(
    kernels: Kernels,
    norm: Norm,
    addend: Addend | None,
    x_TH: torch.Tensor | None,
    residual_TH: torch.Tensor,
    total_TH: torch.Tensor,
    dtype: torch.dtype,
) -> Normed:
    shape = residual_TH.shape
    y_TH = torch.empty_like(residual_TH, dtype=dtype)
    mean_T, scale_T = residual_TH.new_empty(len(y_TH)), residual_TH.new_empty(len(y_TH))
    call = _residual_norm(norm, addend, shape, dtype)
    call.residual, call.total = pointer(residual_TH, shape), pointer(total_TH, shape)
    call.x = None if x_TH is None else pointer(x_TH, shape, dtype)
    call.y, call.means, call.scales = (
        pointer(y_TH, shape, dtype),
        pointer(mean_T, shape[:1]),
        pointer(scale_T, shape[:1]),
    )
    kernels.call("residual_norm_forward", call)
    return Normed(total_TH, y_TH, mean_T, scale_T)


def _residual_norm(
    norm: Norm | None, addend: Addend | None, shape: torch.Size, dtype: torch.dtype
) -> ResidualNormCall:
    rows, width = shape
    call = ResidualNormCall(low=is_low(dtype), rows=rows, width=width)
    if norm is not None:
        call.eps, call.centred, call.gamma = norm.eps, norm.centred, pointer(norm.gamma, (width,))
        call.beta = None if norm.beta is None else pointer(norm.beta, (width,))
    if addend is not None:
        call.dropout, call.seed = addend.dropout, addend.seed
        call.bias = None if addend.bias is None else pointer(addend.bias, (width,))
    return call


def _gated(x_TI: torch.Tensor, bias_I: torch.Tensor | None, kind: int, dropout: float, seed: int) -> GatedCall:
    rows, both = x_TI.shape
    return GatedCall(
        low=is_low(x_TI.dtype),
        kind=kind,
        rows=rows,
        width=both // 2,
        dropout=dropout,
        seed=seed,
        x=pointer(x_TI, x_TI.shape, x_TI.dtype),
        bias=None if bias_I is None else pointer(bias_I, (both,)),
    )


def _rotary(rotation: Rotation, source_Tnd: torch.Tensor, result_Tnd: torch.Tensor, norm: Norm | None) -> RotaryCall:
    tokens, heads, width = source_Tnd.shape
    call = RotaryCall(
        low=is_low(source_Tnd.dtype),
        tokens=tokens,
        heads=heads,
        d=width,
        cosines=pointer(rotation.cosines_Td, (tokens, width)),
        sines=pointer(rotation.sines_Td, (tokens, width)),
    )
    if norm is not None:
        call.eps, call.gamma = norm.eps, pointer(norm.gamma, (width,))
    for place, tensor in ((call.source, source_Tnd), (call.result, result_Tnd)):
        place.data, place.token, place.head = strided(tensor, source_Tnd.shape, source_Tnd.dtype)
    return call
