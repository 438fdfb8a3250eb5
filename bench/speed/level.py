"""What the processor is used as: the level that it has, or a lower one that every process of the benchmark is held to.

A level is named after the vectors that PyTorch computes with, and after bf16 products where they are faster than fp32. The
name is that of the results file: `bench/results/cpu-avx2.json`. Libraries read their caps when they are loaded, so `hold_to`
comes before any of them; the workers inherit it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

CAPS: Mapping[str, Mapping[str, str]] = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
"""Level to the settings of PyTorch (which textune's kernels follow), oneDNN and MKL."""
GPU = "cuda"

TITLES = {
    "avx2": "AVX2, fp32",
    "avx512": "AVX-512, fp32",
    "avx512bf16": "AVX-512, bf16",
    "amx": "AMX, bf16",
    GPU: "GPU",
}
"""Level to the head of its columns; the products of floats are in the type named. Others stand under their own name."""


def hold_to(level: str | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the caps of a level; nothing for None."""
    environment.update(CAPS.get(level or "", {}))


def found_level() -> str:
    """The level that PyTorch computes at in this process, caps included; imports torch."""
    import torch

    vectors = str(torch.backends.cpu.get_cpu_capability())
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return f"{platform.machine().lower()}-{vectors.lower()}{'-bf16' if has_bf16 else ''}"
    if "AVX512" not in vectors:
        return {"DEFAULT": "sse"}.get(vectors, vectors.lower())
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    # Intel's vectors multiply bf16 at half the rate of fp32: there fp32 is what everybody computes in at best.
    is_intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512bf16" if torch.cpu._is_avx512_bf16_supported() and not is_intel else "avx512"


def is_held(level: str) -> bool:
    """Whether the processor has more than the level that this process is held to."""
    import torch

    return level in CAPS and bool(torch.cpu._is_avx512_supported())


def has_bf16() -> bool:
    """Whether the level that this process computes at has products of bf16 numbers that are faster than those of fp32."""
    level = found_level()
    return level == "amx" or "bf16" in level


def title(level: str) -> str:
    """The head of a level's columns."""
    return TITLES.get(level, level)


def not_held(systems: Sequence[str]) -> dict[str, str]:
    """What to tell the reader about systems that no setting caps; nothing where the processor has no more than the level."""
    if not is_held(found_level()):
        return {}
    reason = "has no setting that holds it to narrower vectors: it used all that the processor has"
    return dict.fromkeys(systems, reason)
