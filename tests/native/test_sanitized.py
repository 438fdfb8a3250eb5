"""What C++ and Python must agree on; and the kernels under the address and undefined-behaviour sanitizers, over odd
shapes."""

from __future__ import annotations

import ctypes
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from textune.model import processor
from textune.model.native import calls, disentangled, int8

SOURCES = Path(__file__).parents[2] / "native"
BUILD: dict[str, Any] = runpy.run_path(str(SOURCES / "build.py"))
LEVELS = [(level, flags) for levels in BUILD["LEVELS"].values() for level, flags in levels.items()]


PROGRAMS = sorted(Path(__file__).parent.glob("odd_*.cpp"))
STRUCTS = {
    name: kind
    for module in (calls, disentangled, int8)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure) and kind is not ctypes.Structure
}


def fields_in_cpp(name: str) -> list[str]:
    """Names in their order; those of a struct within are given by its own name."""
    sources = "".join(file.read_text() for file in sorted(SOURCES.iterdir()) if file.suffix in {".h", ".cpp"})
    (body,) = re.findall(rf"^struct {name}(?: : Call)? {{(.*?)^}};", sources, re.DOTALL | re.MULTILINE)
    declarations = re.sub(r"//[^\n]*", "", body).split(";")
    return [
        re.findall(r"\w+", re.sub(r"\[\d+\]", "", part))[-1]
        for line in declarations
        for part in line.split(",")
        if part.strip()
    ]


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_stand_in_the_same_order_on_both_sides(name: str) -> None:
    """A call's size is checked whenever it is made; two fields that are exchanged would not change it."""
    theirs = fields_in_cpp(name)
    if "rule" in theirs:
        at = theirs.index("rule")
        theirs[at : at + 1] = fields_in_cpp("AdamW")
    assert theirs == [field for field, *_ in STRUCTS[name]._fields_]
    assert ctypes.sizeof(STRUCTS[name]) % 8 == 0


def test_every_kernel_is_run_over_odd_shapes() -> None:
    kernels = set(re.findall(r"EXPORTED (textune_\w+)", "".join(file.read_text() for file in SOURCES.glob("*.cpp"))))
    called = set(re.findall(r"require\((textune_\w+)", "".join(file.read_text() for file in PROGRAMS)))
    assert len(kernels) > 15 and called == kernels


@pytest.mark.slow
@pytest.mark.parametrize("source", PROGRAMS, ids=[file.stem for file in PROGRAMS])
@pytest.mark.parametrize(("level", "flags"), LEVELS, ids=[level for level, _ in LEVELS])
def test_kernels_stay_within_their_memory(level: str, flags: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    if level not in processor.levels():
        pytest.skip(f"this machine has no {level}")
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++) was found")
    program, checks = tmp_path / "odd_shapes", "-fsanitize=address,undefined"
    command = [compiler, *BUILD["FLAGS"], *flags, "-O1", "-g", checks, "-fno-sanitize-recover=all", f"-I{SOURCES}"]
    built = subprocess.run(
        [*command, str(source), "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find -lasan" in built.stderr or "libasan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr[-2000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert int(done.stdout.split()[0]) > 5
