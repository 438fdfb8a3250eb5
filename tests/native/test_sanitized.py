"""The kernels under the address and undefined-behaviour sanitizers, over odd shapes."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from textune.model import processor

SOURCES = Path(__file__).parents[2] / "native"
BUILD: dict[str, Any] = runpy.run_path(str(SOURCES / "build.py"))
LEVELS = [(level, flags) for levels in BUILD["LEVELS"].values() for level, flags in levels.items()]


@pytest.mark.slow
@pytest.mark.parametrize(("level", "flags"), LEVELS, ids=[level for level, _ in LEVELS])
def test_kernels_stay_within_their_memory(level: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    if level not in processor.levels():
        pytest.skip(f"this machine has no {level}")
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++) was found")
    program, checks = tmp_path / "odd_shapes", "-fsanitize=address,undefined"
    command = [compiler, *BUILD["FLAGS"], *flags, "-O1", "-g", checks, "-fno-sanitize-recover=all", f"-I{SOURCES}"]
    built = subprocess.run(
        [*command, str(Path(__file__).with_name("odd_shapes.cpp")), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find -lasan" in built.stderr or "libasan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr[-2000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert int(done.stdout.split()[0]) > 1000
