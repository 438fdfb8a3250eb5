"""Compile the kernels of `kernels.cpp` for this processor, once; after that they are a file in the user's cache folder.

The file is found by the hash of source, compiler, flags and processor, and written aside and renamed. Where it cannot be made,
the reason is a phrase for the run's header: the same work is then done by PyTorch's own operators.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-Wno-psabi")
BUILD_SECONDS = 120.0
"""A compiler that takes longer is taken for hung."""


class BuildError(Exception):
    """Why there are no kernels, as a phrase."""


def default_cache() -> Path:
    """The user's cache folder for compiled kernels."""
    return Path.home() / ".cache" / "textune" / "kernels"


def find_compiler() -> str:
    """Path of g++; BuildError where kernels cannot be built on this machine."""
    if sys.platform != "linux":
        raise BuildError(f"kernels are built on Linux only, not on {platform.system()}")
    compiler = shutil.which("g++")
    if compiler is None:
        raise BuildError("no C++ compiler (g++) was found")
    return compiler


@functools.cache
def load_library() -> ctypes.CDLL:
    """The compiled kernels, from the cache or built now (a few seconds); BuildError says why there are none."""
    compiler = find_compiler()
    library = _library(compiler)
    if not library.is_file():
        _build(compiler, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"the compiled kernels cannot be loaded ({error})") from error


def _library(compiler: str) -> Path:
    """Where the kernels for this source, compiler and processor are."""
    stat = os.stat(os.path.realpath(compiler))
    parts = [SOURCE.read_text(encoding="utf-8"), *FLAGS, compiler, f"{stat.st_size} {stat.st_mtime_ns}", _processor()]
    return default_cache() / f"{hashlib.blake2b('|'.join(parts).encode(), digest_size=16).hexdigest()}.so"


def _processor() -> str:
    """What `-march=native` depends on: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model\t", "flags", "Features", "CPU part")
    return "|".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _build(compiler: str, library: Path) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=library.parent) as scratch:
            compiled, linked = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
            _run([compiler, *FLAGS, "-c", str(SOURCE), "-o", str(compiled)])
            # PyTorch's own OpenMP: a second one would bring a second pool of threads, and both would spin.
            _run([compiler, "-shared", str(compiled), *_openmp(), "-o", str(linked)])
            linked.replace(library)
    except OSError as error:
        raise BuildError(f"the kernels cannot be written to {library.parent} ({error.strerror or error})") from error


def _openmp() -> list[str]:
    """The OpenMP library that PyTorch has loaded; the compiler's own where PyTorch has none."""
    assert torch.get_num_threads() > 0  # loads it
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    loaded = sorted(path for path in paths if Path(path).name.startswith(("libgomp", "libiomp5")))
    return loaded[:1] or ["-fopenmp"]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} did not finish within {BUILD_SECONDS:.0f} seconds") from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no message")
        raise BuildError(f"{command[0]} failed: {reason}")
