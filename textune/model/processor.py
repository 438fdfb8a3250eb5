"""What this machine's processor can do; the one place that looks. Asked by `device.py`, `quantize.py` and `native/build.py`.

PyTorch computes with the widest vectors there are, unless its own setting ATEN_CPU_CAPABILITY holds it to narrower ones. Then
all that is decided here is held to them as well: a process capped at AVX2 takes the ways of a processor that has no more.
"""

from __future__ import annotations

import platform

import torch

_CAPPED = {"AVX2": "x86-64-v3", "DEFAULT": "x86-64"}
"""PyTorch's names of narrower vectors, and GCC's of the processors that have no wider ones."""


def vectors() -> str:
    """The vectors that PyTorch computes with, by its own name: AVX512, AVX2, SVE256, DEFAULT."""
    return torch.backends.cpu.get_cpu_capability()


def is_capped() -> bool:
    """Whether this processor has wider vectors than PyTorch was told to use (x86)."""
    wider = {"AVX2": torch.cpu._is_avx512_supported, "DEFAULT": torch.cpu._is_avx2_supported}
    return vectors() in wider and bool(wider[vectors()]())


def has_bf16() -> bool:
    """Whether products of bf16 numbers run in hardware: emulated they are many times slower than fp32."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return not is_capped() and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_byte_products() -> bool:
    """Whether products of bytes are summed in int32 (VNNI): without, oneDNN sums pairs in int16, which can overflow."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    has_vnni = torch.cpu._is_vnni_supported() or bool(capabilities.get("avx_vnni"))
    return torch.backends.mkldnn.is_available() and has_vnni and not is_capped()


def compiler_target() -> str:
    """GCC's flag for code that runs here: all that this processor has, or what a cap leaves of it."""
    return f"-march={_CAPPED[vectors()] if is_capped() else 'native'}"
