"""Plain folders of every family open in plain transformers with the same predictions: the gate asks that."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import FAMILIES, tiny_backbone

import textune
from textune.exports import export

SETTINGS = {
    "data": {"train": {"files": "reviews.csv"}, "validation": {"ratio": 0.2}},
    "tokens": {"max_length": 24},
    "train": {"duration": "2 steps", "batch_size": 16, "precision": "fp32", "device": "cpu"},
    "evaluate": {"bootstrap": 0, "probe": 12},
}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family(family: str, home: Path, tmp_path: Path) -> None:
    backbone = tiny_backbone(family, tmp_path / "backbone")
    data = {"train": {"files": str(home / "reviews.csv")}, "validation": {"ratio": 0.2}}
    config: dict[str, Any] = SETTINGS | {"data": data, "model": {"pretrained": str(backbone)}}
    config["tokens"] = {"max_length": 24, "cache": str(tmp_path / "cache")}
    with torch.random.fork_rng(devices=[]):
        textune.train(config, run=tmp_path / "run")
    done = export(tmp_path / "run", tmp_path / "model")
    assert done.parity.opened_by == ("textune", "transformers")
    assert done.parity.rows == 12 and done.parity.difference < 1e-5 and done.parity.changed == 0
