"""What this process takes of its machine: memory and processor time, from what the system itself counts."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from textune.run.tracking import UseValues

if sys.platform != "win32":
    import resource

_STATM = Path("/proc/self/statm")


class Use:
    """Asked at each logged step; takes some microseconds."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def since_last(self) -> UseValues:
        """Memory now, and processor time since this was asked last."""
        cpu, wall = time.process_time(), time.perf_counter()
        use: UseValues = {"cpu": round(100 * (cpu - self._cpu) / max(wall - self._wall, 1e-9), 1)}
        self._cpu, self._wall = cpu, wall
        if sys.platform == "linux":
            use["memory"] = int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
        if sys.platform != "win32":
            unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
            use["memory_peak"] = max(peak, use.get("memory", 0))  # the system counts the one later than the other
        if self._device.type == "cuda":
            use["gpu_memory"] = torch.cuda.memory_reserved(self._device)
            use["gpu_memory_peak"] = torch.cuda.max_memory_reserved(self._device)
        return use
