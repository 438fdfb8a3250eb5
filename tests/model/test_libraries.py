"""Libraries of kernels: one of the processor's own level is loaded, whole, or none; and a call that does not fit is
refused."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.forking import in_a_process
from kits.models import build, require_kernels

from textune.errors import ModelError
from textune.model import processor
from textune.model.native import libraries
from textune.model.native.calls import ColumnSumsCall, make_call, pointer, strided
from textune.model.native.kernels import Kernels
from textune.model.native.libraries import KernelError, load_library

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "native" / "build.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the libraries to damage, in the place of the real ones."""
    require_kernels()
    copy = tmp_path / "libraries"
    shutil.copytree(libraries.FOLDER, copy)
    monkeypatch.setattr(libraries, "FOLDER", copy)
    yield copy
    libraries._attempt.cache_clear()


def without_kernels(tmp_path: Path, reason: str) -> str:
    """What a run's header says where there are no kernels; `on` must say the same and stop. Returns the hint."""
    auto = build("bert", tmp_path / "auto")
    auto.model.speed_up(torch.float32, training=True)
    assert auto.model.accelerator.kernels is None
    assert reason in auto.model.accelerator.note and auto.model.accelerator.note.startswith("PyTorch's own: ")
    forced = build("bert", tmp_path / "forced", section={"compile": "on"})
    with pytest.raises(
        ModelError, match=r'model\.compile = "on", but there are no compiled kernels for this run: '
    ) as caught:
        forced.model.speed_up(torch.float32, training=True)
    assert reason in str(caught.value)
    return caught.value.hint


def test_a_level_that_the_processor_lacks_is_never_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first instruction could end the process."""
    opened: list[str] = []
    monkeypatch.setattr(libraries.ctypes, "CDLL", lambda path, **_: opened.append(Path(path).stem))
    best = load_library().level
    for have in range(len(processor.levels())):
        has = processor.levels()[have:]
        with monkeypatch.context() as patch:
            patch.setattr(processor, "levels", lambda has=has: has)
            libraries._attempt.cache_clear()
            opened.clear()
            assert load_library().level == has[0]
            assert opened[-1] == has[0] and not set(opened) & (set(processor.levels()) - {has[0]})
            if have:
                with pytest.raises(KernelError, match=f"and {best} was asked for"):
                    load_library(best)


def test_a_processor_without_any_level_is_named_with_what_was_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "levels", lambda: ())
    built = ", ".join(sorted(json.loads((folder / "index.json").read_text())["libraries"]))
    reason = (
        f"this processor is {processor.vectors()}, of which textune knows no level; built were the kernels for {built}"
    )
    assert "Install textune again where GNU's C++ compiler is" in without_kernels(tmp_path, reason)


@pytest.mark.parametrize("damage", ["no library", "cut short", "zeros within", "gone", "of another build"])
def test_a_damaged_or_foreign_library_is_named_and_not_loaded(folder: Path, tmp_path: Path, damage: str) -> None:
    """A library whose pages are cut off, or wrong, would end the process."""
    library = folder / f"{processor.levels()[0]}.so"
    whole = library.read_bytes()
    if damage == "gone":
        library.unlink()
    else:
        other = folder / f"{processor.levels()[-1]}.so"
        parts = {"no library": b"no library", "cut short": whole[:8192], "of another build": other.read_bytes() + b" "}
        library.write_bytes(parts.get(damage, whole[:4096] + bytes(len(whole) - 4096)))
    hint = without_kernels(tmp_path, str(library))
    assert "again" in hint


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (None, "textune was installed without them"),
        ("{", "index.json cannot be read"),
        ("[]", "is not the index that textune was built with"),
        (
            '{"sources": "", "libraries": {}, "reason": "no C++ compiler (g++) was found"}',
            "no C++ compiler (g++) was found",
        ),
        (
            '{"sources": "", "libraries": {"x86-64-v3": ""}}',
            "the sources in native/ have changed since the kernels were built",
        ),
    ],
)
def test_an_index_that_is_of_no_use_is_said(folder: Path, tmp_path: Path, index: str | None, reason: str) -> None:
    (folder / "index.json").unlink()
    if index is not None:
        (folder / "index.json").write_text(index)
    without_kernels(tmp_path, reason)


def test_what_failed_is_not_tried_again_and_holds_nobody(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: Any) -> Any:
        calls.append(1)
        raise KernelError("the disk is full")

    monkeypatch.setattr(libraries, "_load", fail)
    built = build("bert", tmp_path)
    for _ in range(3):
        built.model.speed_up(torch.float32, training=True)
    assert len(calls) == 1 and built.model.accelerator.note == "PyTorch's own: the disk is full"
    model = weakref.ref(built.model)
    del built
    gc.collect()
    assert model() is None


def pools_of_threads() -> list[set[str]]:
    """The OpenMP libraries before and after the kernels are loaded."""
    importlib.import_module("sklearn.metrics")  # brings an OpenMP of its own
    found = []
    for action in (lambda: None, load_library):
        action()
        lines = Path("/proc/self/maps").read_text().splitlines()
        found.append({line.split()[-1] for line in lines if "omp" in line.split()[-1]})
    return found


def test_kernels_share_pytorchs_threads() -> None:
    require_kernels()
    before, after = in_a_process(pools_of_threads)
    assert before and after == before


# --- calls -----------------------------------------------------------------------------------------------------------


def sums_call(size: int | None = None, **changed: Any) -> ColumnSumsCall:
    x, sums = torch.ones(3, 4), torch.zeros(4)
    call = ColumnSumsCall(low=False, rows=3, width=4, x=pointer(x, (3, 4)), sums=pointer(sums, (4,)))
    for name, value in changed.items():
        setattr(call, name, value)
    call.size = call.size if size is None else size
    return call


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (sums_call(size=8), "another struct"),
        (sums_call(size=ctypes.sizeof(ColumnSumsCall) + 8), "another struct"),
        (sums_call(threads=0), "out of range"),
        (sums_call(rows=-1), "out of range"),
        (sums_call(width=0), "out of range"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(call: ColumnSumsCall, reason: str) -> None:
    require_kernels()
    with pytest.raises(ValueError, match=f"column_sums refused its arguments: .*{reason}"):
        make_call(load_library().functions, "column_sums", call)


@pytest.mark.parametrize(
    "tensor", [torch.ones(3, 4).t(), torch.ones(3, 5), torch.ones(3, 4).double(), torch.ones(3, 4, device="meta")]
)
def test_tensors_that_a_kernel_cannot_take(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="kernel"):
        pointer(tensor, (3, 4))


def test_heads_must_lie_side_by_side() -> None:
    with pytest.raises(ValueError, match="side by side"):
        strided(torch.ones(3, 8, 2).transpose(1, 2), (3, 2, 8), torch.float32)
    require_kernels()
    with pytest.raises(ValueError, match="float32 and bfloat16"):
        Kernels().column_sums(torch.ones(3, 4).double())


# --- building --------------------------------------------------------------------------------------------------------


def build_with(compiler: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CXX", compiler)
    reason = runpy.run_path(str(BUILD))["build"](folder)
    index: dict[str, Any] = json.loads((folder / "index.json").read_text())
    assert index["reason"] == reason and index["libraries"] == {} and not list(folder.glob("*.so"))
    return index


def test_without_a_compiler_the_index_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x86-64-v3.so").write_bytes(b"of an earlier build")
    index = build_with("no-such-g++", tmp_path, monkeypatch)
    assert index["reason"] == "no C++ compiler (no-such-g++) was found when textune was installed"


def test_another_compiler_and_one_that_fails_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, reason in (
        ("echo clang 19", "is not GNU's C++ compiler (clang 19)"),
        ("true", "is not GNU's C++ compiler (which does not say its version)"),
        (
            "case $1 in --version) echo g++ 10.2; echo Free Software Foundation;; *) echo 10;; esac",
            "g++ 10.2 is too old",
        ),
        (
            "echo Free Software Foundation; case $1 in --version) ;; *) echo 'x.h: error: no vectors' >&2; exit 1;;"
            " esac",
            "no vectors",
        ),
    ):
        compiler = tmp_path / "cxx"
        compiler.write_text(f"#!/bin/sh\n{answer}\n")
        compiler.chmod(0o755)
        assert reason in build_with(str(compiler), tmp_path / "built", monkeypatch)["reason"]


def test_a_folder_that_cannot_be_written_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    """A package is built from a tree that may be read, and no more."""
    (tmp_path / "libraries").write_text("no folder")
    reason = runpy.run_path(str(BUILD))["build"](tmp_path / "libraries")
    assert reason.startswith(f"{tmp_path / 'libraries'} cannot be written (")


def test_libraries_of_the_same_sources_stay(folder: Path) -> None:
    assert runpy.run_path(str(BUILD))["build"](folder) == ""  # where they are from another machine's compiler
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert runpy.run_path(str(BUILD))["build"](folder) == ""
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


@pytest.mark.slow
def test_a_wheel_carries_its_kernels_to_where_no_compiler_is(tmp_path: Path) -> None:
    require_kernels()
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("textune-*-py3-none-linux_*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).stem for name in names if name.endswith(".so")} == set(libraries.available_levels()) | {
        name for name in json.loads((libraries.FOLDER / "index.json").read_text())["libraries"]
    }
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    site = next((tmp_path / "empty" / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # What textune depends on, without the textune that is there.
    (site / "dependencies.pth").write_text(str(Path(torch.__file__).parents[1]))
    code = "import textune, torch; from textune.model.native import Kernels; k = Kernels(); x = torch.ones(3, 4); "
    code += "print(textune.__file__, k.level, k.column_sums(x).tolist())"
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "CXX"}} | {
        "PATH": "/nowhere"
    }
    done = subprocess.run(
        [str(tmp_path / "empty" / "bin" / "python"), "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    place, level, *sums = done.stdout.split(maxsplit=2)
    assert (
        Path(place).is_relative_to(tmp_path) and level == processor.levels()[0] and sums == ["[3.0, 3.0, 3.0, 3.0]\n"]
    )
