"""Weights that are read from a mapped file do not stand in memory twice."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from textune.model import mapped
from textune.model.mapped import MAPS, MappedFiles
from textune.model.reading import _own

MIB = 2**20
ROWS = 16 * 2**10
"""Of 1 KiB each."""

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process has mapped")


def mapped_bytes() -> int:
    """Memory of this process that shows files."""
    found = re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) * 1024


@pytest.fixture
def weight_VH(tmp_path: Path) -> torch.Tensor:
    """A view of a file of 16 MiB, between two small tensors."""
    small = torch.arange(7.0)
    save_file({"a": small, "b": torch.randn(ROWS, 256), "c": small.clone()}, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        return file.get_tensor("b")


def test_what_was_read_of_a_file_is_given_back_and_can_be_read_again(weight_VH: torch.Tensor) -> None:
    files, before = MappedFiles(), mapped_bytes()
    copy_VH = weight_VH.clone()
    assert mapped_bytes() - before > 15 * MIB
    files.give_back(weight_VH)
    assert mapped_bytes() - before < MIB
    assert torch.equal(weight_VH, copy_VH)


def test_a_copy_is_never_in_memory_beside_the_whole_of_its_file(
    weight_VH: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def watched(files: MappedFiles, tensor: torch.Tensor) -> None:
        held.append(mapped_bytes())
        give_back(files, tensor)

    give_back = MappedFiles.give_back
    monkeypatch.setattr(mapped, "_BLOCK", 2**18)
    monkeypatch.setattr(MappedFiles, "give_back", watched)
    before = mapped_bytes()
    copy_VH = MappedFiles().copy(weight_VH)
    assert len(held) == 16 and max(held) - before < 5 * MIB
    assert torch.equal(copy_VH, weight_VH) and copy_VH.data_ptr() != weight_VH.data_ptr()


def test_memory_that_shows_no_file_stays_as_it_is(weight_VH: torch.Tensor) -> None:
    own_VH = weight_VH.clone()
    MappedFiles().give_back(own_VH)
    assert torch.equal(own_VH, weight_VH)
    MappedFiles().give_back(torch.empty(0))


def test_a_model_that_is_loaded_stands_in_memory_once(weight_VH: torch.Tensor) -> None:
    model = nn.Linear(256, ROWS, bias=False)
    model.weight = nn.Parameter(weight_VH)
    before = mapped_bytes()
    _own(model)  # type: ignore[arg-type]
    assert mapped_bytes() - before < MIB
    assert torch.equal(model.weight, weight_VH) and model.weight.data_ptr() != weight_VH.data_ptr()
