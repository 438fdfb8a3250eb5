"""Where something was measured: processor, versions, and whether somebody else was computing at the same time."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "sentence-transformers", "onnxruntime", "textune")


def processor() -> str:
    """Model and usable cores."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{match[1] if match else platform.processor() or platform.machine()}, {cores} cores"


def versions() -> dict[str, str]:
    """Python and the packages that are installed of those that compute."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def busy_share(seconds: float = 1.0) -> float | None:
    """Share of all processors that was in use during `seconds` while we slept; None where the system does not say."""
    if not sys.platform.startswith("linux"):
        return None
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    spent = [late - early for early, late in zip(before, after, strict=True)]
    idle = spent[3] + spent[4]  # idle and waiting for a disk
    return 1.0 - idle / sum(spent) if sum(spent) else None


def _ticks() -> list[int]:
    first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    return [int(value) for value in first.split()[1:9]]
