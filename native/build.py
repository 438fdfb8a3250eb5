"""Compile the kernels, one library for each level of processors: `python native/build.py FOLDER`; the build hook calls
it.

A level is a set of instructions that a processor has or has not (x86-64 psABI, "Micro-Architecture Levels"); which
library is loaded is decided on the machine where textune runs, in textune/model/native/libraries.py. Functions are
plain C: the libraries need neither Python nor PyTorch. Their OpenMP functions stay undefined and are found in
PyTorch's own OpenMP: a second one would bring a second pool of threads, and both would spin.

FOLDER gets LEVEL.so and index.json: the hash of each library, of the sources, the compiler; or why there are no
libraries.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wno-psabi",
)
LEVELS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "x86-64-v2": ("-march=x86-64-v2",),
        "x86-64-v3": ("-march=x86-64-v3",),
        "x86-64-v4": ("-march=x86-64-v4",),
        "x86-64-v4-bf16": ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"),
    },
    "aarch64": {"aarch64": ("-march=armv8-a",)},
}
"""Machine to level to the compiler's flags."""
OLDEST = 11
"""GCC's first major version with the levels of the psABI."""
BUILD_SECONDS = 600.0
"""A compiler that takes longer is taken for hung."""


class BuildError(Exception):
    """Why there are no libraries, as a phrase."""


def build(folder: Path) -> str:
    """Write the libraries and index.json into `folder`; returns why there are no libraries, empty where there are.

    Libraries that were made from the same sources by the same compiler stay as they are.
    """
    index: dict[str, object] = {"sources": hash_sources(), "libraries": {}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        levels, compiler = _levels(), _find_compiler()
        index["compiler"] = compiler[1]
        if _is_current(folder, index):
            return ""
        with tempfile.TemporaryDirectory(prefix="textune-kernels-") as scratch:
            index["libraries"] = _build_all(levels, compiler[0], Path(scratch), folder)
    except (BuildError, OSError) as error:
        index["reason"] = str(error)
    try:
        for library in folder.glob("*.so"):
            if library.stem not in index["libraries"]:  # type: ignore[operator]
                library.unlink()
        _write(folder / "index.json", json.dumps(index, indent=1, sort_keys=True).encode())
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror or error})"
    return str(index.get("reason", ""))


def hash_sources() -> str:
    """Of everything that the libraries are made from, this file included."""
    files = sorted(file for file in SOURCES.iterdir() if file.suffix in {".h", ".cpp", ".py"})
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()


def _levels() -> dict[str, tuple[str, ...]]:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform != "linux":
        raise BuildError(f"kernels are built on Linux only, not on {platform.system()}")
    if machine not in LEVELS:
        raise BuildError(f"kernels are built for {' and '.join(LEVELS)} only, not for {machine}")
    return LEVELS[machine]


def _find_compiler() -> tuple[str, str]:
    """(path, version) of GNU's C++ compiler, $CXX or g++: other compilers call another OpenMP."""
    name = os.environ.get("CXX") or "g++"
    compiler = shutil.which(name)
    if compiler is None:
        raise BuildError(f"no C++ compiler ({name}) was found when textune was installed")
    described = _run([compiler, "--version"])
    version = next(iter(described.splitlines()), "which does not say its version")
    if "Free Software Foundation" not in described:
        raise BuildError(f"{name} is not GNU's C++ compiler ({version})")
    major = _run([compiler, "-dumpversion"]).strip().partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST:
        raise BuildError(f"{version} is too old: GNU's C++ compiler {OLDEST} is the first that knows these levels")
    return compiler, version


def _is_current(folder: Path, index: dict[str, object]) -> bool:
    try:
        made = json.loads((folder / "index.json").read_bytes())
        hashes = {level: _hash(folder / f"{level}.so") for level in made["libraries"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(hashes) and {**index, "libraries": hashes} == made


def _build_all(levels: dict[str, tuple[str, ...]], compiler: str, scratch: Path, folder: Path) -> dict[str, str]:
    """Level to the hash of its library."""
    units = [(level, source) for level in levels for source in sorted(SOURCES.glob("*.cpp"))]

    def compile_unit(unit: tuple[str, Path]) -> Path:
        level, source = unit
        made = scratch / f"{level}-{source.stem}.o"
        _run([compiler, *FLAGS, *levels[level], "-c", str(source), "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_unit, units))
    for level in levels:
        mine = [str(made) for (owner, _), made in zip(units, objects, strict=True) if owner == level]
        library = scratch / f"{level}.so"
        _run([compiler, "-shared", "-Wl,--strip-debug", *mine, "-o", str(library)])
        _write(folder / library.name, library.read_bytes())
    return {level: _hash(folder / f"{level}.so") for level in levels}


def _write(path: Path, content: bytes) -> None:
    """Aside, then renamed: a process that has the old library loaded keeps it."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.chmod(0o644)
    aside.replace(path)


def _hash(library: Path) -> str:
    return hashlib.blake2b(library.read_bytes(), digest_size=16).hexdigest()


def _run(command: list[str]) -> str:
    try:
        english = {**os.environ, "LC_ALL": "C"}  # what it says is searched for words
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False, env=english)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run ({error.strerror or error})") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} did not finish within {BUILD_SECONDS:.0f} seconds") from error
    if done.returncode:
        message = next(
            (line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no message"
        )
        raise BuildError(f"{Path(command[0]).name} failed when textune was installed: {message}")
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python native/build.py FOLDER")
    if reason := build(Path(sys.argv[1])):
        sys.exit(f"no kernels were built: {reason}")
