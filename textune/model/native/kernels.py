"""The compiled kernels as Python calls on tensors; after `libraries.py` and `calls.py`, before `layers.py`.

Shapes: T tokens, H hidden, I inner width, h heads, g key heads, d head width, B rows. Activations are float32 or
bfloat16 ("low"), everything else float32. All tensors must be contiguous but for the token and head strides of
attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from textune.model.hugging import Context
from textune.model.native.calls import (
    ActivationCall,
    AttentionCall,
    Call,
    ColumnSumsCall,
    DropoutCall,
    NormCall,
    is_low,
    make_call,
    pointer,
    strided,
)
from textune.model.native.libraries import available_levels, load_library

ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2}
"""Names in a backbone's configuration to the kernels' numbers."""


@dataclass(frozen=True)
class Norm:
    """The parameters of y = layer_norm(residual + dropout(x + bias)): vectors float32 [H]."""

    bias: torch.Tensor
    gamma: torch.Tensor
    beta: torch.Tensor
    eps: float
    dropout: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class AttentionShape:
    """The parameters of attention within rows; `starts_B` and `lengths_B` are int64, `window` 0 means no limit.

    With `first_only` only the first token of each row attends: the output is [B, h, d].
    """

    starts_B: torch.Tensor
    lengths_B: torch.Tensor
    scale: float
    causal: bool = False
    window: int = 0
    dropout: float = 0.0
    seed: int = 0
    first_only: bool = False


class Kernels:
    """The compiled kernels of the best level that this processor has, or of `level`; KernelError if there are none.

    A tensor that a kernel cannot take (another device, type, shape or layout) raises ValueError; running out of
    memory raises MemoryError.
    """

    def __init__(self, level: str | None = None) -> None:
        self.level, self._library = load_library(level)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles of a model use the same level, or else the best level of the processor
        that opens them.
        """
        return _reopen, (self.level,)

    def call(self, name: str, arguments: Call) -> None:
        """One kernel; its answer is checked."""
        make_call(self._library, name, arguments)

    def activation(self, x_TI: torch.Tensor, bias_I: torch.Tensor, kind: int) -> torch.Tensor:
        """activation(x + bias)."""
        y_TI = torch.empty_like(x_TI)
        self.call("activation_forward", _activation(x_TI, bias_I, kind, y=pointer(y_TI, x_TI.shape, x_TI.dtype)))
        return y_TI

    def activation_backward(
        self, x_TI: torch.Tensor, bias_I: torch.Tensor, grad_TI: torch.Tensor, kind: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of x (in the place of `grad_TI`) and of the bias."""
        grad_bias_I = torch.empty_like(bias_I)
        grads = {"grad": pointer(grad_TI, x_TI.shape, x_TI.dtype), "grad_bias": pointer(grad_bias_I, bias_I.shape)}
        self.call("activation_backward", _activation(x_TI, bias_I, kind, **grads))
        return grad_TI, grad_bias_I

    def dropout(self, x_TH: torch.Tensor, probability: float, seed: int) -> torch.Tensor:
        """x with a share of zeros, the rest scaled up; its own gradient when called with the gradient
        of its output.
        """
        y_TH = torch.empty_like(x_TH)
        rows, width = x_TH.shape
        x, y = pointer(x_TH, x_TH.shape, x_TH.dtype), pointer(y_TH, x_TH.shape, x_TH.dtype)
        self.call(
            "dropout",
            DropoutCall(low=is_low(x_TH.dtype), rows=rows, width=width, probability=probability, seed=seed, x=x, y=y),
        )
        return y_TH

    def column_sums(self, x_TI: torch.Tensor) -> torch.Tensor:
        """float32 [I]: the sum of each column."""
        rows, width = x_TI.shape
        sums_I = x_TI.new_empty(width, dtype=torch.float32)
        x, sums = pointer(x_TI, x_TI.shape, x_TI.dtype), pointer(sums_I, (width,))
        self.call("column_sums", ColumnSumsCall(low=is_low(x_TI.dtype), rows=rows, width=width, x=x, sums=sums))
        return sums_I

    def norm(
        self, norm: Norm, x_TH: torch.Tensor, residual_TH: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(y float32, y in the type of x, mean [T], 1 / standard deviation [T])."""
        y_TH = torch.empty_like(residual_TH)
        low_TH = y_TH if x_TH.dtype == torch.float32 else torch.empty_like(x_TH)
        mean_T, scale_T = y_TH.new_empty(len(y_TH)), y_TH.new_empty(len(y_TH))
        call = _norm(norm, x_TH, residual_TH, mean_T, scale_T)
        call.y = pointer(y_TH, x_TH.shape)
        call.y_low = None if low_TH is y_TH else pointer(low_TH, x_TH.shape, x_TH.dtype)
        self.call("norm_forward", call)
        return y_TH, low_TH, mean_T, scale_T

    def norm_backward(
        self,
        norm: Norm,
        x_TH: torch.Tensor,
        residual_TH: torch.Tensor,
        mean_T: torch.Tensor,
        scale_T: torch.Tensor,
        grad_TH: torch.Tensor,
        grad_low_TH: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of (residual, x, gamma, beta, bias), where y's gradient is `grad_TH` float32 + `grad_low_TH`."""
        grad_residual_TH, grad_x_TH = torch.empty_like(residual_TH), torch.empty_like(x_TH)
        grad_gamma_H, grad_beta_H, grad_bias_H = (torch.empty_like(norm.gamma) for _ in range(3))
        call = _norm(norm, x_TH, residual_TH, mean_T, scale_T)
        call.grad = pointer(grad_TH, x_TH.shape)
        call.grad_low = None if grad_low_TH is None else pointer(grad_low_TH, x_TH.shape, x_TH.dtype)
        call.grad_residual = pointer(grad_residual_TH, x_TH.shape)
        call.grad_x = pointer(grad_x_TH, x_TH.shape, x_TH.dtype)
        width = (x_TH.shape[1],)
        call.grad_gamma, call.grad_beta = pointer(grad_gamma_H, width), pointer(grad_beta_H, width)
        call.grad_bias = pointer(grad_bias_H, width)
        self.call("norm_backward", call)
        return grad_residual_TH, grad_x_TH, grad_gamma_H, grad_beta_H, grad_bias_H

    def attention(
        self, shape: AttentionShape, query_Thd: torch.Tensor, key_Tgd: torch.Tensor, value_Tgd: torch.Tensor
    ) -> torch.Tensor:
        """Attention within each row, [T, h, d]; zero for tokens of no row."""
        num_answers = len(shape.starts_B) if shape.first_only else len(query_Thd)
        output_Thd = torch.empty(num_answers, *query_Thd.shape[1:], dtype=query_Thd.dtype)
        self.call("attention_forward", _attention(shape, query_Thd, key_Tgd, value_Tgd, output_Thd))
        return output_Thd

    def attention_backward(
        self,
        shape: AttentionShape,
        query_Thd: torch.Tensor,
        key_Tgd: torch.Tensor,
        value_Tgd: torch.Tensor,
        grad_Thd: torch.Tensor,
        grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> None:
        """Write the gradients of query, key and value into `grads`."""
        call = _attention(shape, query_Thd, key_Tgd, value_Tgd, grad_Thd)
        dtype, places = query_Thd.dtype, (call.grad_query, call.grad_key, call.grad_value)
        for place, grad, like in zip(places, grads, (query_Thd, key_Tgd, value_Tgd), strict=True):
            place.data, place.token, place.head = strided(grad, like.shape, dtype)
        self.call("attention_backward", call)


def _reopen(level: str) -> Kernels:
    return Kernels(level if level in available_levels() else None)


def _activation(x_TI: torch.Tensor, bias_I: torch.Tensor, kind: int, **places: int) -> ActivationCall:
    rows, width = x_TI.shape
    x, bias = pointer(x_TI, x_TI.shape, x_TI.dtype), pointer(bias_I, (width,))
    return ActivationCall(low=is_low(x_TI.dtype), kind=kind, rows=rows, width=width, x=x, bias=bias, **places)


def _norm(
    norm: Norm, x_TH: torch.Tensor, residual_TH: torch.Tensor, mean_T: torch.Tensor, scale_T: torch.Tensor
) -> NormCall:
    rows, width = x_TH.shape
    return NormCall(
        low=is_low(x_TH.dtype),
        rows=rows,
        width=width,
        eps=norm.eps,
        dropout=norm.dropout,
        seed=norm.seed,
        x=pointer(x_TH, x_TH.shape, x_TH.dtype),
        bias=pointer(norm.bias, (width,)),
        residual=pointer(residual_TH, x_TH.shape),
        gamma=pointer(norm.gamma, (width,)),
        beta=pointer(norm.beta, (width,)),
        means=pointer(mean_T, (rows,)),
        scales=pointer(scale_T, (rows,)),
    )


def _attention(
    shape: AttentionShape, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor
) -> AttentionCall:
    tokens, heads, width = query.shape
    rows = len(shape.lengths_B)
    call = AttentionCall(
        low=is_low(query.dtype),
        rows=rows,
        tokens=tokens,
        heads=heads,
        key_heads=key.shape[1],
        d=width,
        window=shape.window,
        causal=shape.causal,
        first_only=shape.first_only,
        scale=shape.scale,
        dropout=shape.dropout,
        seed=shape.seed,
        starts=pointer(shape.starts_B, (rows,), torch.int64),
        lengths=pointer(shape.lengths_B, (rows,), torch.int64),
    )
    keys = (tokens, key.shape[1], width)
    answers = (rows if shape.first_only else tokens, heads, width)
    places = (call.query, call.key, call.value, call.output)
    for place, tensor, like in zip(
        places, (query, key, value, output), (query.shape, keys, keys, answers), strict=True
    ):
        place.data, place.token, place.head = strided(tensor, like, query.dtype)
    return call


def kernel_attention(
    kernels: Kernels, shape: AttentionShape, query_Thd: torch.Tensor, key_Tgd: torch.Tensor, value_Tgd: torch.Tensor
) -> torch.Tensor:
    """`Kernels.attention` with its gradient; the seed of dropout is drawn here."""
    if shape.dropout:
        shape = replace(shape, seed=draw_seeds(1)[0])
    output: torch.Tensor = _Attention.apply(*(_rows(t) for t in (query_Thd, key_Tgd, value_Tgd)), kernels, shape)
    return output


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context,
        query_Thd: torch.Tensor,
        key_Tgd: torch.Tensor,
        value_Tgd: torch.Tensor,
        kernels: Kernels,
        shape: AttentionShape,
    ) -> torch.Tensor:
        ctx.save_for_backward(query_Thd, key_Tgd, value_Tgd)
        ctx.kernels, ctx.shape = kernels, shape
        return kernels.attention(shape, query_Thd, key_Tgd, value_Tgd)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_Thd: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors = ctx.saved_tensors
        query_grad, key_grad, value_grad = (torch.empty(t.shape, dtype=t.dtype) for t in tensors)
        ctx.kernels.attention_backward(ctx.shape, *tensors, _rows(grad_Thd), (query_grad, key_grad, value_grad))
        return query_grad, key_grad, value_grad, None, None


def _rows(tensor_Thd: torch.Tensor) -> torch.Tensor:
    """With the numbers of a head side by side, as the kernels read them."""
    return tensor_Thd if tensor_Thd.stride(2) == 1 else tensor_Thd.contiguous()


class FastDropout(nn.Dropout):
    """`nn.Dropout` whose mask is drawn by the kernels, several times faster than PyTorch's on a CPU, and is never
    stored.
    """

    kernels: Kernels

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., H] to the same shape."""
        known = input.dtype in {torch.float32, torch.bfloat16} and input.device.type == "cpu" and 0 < self.p < 1
        if not self.training or not known:
            return super().forward(input)
        output: torch.Tensor = _Dropout.apply(input, self.kernels, self.p, draw_seeds(1)[0])
        return output


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: torch.Tensor, kernels: Kernels, probability: float, seed: int) -> torch.Tensor:
        ctx.kernels, ctx.probability, ctx.seed = kernels, probability, seed
        return _drop(x, kernels, probability, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _drop(grad, ctx.kernels, ctx.probability, ctx.seed), None, None, None


def _drop(x: torch.Tensor, kernels: Kernels, probability: float, seed: int) -> torch.Tensor:
    rows = x.contiguous().view(-1, x.shape[-1])
    return kernels.dropout(rows, probability, seed).view(x.shape)


def draw_seeds(count: int) -> list[int]:
    """Seeds of dropout masks, from PyTorch's generator: the same after the same `torch.manual_seed`."""
    seeds: list[int] = torch.randint(2**62, (count,)).tolist()
    return seeds
