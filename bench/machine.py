"""Where something is measured: processor, versions, and the level that the processor is used at.

A level is named after the vectors that PyTorch computes with, and after bf16 products where they are faster than fp32.
The name is that of the results file: `bench/results/cpu-avx2.json`. Libraries read their caps when they are loaded, so
`hold_to` comes before any of them; workers inherit it. Torch is imported only where it is asked.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "sentence-transformers",
    "onnxruntime",
    "onnxruntime-training-cpu",
    "textune",
)
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
"""Level to the head of its columns, with the type of its products; other levels stand under their own name."""


def hold_to(level: str | None) -> None:
    """Set the caps of a level; nothing for None."""
    os.environ.update(CAPS.get(level or "", {}))


def found_level() -> str:
    """The level that PyTorch computes at in this process, caps included."""
    import torch

    vectors, machine = str(torch.backends.cpu.get_cpu_capability()), platform.machine().lower()
    if machine not in {"x86_64", "amd64"}:
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return f"{machine}-{vectors.lower()}{'-bf16' if has_bf16 else ''}"
    if "AVX512" not in vectors:
        return {"DEFAULT": "sse"}.get(vectors, vectors.lower())
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    # Intel's vectors multiply bf16 at half the rate of fp32: without AMX, fp32 is faster there.
    is_intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512bf16" if torch.cpu._is_avx512_bf16_supported() and not is_intel else "avx512"


def best_precision(device: str = "cpu") -> str:
    """The faster of bf16 and fp32: bf16 where the device multiplies it in hardware, and faster than fp32."""
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    level = found_level()
    return "bf16" if level == "amx" or "bf16" in level else "fp32"


def gpu_name() -> str:
    """The GPU; empty where there is none that CUDA can use."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def is_held(level: str) -> bool:
    """Whether the processor has more than the level that this process is held to."""
    import torch

    return level in CAPS and bool(torch.cpu._is_avx512_supported())


def title(level: str) -> str:
    """The head of a level's columns."""
    return TITLES.get(level, level)


def threads() -> int:
    """Threads that a process computes with unless told otherwise."""
    return int(os.environ.get("OMP_NUM_THREADS") or usable_cores())


def usable_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Model and usable cores."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return f"{match[1] if match else platform.processor() or platform.machine()}, {usable_cores()} cores"


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
