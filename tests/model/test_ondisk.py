"""A large table of frozen token embeddings stands in a file without a name, and nothing that is computed changes."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.models import Built, build, gradients, lay_out, random_rows
from torch import nn
from torch.nn import functional

from textune.config.adapters import Lora
from textune.model import ondisk
from textune.model.mapped import MAPS
from textune.model.ondisk import TableOnDisk, large_frozen_table

MIB = 2**20
ROWS, WIDTH = 64 * 2**10, 256
"""Rows of 1 KiB each: beyond 32 MiB, memory that is freed always goes back to the system."""

linux = pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process has mapped")


def held_bytes(kind: str) -> int:
    """Memory of this process: `RssAnon` is its own, `RssFile` shows files."""
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) * 1024


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ondisk, "LARGE", 1)


def frozen(family: str, folder: Path) -> Built:
    built = build(family, folder)
    for parameter in built.hf.base_model.parameters():
        parameter.requires_grad_(False)
    return built


def ids_of(built: Built) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int32) for row in random_rows(built)]


@pytest.mark.slow
@linux
def test_memory_holds_the_rows_that_are_read_and_gets_the_others_back(tmp_path: Path) -> None:
    """In a process of its own: in one that ran other tests, their memory comes and goes in between."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    code = f"import pathlib, model.test_ondisk as tests; tests.hold_some_rows(pathlib.Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def hold_some_rows(folder: Path) -> None:
    """Asserts what is in memory at each step."""
    table_VH = nn.Parameter(torch.randn(ROWS, WIDTH), requires_grad=False)
    known_VH, read_K = table_VH.detach().clone(), np.arange(0, ROWS, 64)
    own, files = held_bytes("RssAnon"), held_bytes("RssFile")
    on_disk = TableOnDisk(table_VH, folder, read_K)
    assert own - held_bytes("RssAnon") > 48 * MIB and held_bytes("RssFile") - files < 16 * MIB
    assert on_disk.num_bytes == (ROWS - len(read_K)) * WIDTH * 4
    assert torch.equal(table_VH[read_K], known_VH[read_K]) and held_bytes("RssFile") - files < 16 * MIB
    assert torch.equal(table_VH, known_VH) and held_bytes("RssFile") - files > 48 * MIB
    on_disk.give_back()
    assert held_bytes("RssFile") - files < 16 * MIB and own - held_bytes("RssAnon") > 48 * MIB
    assert torch.equal(table_VH, known_VH)
    assert list(folder.iterdir()) == []


def test_the_file_is_nobody_elses_and_goes_with_the_table(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    before = open_files()
    table_VH = nn.Parameter(torch.randn(64, 8, dtype=torch.bfloat16), requires_grad=False)
    known_VH = table_VH.detach().clone()
    on_disk = TableOnDisk(table_VH, tmp_path, np.arange(3))
    other_VH = copy.deepcopy(table_VH)
    assert table_VH.dtype == torch.bfloat16 and torch.equal(table_VH, known_VH) and list(tmp_path.iterdir()) == []
    with torch.no_grad():
        table_VH[5] = 1.0  # a page of this process alone
    assert torch.equal(other_VH, known_VH) and not torch.equal(table_VH, known_VH)
    del table_VH, on_disk
    assert open_files() == before


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "llama", "gemma", "t5", "albert"])
def test_a_model_computes_and_saves_the_same_bits(family: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    plain, stored = (frozen(family, tmp_path / name) for name in ("plain", "stored"))
    size = stored.model.num_bytes
    said = stored.model.put_table_on_disk(ids_of(stored)[:3], lambda: tmp_path / "cache")
    assert "it stands in a file" in said and list((tmp_path / "cache").iterdir()) == []
    assert stored.model.num_bytes < size and stored.model.num_parameters == plain.model.num_parameters
    saved = []
    for built in (plain, stored):
        logits_BC = built.model.eval()(lay_out(built, random_rows(built)))
        loss = functional.cross_entropy(logits_BC, torch.arange(len(logits_BC)) % 3)
        folder = tmp_path / f"saved {len(saved)}"
        folder.mkdir()
        built.model.save(folder)
        weights = (folder / "model.safetensors").read_bytes()
        saved.append(
            (logits_BC.tolist(), gradients(built.hf, loss), weights, built.model.frozen_weights.fingerprint())
        )
    (ours, our_grads, *ours_saved), (theirs, their_grads, *theirs_saved) = saved
    assert ours == theirs and ours_saved == theirs_saved
    assert our_grads.keys() == their_grads.keys() and all(torch.equal(our_grads[n], their_grads[n]) for n in our_grads)
    again = stored.model.eval()(lay_out(stored, random_rows(stored)))
    assert again.tolist() == theirs


@pytest.mark.usefixtures("any_size")
def test_adapters_stand_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    hashes = []
    for name in ("plain", "stored"):
        built = build("bert", tmp_path / name)
        built.model.adapt(Lora(r=2), seed=3)
        if name == "stored":
            assert built.model.put_table_on_disk(ids_of(built), lambda: tmp_path)
        hashes.append(built.model.frozen_weights.fingerprint())
        folder = tmp_path / f"saved {name}"
        folder.mkdir()
        built.model.save(folder, merge=True)
    assert hashes[0] == hashes[1]
    plain, stored = ((tmp_path / f"saved {name}" / "model.safetensors").read_bytes() for name in ("plain", "stored"))
    assert plain == stored


def test_other_tables_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = frozen("bert", tmp_path / "small")
    assert large_frozen_table(built.hf) is None
    assert built.model.put_table_on_disk([], lambda: tmp_path) == ""
    monkeypatch.setattr(ondisk, "LARGE", 1)
    assert large_frozen_table(built.hf) is built.hf.get_input_embeddings().weight
    trained = build("bert", tmp_path / "trained")
    assert large_frozen_table(trained.hf) is None
    trained.model.compact_vocabulary(ids_of(trained), mode="on")
    assert large_frozen_table(trained.hf) is None
    built.hf.classifier.weight = built.hf.get_input_embeddings().weight
    assert large_frozen_table(built.hf) is None


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("fault", ["no folder", "full"])
def test_without_room_for_a_file_it_stays_in_memory_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    built = frozen("bert", tmp_path / "model")
    table_VH = built.hf.get_input_embeddings().weight
    place, known_VH = table_VH.data_ptr(), table_VH.detach().clone()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    if fault == "full":
        monkeypatch.setattr(os, "fsync", full)
    folder = tmp_path if fault == "full" else tmp_path / "absent"
    said = built.model.put_table_on_disk(ids_of(built), lambda: folder)
    assert "stays in memory" in said and ("No space left" if fault == "full" else "No such file") in said
    assert table_VH.data_ptr() == place and torch.equal(table_VH, known_VH)
    built.model.save(tmp_path)
