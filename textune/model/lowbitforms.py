"""How weights of few bits are kept, and read back exactly; below `lowbits.py`.

FourBits     bitsandbytes: each weight is one of 16 values times the scale of its block of 64
EightBits    bitsandbytes: each weight is a whole number times the scale of its output
Groups       GPTQ: each weight is a whole number, less that of its group of inputs, times the scale of the group
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from textune.config import Quantize

BLOCK = 64
"""Weights of 4 bits that share a scale."""
_WORD = 32
"""Bits of the whole numbers that hold weights of GPTQ."""


class Form(Protocol):
    """How the weight of a linear layer is kept."""

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        ...

    def read_back(self, held: Mapping[str, torch.Tensor], shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """The weight [O, I] in floating point; `held` are its tensors by name, those of `weight` among them."""
        ...


@dataclass(frozen=True)
class FourBits:
    """Two weights to a byte."""

    section: Quantize
    bits: int = 4
    largest: float = torch.finfo(torch.float32).max
    """What a weight may be."""

    def pack(self, weight_OI: torch.Tensor) -> dict[str, torch.Tensor]:
        """The bytes [bytes, 1], and the scales."""
        from bitsandbytes.functional import quantize_4bit

        section, flat = self.section, weight_OI.reshape(-1)
        even = functional.pad(flat, (0, flat.numel() % 2))
        packed, state = quantize_4bit(
            even, blocksize=BLOCK, compress_statistics=section.double, quant_type=section.kind
        )
        held = {"weight": packed, "absmax": state.absmax, "code": state.code}
        if section.double:
            held |= {"offset": state.offset, "nested_absmax": state.state2.absmax, "nested_code": state.state2.code}
        return held

    def read_back(self, held: Mapping[str, torch.Tensor], shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        from bitsandbytes.functional import QuantState, dequantize_4bit

        double = self.section.double
        second = (
            QuantState(held["nested_absmax"], code=held["nested_code"], blocksize=256, dtype=torch.float32)
            if double
            else None
        )
        state = QuantState(
            held["absmax"],
            # As one row: some of bitsandbytes' code for processors needs rows that are a multiple of a block.
            shape=torch.Size((2 * held["weight"].numel(),)),
            code=held["code"],
            blocksize=BLOCK,
            quant_type=self.section.kind,
            dtype=dtype,
            offset=held.get("offset"),
            state2=second,
        )
        flat = dequantize_4bit(held["weight"], state).view(-1)
        return flat[: shape[0] * shape[1]].view(shape)


@dataclass(frozen=True)
class EightBits:
    """Whole numbers from -127 to 127."""

    bits: int = 8
    largest: float = torch.finfo(torch.float16).max
    """What a weight may be: bitsandbytes makes these of fp16."""

    def pack(self, weight_OI: torch.Tensor) -> dict[str, torch.Tensor]:
        """int8 [O, I], and what the rows are multiplied by."""
        from bitsandbytes.functional import int8_vectorwise_quant

        packed_OI, largest_O, _ = int8_vectorwise_quant(weight_OI.half())
        return {"weight": packed_OI, "scale_O": largest_O / 127}

    def read_back(self, held: Mapping[str, torch.Tensor], shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        return held["weight"].to(dtype) * held["scale_O"].unsqueeze(1).to(dtype)


@dataclass(frozen=True)
class Groups:
    """Several whole numbers to one of 32 bits, the first in its lowest bits: those of a column of inputs in `weight`
    [I bits / 32, O], those that are taken off a group of inputs in `zeros` [G, O bits / 32]. `scales` [G, O],
    `groups` [I]."""

    bits: int

    def read_back(self, held: Mapping[str, torch.Tensor], shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        outputs, _ = shape
        groups_I = held["groups"]
        numbers_IO = unpacked(held["weight"], self.bits)
        zeros_GO = unpacked(held["zeros"].t(), self.bits)[:outputs].t()
        # Exact: a scale has 11 bits of fp16.
        weight_IO = (numbers_IO - zeros_GO[groups_I]).float() * held["scales"].float()[groups_I]
        return weight_IO.t().to(dtype)


def unpacked(words_WC: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers, int32 [W 32 / bits, C], of int32 that hold several."""
    shifts_E1 = torch.arange(0, _WORD, bits, dtype=torch.int32, device=words_WC.device).unsqueeze(1)
    numbers: torch.Tensor = (words_WC.unsqueeze(1) >> shifts_E1) & (2**bits - 1)
    return numbers.flatten(0, 1)
