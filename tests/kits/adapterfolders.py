"""Several adapters of one backbone, as folders that runs leave: the first is trained, the others differ from it in
every number that was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

import textune
from kits.backbones import tiny_backbone
from kits.runs import reviews, write_csv

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
[model.lora]
r = 4
merge = "off"
[train]
duration = "2 steps"
device = "cpu"
precision = "fp32"
[train.optimizer]
lr = 1e-2
[evaluate]
bootstrap = 0
"""


class Adapters(NamedTuple):
    """What `write_adapters` wrote."""

    backbone: Path
    folders: list[Path]
    """`a`, `b` and so on."""


def write_adapters(folder: Path, *, num: int = 3, seed: int = 0, **backbone: Any) -> Adapters:
    """`num` adapters of a tiny backbone that `seed` draws, with other keys of its configuration where given."""
    tiny_backbone("bert", folder / "backbone", seed=seed, **backbone)
    write_csv(folder / "rows.csv", reviews(60))
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    textune.train(folder / "config.toml", run=folder / "run")
    folders = [folder / name for name in "abcdefgh"[:num]]
    for place, adapter in enumerate(folders):
        shutil.copytree(folder / "run" / "best", adapter)
        if place:
            _change(adapter / "adapter_model.safetensors", place)
    return Adapters(folder / "backbone", folders)


def _change(weights: Path, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    changed = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws) for name, tensor in load_file(weights).items()
    }
    save_file(changed, weights, metadata={"format": "pt"})
