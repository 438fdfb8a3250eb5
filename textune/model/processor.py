"""What this machine's processor can do; the only place that checks. Used by `device.py` and `native/libraries.py`.

PyTorch computes with the widest available vectors, unless its own setting ATEN_CPU_CAPABILITY limits it to narrower
ones. All decisions here respect that limit: a process capped at AVX2 behaves as on a processor that has no more.
"""

from __future__ import annotations

import functools
import platform

import torch

_V2 = frozenset({"cx16", "popcnt", "ssse3", "sse4_1", "sse4_2"})
_V3 = _V2 | {"abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
_LEVELS = {
    "x86-64-v4-bf16": ("AVX512", _V4 | {"avx512_bf16", "avx512_vnni"}),
    "x86-64-v4": ("AVX512", _V4),
    "x86-64-v3": ("AVX2", _V3),
    "x86-64-v2": ("DEFAULT", _V2),
}
"""Level of native/build.py to PyTorch's name of its vectors, and the instructions of the x86-64 psABI under Linux's
names."""
_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}


def vectors() -> str:
    """The vectors that PyTorch computes with, under its names: AVX512, AVX2, SVE256, DEFAULT."""
    return torch.backends.cpu.get_cpu_capability()


def is_capped() -> bool:
    """Whether this processor has wider vectors than PyTorch is set to use (x86)."""
    wider = {"AVX2": torch.cpu._is_avx512_supported, "DEFAULT": torch.cpu._is_avx2_supported}
    return vectors() in wider and bool(wider[vectors()]())


def has_bf16() -> bool:
    """Whether bf16 products run in hardware: emulated, they are many times slower than fp32."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return not is_capped() and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prefers_bf16() -> bool:
    """Whether bf16 products are not only supported but faster than fp32 products.

    On AMD, on Arm and with AMX they are, 2 to 16 times. Intel's vectors without AMX multiply bf16 at half the rate of
    fp32 (Emerald Rapids with AMX hidden, one thread: 85 and 165 GFLOP/s).
    """
    return has_bf16() and (vendor() != "Intel" or bool(torch.cpu._is_amx_tile_supported()))


def levels() -> tuple[str, ...]:
    """Levels of libraries that can run here, the best first: those that the processor and a cap allow."""
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        return ("aarch64",)
    if machine not in {"x86_64", "amd64"}:
        return ()
    has = _instructions()
    found = [level for level, (bound, needed) in _LEVELS.items() if needed <= has and _within_cap(bound)]
    return tuple(found)


_BYTES = {
    "amx_int8": "amx-int8",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni": "avx-vnni",
    "avx512bw": "avx512",
    "avx2": "avx2",
}
"""Instructions that multiply bytes, the best first, by Linux's names, and what textune calls them."""
_SUMS_OF_32_BITS = frozenset({"amx-int8", "avx512-vnni", "avx-vnni", "aarch64"})
"""Of these, those that add products of bytes without an intermediate sum of 16 bits, which could saturate."""


def byte_products() -> str:
    """What this processor multiplies bytes with, such as `avx2`, whatever PyTorch is set to use: other libraries do
    not ask it. The name of the architecture where the system does not report more."""
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        return "aarch64"
    has = _instructions()
    return next((name for flag, name in _BYTES.items() if flag in has), machine)


def bytes_may_saturate(products: str) -> bool:
    """Whether sums of two products of bytes may overflow there; `products` as of `byte_products`."""
    return products not in _SUMS_OF_32_BITS


def vendor() -> str:
    """The vendor of the processor (AMD, Intel), if the system reports it: equal levels differ in speed."""
    return _VENDORS.get(_described("vendor_id"), "other")


def _instructions() -> frozenset[str]:
    """Instruction sets under Linux's names; empty if the system does not report them."""
    return frozenset(_described("flags").split())


@functools.cache
def _described(field: str) -> str:
    """A field of /proc/cpuinfo for the first processor; empty if there is no such file or line."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.split(":")[0].strip() == field), "")
    except OSError:
        return ""


def _within_cap(bound: str) -> bool:
    order = ("DEFAULT", "AVX2", "AVX512")
    used = vectors()
    return not is_capped() or order.index(bound) <= order.index(used)
