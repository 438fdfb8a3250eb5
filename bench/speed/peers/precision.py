"""Which arithmetic this machine has; shared by the peers."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from bench.speed.protocol import Skip


def has_bf16(device: str) -> bool:
    """Whether bf16 products run in hardware."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in {"x86_64", "amd64"}:
        # A processor that is held to narrower vectors is one without.
        if "AVX512" not in torch.backends.cpu.get_cpu_capability():
            return False
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prefers_bf16(device: str) -> bool:
    """Whether bf16 products are faster than fp32 ones: in the vectors of Intel, without AMX, they run at half the rate."""
    if device == "cuda" or platform.machine().lower() not in {"x86_64", "amd64"} or torch.cpu._is_amx_tile_supported():
        return has_bf16(device)
    return has_bf16(device) and "GenuineIntel" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def resolve(precision: str, device: str) -> str:
    """`best` is the faster of bf16 and fp32; Skip for bf16 that the hardware lacks."""
    if precision == "best":
        return "bf16" if prefers_bf16(device) else "fp32"
    if precision == "bf16" and not has_bf16(device):
        raise Skip(f"this machine's {device} has no bf16 arithmetic, so there is no such peer here")
    return precision


def wait_for(device: str) -> None:
    """Until all work handed to the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def device_memory(device: str) -> dict[str, float]:
    """Peak memory of the GPU, in MiB; nothing on a CPU."""
    return {"gpu_peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20} if device == "cuda" else {}
