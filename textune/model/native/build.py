"""Compile the kernels of `kernels.cpp` for this processor, once; after that they are a file in the user's cache folder.

The file is found by the hash of source, compiler, flags and processor, and written aside, synced and renamed. Its name ends
with the hash of its content, which is compared before it is loaded: a damaged library would end the process. Where it cannot
be made, the reason is a phrase for the run's header: the same work is then done by PyTorch's own operators.
"""

from __future__ import annotations

import contextlib
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

from textune.caches import PRIVATE, open_cache, require_own, user_cache
from textune.model.processor import compiler_target

SOURCES = Path(__file__).parent
"""Folder of kernels.cpp and what it includes."""
FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-Wno-psabi")
BUILD_SECONDS = 120.0
"""A compiler that takes longer is taken for hung."""


class BuildError(Exception):
    """Why there are no kernels, as a phrase; `hint` says what would help."""

    def __init__(self, reason: str, *, hint: str = "Leave them out") -> None:
        super().__init__(reason)
        self.hint = hint


def default_cache() -> Path:
    """The user's cache folder for compiled kernels."""
    return user_cache("kernels")


def find_compiler() -> str:
    """Path of g++; BuildError where kernels cannot be built on this machine."""
    if sys.platform != "linux":
        raise BuildError(f"kernels are built on Linux only, not on {platform.system()}")
    compiler = shutil.which("g++")
    if compiler is None:
        raise BuildError("no C++ compiler (g++) was found", hint="Install it (Debian and Ubuntu: apt install g++)")
    return compiler


def load_library() -> ctypes.CDLL:
    """The compiled kernels, from the cache or built now (a few seconds); BuildError says why there are none.

    One attempt a process: what failed once is not tried again for every batch.
    """
    outcome = _attempt()
    if isinstance(outcome, ctypes.CDLL):
        return outcome
    raise BuildError(outcome[0], hint=outcome[1])


@functools.cache
def _attempt() -> ctypes.CDLL | tuple[str, str]:
    """The library, or (reason, hint): an exception that is kept would keep every model that met it."""
    try:
        return _load()
    except BuildError as error:
        return str(error), error.hint
    except (OSError, RuntimeError) as error:  # no home folder, files that cannot be read
        return f"the kernels have no place to be kept ({error})", BuildError("").hint


def _load() -> ctypes.CDLL:
    compiler = find_compiler()
    cache, key = default_cache(), _key(compiler)
    try:
        open_cache(cache, ours=True)
    except OSError as error:
        raise BuildError(f"the kernels cannot be kept in {cache} ({error.strerror or error})") from error
    for library in cache.glob(f"{key}-*.so"):
        # One that was damaged, that somebody else wrote, or that belongs to a library that is gone, is built anew.
        with contextlib.suppress(OSError):
            require_own(library)
            if library == _named(library, cache, key):
                return ctypes.CDLL(str(library))
        with contextlib.suppress(OSError):
            library.unlink()
    library = _build(compiler, cache, key)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"the compiled kernels cannot be loaded ({error})") from error


def _key(compiler: str) -> str:
    """Hash of source, compiler and processor."""
    stat = os.stat(os.path.realpath(compiler))
    sources = [file.read_text(encoding="utf-8") for file in sorted(SOURCES.glob("*.[ch]*"))]
    versions = [compiler, f"{stat.st_size} {stat.st_mtime_ns}", torch.__version__, *_openmp()]
    parts = [*sources, *FLAGS, compiler_target(), *versions, _processor()]
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def _named(library: Path, cache: Path, key: str) -> Path:
    """Where a library with the content of this one belongs."""
    return cache / f"{key}-{hashlib.blake2b(library.read_bytes(), digest_size=16).hexdigest()}.so"


def _processor() -> str:
    """What the compiler's target stands for: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model\t", "flags", "Features", "CPU part")
    return "|".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _build(compiler: str, cache: Path, key: str) -> Path:
    try:
        with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as scratch:
            compiled, linked = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
            _run([compiler, *FLAGS, compiler_target(), "-c", str(SOURCES / "kernels.cpp"), "-o", str(compiled)])
            # PyTorch's own OpenMP: a second one would bring a second pool of threads, and both would spin.
            _run([compiler, "-shared", str(compiled), *_openmp(), "-o", str(linked)])
            linked.chmod(PRIVATE)
            with linked.open("rb") as file:
                os.fsync(file.fileno())
            return linked.replace(_named(linked, cache, key))
    except OSError as error:
        raise BuildError(f"the kernels cannot be written to {cache} ({error.strerror or error})") from error


def _openmp() -> list[str]:
    """The OpenMP library that came with PyTorch; the compiler's own where none did.

    Other packages bring copies under other names: linked with one of theirs, the kernels would not load without that package.
    """
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.with_name("torch.libs")):
        found = sorted(file for name in ("libgomp*.so*", "libiomp5*.so*") for file in folder.glob(name))
        if found:
            return [str(found[0])]
    return ["-fopenmp"]


_BROKEN = "Repair the compiler's installation (Debian and Ubuntu: apt install --reinstall g++)"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run ({error.strerror or error})") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} did not finish within {BUILD_SECONDS:.0f} seconds") from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no message")
        raise BuildError(f"{command[0]} failed: {reason}", hint=_BROKEN)
