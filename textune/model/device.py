"""Where to compute and in which precision; shared by training and prediction."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from textune.config import DeviceName, TrainingPrecision
from textune.errors import ModelError, Setting, Words
from textune.model import processor

Precision = Literal["fp32", "bf16", "fp16"]
DType: TypeAlias = torch.dtype
_DTYPES: dict[Precision, DType] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """A device and the precision of its matrix products; weights are fp32 throughout."""

    torch: torch.device
    precision: Precision

    @property
    def dtype(self) -> DType:
        """The type of matrix products."""
        return _DTYPES[self.precision]

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Lower precision where the operation allows it; nothing for fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, dtype=self.dtype)

    def __str__(self) -> str:
        if self.torch.type == "cuda":
            name = torch.cuda.get_device_name(self.torch)
        else:
            threads = torch.get_num_threads()
            name = f"{threads} CPU thread{'s' if threads > 1 else ''}"
        return f"{name}, {self.precision}"


def dtype_of_products(weights: DType, device: torch.device) -> DType:
    """The type of matrix products with such weights, here and now: within `autocast` another than theirs."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else weights


def resolve_device(device: DeviceName, precision: TrainingPrecision, *, section: str = "") -> Device:
    """The device and precision that `auto` stands for here; ModelError where the machine lacks what was asked for.

    `section`: that of the config which the two are keys of; without it, they are arguments.
    """
    at = f"{section}." if section else ""
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        asked, others = Setting(f"{at}device", device), [Setting(f"{at}device", other) for other in ("auto", "cpu")]
        raise _lacks(asked, others, "this machine has no usable CUDA device")
    chosen = torch.device("cuda" if has_cuda and device != "cpu" else "cpu")
    if precision == "auto":
        return Device(chosen, "bf16" if prefers_bf16(chosen) else "fp32")
    if precision == "bf16" and not _has_bf16(chosen):
        asked, others = (
            Setting(f"{at}precision", precision),
            [Setting(f"{at}precision", other) for other in ("auto", "fp32")],
        )
        raise _lacks(asked, others, f"this {chosen.type} device has no bf16 arithmetic")
    return Device(chosen, precision)


def prefers_bf16(device: torch.device) -> bool:
    """Whether `device` computes faster in bf16 than in fp32."""
    return _has_bf16(device) if device.type == "cuda" else processor.prefers_bf16()


def _lacks(asked: Setting, others: list[Setting], reason: str) -> ModelError:
    advice = Words("Use ", others[0], " or ", others[1], ".")
    return ModelError(Words(asked, f", but {reason}."), hint=advice, key=asked.key, value=asked.value, reason=reason)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return processor.has_bf16()
