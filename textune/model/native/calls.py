"""The structs that kernels are called with, as in native/*.cpp, and the checks of their contents.

Every field takes 8 bytes, so that the compiler and ctypes use the same layout; the first is the size of the struct.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

import torch

_LONG, _DOUBLE, _SEED, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_uint64, ctypes.c_void_p

Fields = list[tuple[str, type]]


def longs(*names: str) -> Fields:
    """Whole numbers and truth values."""
    return [(name, _LONG) for name in names]


def doubles(*names: str) -> Fields:
    """Real numbers."""
    return [(name, _DOUBLE) for name in names]


def pointers(*names: str) -> Fields:
    """Addresses of arrays; None if there is no array."""
    return [(name, _POINTER) for name in names]


SEED: Fields = [("seed", _SEED)]
"""The seed of a dropout mask."""


class Call(ctypes.Structure):
    """The fields of every call; `low` means that activations are bf16."""

    _fields_: ClassVar[Fields] = longs("size", "low", "threads")

    def __init__(self, **fields: object) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), threads=torch.get_num_threads(), **fields)


class ActivationCall(Call):
    """Of `activation_forward` and `activation_backward`."""

    _fields_: ClassVar[Fields] = [*longs("kind", "rows", "width"), *pointers("x", "bias", "y", "grad", "grad_bias")]


class DropoutCall(Call):
    """Of `dropout`."""

    _fields_: ClassVar[Fields] = [*longs("rows", "width"), *doubles("probability"), *SEED, *pointers("x", "y")]


class ColumnSumsCall(Call):
    """Of `column_sums`."""

    _fields_: ClassVar[Fields] = [*longs("rows", "width"), *pointers("x", "sums")]


class NormCall(Call):
    """Of `norm_forward` and `norm_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("rows", "width"),
        *doubles("eps", "dropout"),
        *SEED,
        *pointers("x", "bias", "residual", "gamma", "beta", "y", "means", "scales", "y_low"),
        *pointers("grad", "grad_low", "grad_residual", "grad_x", "grad_gamma", "grad_beta", "grad_bias"),
    ]


class Tensor(ctypes.Structure):
    """[tokens, heads, d] with the numbers of a head side by side; strides in numbers."""

    _fields_: ClassVar[Fields] = [*pointers("data"), *longs("token", "head")]


class AttentionCall(Call):
    """Of `attention_forward` and `attention_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("rows", "tokens", "heads", "key_heads", "d", "window", "causal", "first_only"),
        *doubles("scale", "dropout"),
        *SEED,
        *pointers("starts", "lengths"),
        *((name, Tensor) for name in ("query", "key", "value", "output", "grad_query", "grad_key", "grad_value")),
    ]


class ResidualNormCall(Call):
    """Of `residual_norm_forward` and `residual_norm_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("rows", "width", "centred"),
        *doubles("eps", "dropout"),
        *SEED,
        *pointers("bias", "gamma", "beta", "x", "residual", "total", "means", "scales", "y"),
        *pointers("grad", "grad_y", "grad_total", "grad_x", "grad_gamma", "grad_beta", "grad_bias"),
    ]


class GatedCall(Call):
    """Of `gated_forward` and `gated_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("kind", "rows", "width"),
        *doubles("dropout"),
        *SEED,
        *pointers("x", "bias", "y", "grad_y", "grad_x", "grad_bias"),
    ]


class RotaryCall(Call):
    """Of `rotary_forward` and `rotary_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("tokens", "heads", "d"),
        *doubles("eps"),
        *pointers("cosines", "sines", "gamma"),
        *((name, Tensor) for name in ("source", "result")),
        *pointers("grad_gamma"),
    ]


class Update(ctypes.Structure):
    """One weight in an `AdamWCall`."""

    _fields_: ClassVar[Fields] = [
        *longs("count"),
        *pointers("weight", "grad", "mean", "square", "copy"),
        *longs("copy_is_low"),
        *doubles("decay", "step_size", "root_scale"),
    ]


class AdamWCall(Call):
    """Of `adamw`."""

    _fields_: ClassVar[Fields] = [
        *longs("tensors"),
        ("updates", ctypes.POINTER(Update)),
        *doubles("beta1", "beta2", "eps", "max_norm"),
        *pointers("norm"),
    ]


_MISTAKES = {
    2: "the library was built for another struct of arguments",
    3: "a size or a row is out of range",
}


def make_call(library: ctypes.CDLL, name: str, arguments: Call) -> None:
    """Call the kernel `name`; MemoryError if it ran out of memory, ValueError if it refused its arguments."""
    answer = getattr(library, f"textune_{name}")(ctypes.byref(arguments))
    if answer == 1:
        raise MemoryError(f"no memory for the kernel {name}")
    if answer:
        raise ValueError(f"the kernel {name} refused its arguments: {_MISTAKES.get(answer, answer)}")


def is_low(dtype: torch.dtype) -> bool:
    """Whether activations of this type are bf16; ValueError if they are neither bf16 nor fp32."""
    if dtype not in {torch.bfloat16, torch.float32}:
        raise ValueError(f"kernels take float32 and bfloat16, not {dtype}")
    return dtype == torch.bfloat16


def pointer(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """Address of a contiguous CPU tensor of this shape and type; ValueError for any other."""
    if not tensor.is_contiguous():
        raise ValueError(f"kernels take contiguous tensors, not {tuple(tensor.shape)} with strides {tensor.stride()}")
    _require(tensor, shape, dtype)
    return tensor.data_ptr()


def strided(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[int, int, int]:
    """(address, stride of tokens, stride of heads) of [tokens, heads, d]; ValueError as for `pointer`."""
    _require(tensor, shape, dtype)
    token, head, number = tensor.stride()
    if number != 1 and tensor.shape[2] > 1:
        raise ValueError(f"kernels take heads whose numbers lie side by side, not strides {tensor.stride()}")
    return tensor.data_ptr(), token, head


def _require(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    # Called hundreds of times per step, so without conversions.
    if tensor.dtype is not dtype or tensor.shape != shape or not tensor.is_cpu:
        wanted = f"{dtype} {tuple(shape)} on the processor"
        raise ValueError(f"a kernel needs {wanted}, not {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}")
