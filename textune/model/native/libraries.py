"""Which library of compiled kernels this process can use, or why there is none; before `kernels.py`.

The libraries were built with the package (native/build.py), one per level of processors, and are in `FOLDER` with an
index of their hashes. A library that does not match its hash is not loaded: a damaged one would crash the process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from textune.model import processor

FOLDER = Path(__file__).parent / "libraries"
SOURCES = Path(__file__).parents[3] / "native"
"""The sources, if the package is used from its source tree."""

_INSTALL = "Install textune again where GNU's C++ compiler is, 11 or newer (Debian and Ubuntu: apt install g++)"


class KernelError(Exception):
    """Why there are no kernels, as a phrase; `hint` says what would help."""

    def __init__(self, reason: str, *, hint: str = _INSTALL) -> None:
        super().__init__(reason)
        self.hint = hint


class Library(NamedTuple):
    """One library in this process."""

    level: str
    functions: ctypes.CDLL


def load_library(level: str | None = None) -> Library:
    """The kernels of the best level that this processor has, or of `level`, which it must have; else KernelError.

    There is one attempt per process and level: a failure is not retried for every batch.
    """
    outcome = _attempt(level, FOLDER)
    if isinstance(outcome, Library):
        return outcome
    raise KernelError(outcome[0], hint=outcome[1])


def available_levels() -> tuple[str, ...]:
    """Levels that this processor has and that were built, the best first; KernelError if none were built at all."""
    return tuple(level for level in processor.levels() if level in _read_index(FOLDER)["libraries"])


@functools.cache
def _attempt(level: str | None, folder: Path) -> Library | tuple[str, str]:
    """The library, or (reason, hint): an exception that is kept would keep every model that met it."""
    try:
        return _load(level, folder)
    except KernelError as error:
        return str(error), error.hint


def _load(level: str | None, folder: Path) -> Library:
    index = _read_index(folder)
    found = processor.levels()
    built = [name for name in found if name in index["libraries"]]
    if not built or (level is not None and level not in built):
        ours = found[0] if found else f"{processor.vectors()}, of which textune knows no level"
        asked = f", and {level} was asked for" if level else ""
        raise KernelError(
            f"this processor is {ours}{asked}; built were the kernels for"
            f" {', '.join(sorted(index['libraries'])) or 'none'}"
        )
    library = folder / f"{level or built[0]}.so"
    _require_whole(library, index["libraries"][library.stem])
    try:
        # Already in this process; its functions become visible to libraries that were not linked with it.
        ctypes.CDLL(str(_openmp()), mode=ctypes.RTLD_GLOBAL)
        return Library(library.stem, ctypes.CDLL(str(library)))
    except OSError as error:
        raise KernelError(f"the kernels cannot be loaded ({error})") from error


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        known = (
            isinstance(index, dict)
            and isinstance(index.get("libraries"), dict)
            and isinstance(index.get("sources"), str)
        )
    except FileNotFoundError:
        raise KernelError("textune was installed without them") from None
    except (OSError, ValueError) as error:
        raise KernelError(f"{folder / 'index.json'} cannot be read ({error})") from error
    if not known:
        raise KernelError(f"{folder / 'index.json'} is not the index that textune was built with")
    if not index["libraries"]:
        raise KernelError(str(index.get("reason", "none were built when textune was installed")))
    if (SOURCES / "kernels.cpp").is_file() and index["sources"] != _hash_sources():
        raise KernelError(
            "the sources in native/ have changed since the kernels were built", hint="Run `make kernels`"
        )
    return index


def _require_whole(library: Path, expected: object) -> None:
    try:
        found = hashlib.blake2b(library.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise KernelError(f"{library} cannot be read ({error.strerror or error})") from error
    if found != expected:
        raise KernelError(
            f"{library} is damaged or not the one that textune was built with", hint="Install textune again"
        )


def _hash_sources() -> str:
    """As native/build.py computes it."""
    files = sorted(file for file in SOURCES.iterdir() if file.suffix in {".h", ".cpp", ".py"})
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()


def _openmp() -> Path:
    """The OpenMP library that PyTorch uses: the one that came with it, or the system's, which it has loaded.

    Other packages bring copies under other names; using one of those would create a second pool of threads.
    """
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.with_name("torch.libs")):
        found = sorted(file for name in ("libgomp*.so*", "libiomp5*.so*") for file in folder.glob(name))
        if found:
            return found[0]
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    loaded = sorted(file for file in mapped if Path(file).name.startswith(("libgomp.so", "libiomp5.so", "libomp.so")))
    if len(loaded) == 1:
        return Path(loaded[0])
    raise KernelError(
        f"PyTorch's OpenMP is not where it was expected ({package / 'lib'})", hint="Install PyTorch from PyPI"
    )
