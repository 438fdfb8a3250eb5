"""The compiled kernels as Python calls on tensors; after `build.py`, before `layers.py`.

Shapes: T tokens, H hidden, I inner width, h heads, g key heads, d head width, B rows. Activations are float32 or bfloat16
("low"), everything else float32. All tensors must be contiguous but for the token and head strides of attention.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from textune.model.native.build import load_library

ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2}
"""Names in a backbone's configuration to the kernels' numbers."""

_P, _I, _L, _F, _D, _U = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_float,
    ctypes.c_double,
    ctypes.c_uint64,
)
_NORM = [_I, _I, _L, _L, _F, _D, _U]
_ATTENTION = [_I, _I, _L, _L, _L, _L, _L, _L, _I, _I, _F, _D, _U]
_SIGNATURES = {
    "activation_forward": [_I, _I, _I, _L, _L, *[_P] * 3],
    "activation_backward": [_I, _I, _I, _L, _L, *[_P] * 4],
    "dropout": [_I, _I, _L, _L, _D, _U, *[_P] * 2],
    "column_sums": [_I, _I, _L, _L, *[_P] * 2],
    "norm_forward": [*_NORM, *[_P] * 9],
    "norm_backward": [*_NORM, *[_P] * 14],
    "attention_forward": [*_ATTENTION, *[_P] * 7],
    "attention_backward": [*_ATTENTION, *[_P] * 10],
}


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
    """What attention within rows needs to know; `starts_B` and `lengths_B` are int64, `window` 0 sees everything.

    With `first_only` only the first token of each row asks: the output is [B, h, d].
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
    """The compiled kernels; BuildError where they cannot be built."""

    def __init__(self) -> None:
        library = load_library()
        self._calls: dict[str, Any] = {}
        for name, types in _SIGNATURES.items():
            call = getattr(library, f"textune_{name}")
            call.argtypes, call.restype = types, ctypes.c_int
            self._calls[name] = call

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of a model take the library of the process where they are opened."""
        return Kernels, ()

    def _call(self, name: str, *arguments: Any) -> None:
        if self._calls[name](*arguments):
            raise MemoryError(f"no memory for the kernel {name}")

    def activation(self, x_TI: torch.Tensor, bias_I: torch.Tensor, kind: int) -> torch.Tensor:
        """activation(x + bias)."""
        y_TI = torch.empty_like(x_TI)
        self._call(
            "activation_forward",
            _low(x_TI),
            kind,
            torch.get_num_threads(),
            *x_TI.shape,
            x_TI.data_ptr(),
            bias_I.data_ptr(),
            y_TI.data_ptr(),
        )
        return y_TI

    def activation_backward(
        self, x_TI: torch.Tensor, bias_I: torch.Tensor, grad_TI: torch.Tensor, kind: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of x (in the place of `grad_TI`) and of the bias."""
        grad_bias_I = torch.empty_like(bias_I)
        self._call(
            "activation_backward",
            _low(x_TI),
            kind,
            torch.get_num_threads(),
            *x_TI.shape,
            x_TI.data_ptr(),
            bias_I.data_ptr(),
            grad_TI.data_ptr(),
            grad_bias_I.data_ptr(),
        )
        return grad_TI, grad_bias_I

    def dropout(self, x_TH: torch.Tensor, probability: float, seed: int) -> torch.Tensor:
        """x with a share of zeros, the rest scaled up; its own gradient when called with the gradient of its output."""
        y_TH = torch.empty_like(x_TH)
        self._call(
            "dropout", _low(x_TH), torch.get_num_threads(), *x_TH.shape, probability, seed, x_TH.data_ptr(), y_TH.data_ptr()
        )
        return y_TH

    def column_sums(self, x_TI: torch.Tensor) -> torch.Tensor:
        """float32 [I]: the sum of each column."""
        sums_I = x_TI.new_empty(x_TI.shape[1], dtype=torch.float32)
        self._call("column_sums", _low(x_TI), torch.get_num_threads(), *x_TI.shape, x_TI.data_ptr(), sums_I.data_ptr())
        return sums_I

    def norm(
        self, norm: Norm, x_TH: torch.Tensor, residual_TH: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(y float32, y in the type of x, mean [T], 1 / standard deviation [T])."""
        y_TH = torch.empty_like(residual_TH)
        low_TH = y_TH if x_TH.dtype == torch.float32 else torch.empty_like(x_TH)
        mean_T, scale_T = y_TH.new_empty(len(y_TH)), y_TH.new_empty(len(y_TH))
        self._call(
            "norm_forward",
            *_norm_numbers(norm, x_TH),
            x_TH.data_ptr(),
            norm.bias.data_ptr(),
            residual_TH.data_ptr(),
            norm.gamma.data_ptr(),
            norm.beta.data_ptr(),
            y_TH.data_ptr(),
            None if low_TH is y_TH else low_TH.data_ptr(),
            mean_T.data_ptr(),
            scale_T.data_ptr(),
        )
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
        vectors = [torch.empty_like(norm.gamma) for _ in range(3)]
        self._call(
            "norm_backward",
            *_norm_numbers(norm, x_TH),
            x_TH.data_ptr(),
            norm.bias.data_ptr(),
            residual_TH.data_ptr(),
            norm.gamma.data_ptr(),
            norm.beta.data_ptr(),
            mean_T.data_ptr(),
            scale_T.data_ptr(),
            grad_TH.data_ptr(),
            None if grad_low_TH is None else grad_low_TH.data_ptr(),
            grad_residual_TH.data_ptr(),
            grad_x_TH.data_ptr(),
            *(vector.data_ptr() for vector in vectors),
        )
        return grad_residual_TH, grad_x_TH, vectors[0], vectors[1], vectors[2]

    def attention(
        self, shape: AttentionShape, query_Thd: torch.Tensor, key_Tgd: torch.Tensor, value_Tgd: torch.Tensor
    ) -> torch.Tensor:
        """Attention within each row, [T, h, d]; zero for tokens of no row."""
        num_answers = len(shape.starts_B) if shape.first_only else len(query_Thd)
        output_Thd = torch.empty(num_answers, *query_Thd.shape[1:], dtype=query_Thd.dtype)
        tensors = (query_Thd, key_Tgd, value_Tgd, output_Thd)
        self._attend("attention_forward", shape, query_Thd, key_Tgd, tensors)
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
        self._attend("attention_backward", shape, query_Thd, key_Tgd, (query_Thd, key_Tgd, value_Tgd, grad_Thd, *grads))

    def _attend(
        self, name: str, shape: AttentionShape, query: torch.Tensor, key: torch.Tensor, tensors: tuple[torch.Tensor, ...]
    ) -> None:
        # The kernels take the shapes on trust.
        assert query.shape[2] == key.shape[2] and all(t.dtype == query.dtype and t.stride(2) == 1 for t in tensors)
        strides = [number for tensor in tensors for number in tensor.stride()[:2]]
        self._call(
            name,
            _low(query),
            torch.get_num_threads(),
            len(shape.lengths_B),
            *query.shape[:2],
            key.shape[1],
            query.shape[2],
            shape.window,
            shape.causal,
            shape.first_only,
            shape.scale,
            shape.dropout,
            shape.seed,
            shape.starts_B.data_ptr(),
            shape.lengths_B.data_ptr(),
            (ctypes.c_int64 * len(strides))(*strides),
            *(tensor.data_ptr() for tensor in tensors),
        )


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
        ctx: Any,
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
    def backward(ctx: Any, grad_Thd: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors = ctx.saved_tensors
        query_grad, key_grad, value_grad = (torch.empty(t.shape, dtype=t.dtype) for t in tensors)
        ctx.kernels.attention_backward(ctx.shape, *tensors, _rows(grad_Thd), (query_grad, key_grad, value_grad))
        return query_grad, key_grad, value_grad, None, None


def _rows(tensor_Thd: torch.Tensor) -> torch.Tensor:
    """With the numbers of a head side by side, as the kernels read them."""
    return tensor_Thd if tensor_Thd.stride(2) == 1 else tensor_Thd.contiguous()


class FastDropout(nn.Dropout):
    """`nn.Dropout` whose mask is drawn by the kernels, several times faster than PyTorch's on a CPU, and is never stored."""

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
    def forward(ctx: Any, x: torch.Tensor, kernels: Kernels, probability: float, seed: int) -> torch.Tensor:
        ctx.kernels, ctx.probability, ctx.seed = kernels, probability, seed
        return _drop(x, kernels, probability, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _drop(grad, ctx.kernels, ctx.probability, ctx.seed), None, None, None


def _drop(x: torch.Tensor, kernels: Kernels, probability: float, seed: int) -> torch.Tensor:
    rows = x.contiguous().view(-1, x.shape[-1])
    return kernels.dropout(rows, probability, seed).view(x.shape)


def _low(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.bfloat16


def _norm_numbers(norm: Norm, x_TH: torch.Tensor) -> tuple[Any, ...]:
    return _low(x_TH), torch.get_num_threads(), *x_TH.shape, norm.eps, norm.dropout, norm.seed


def draw_seeds(count: int) -> list[int]:
    """Seeds of dropout masks, from PyTorch's generator: the same after the same `torch.manual_seed`."""
    seeds: list[int] = torch.randint(2**62, (count,)).tolist()
    return seeds
