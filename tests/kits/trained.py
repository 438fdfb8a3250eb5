"""One trained run, shared by the tests of several rooms: their conftest.py imports these fixtures."""

from pathlib import Path
from typing import Any

import pytest

import textune
from kits.backbones import tiny_backbone
from kits.runs import Listener, reviews, write_csv


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_backbone("bert", folder / "backbone")
    write_csv(folder / "reviews.csv", reviews(200))
    (folder / "config.toml").write_text(
        f"""
[data.train]
files = "reviews.csv"
[data.validation]
ratio = 0.2
[data.test]
kind = "split"
count = 21
[tokens]
max_length = 24
cache = "{folder / "cache"}"
[model]
pretrained = "backbone"
[train]
duration = "6 epochs"
batch_size = 16
precision = "fp32"
device = "cpu"
evaluate_every = "1 epochs"
[train.optimizer]
lr = 3e-3
[evaluate]
bootstrap = 50
""",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="session")
def trained(home: Path) -> Any:
    listener = Listener()
    result = textune.train(home / "config.toml", run=home / "runs" / "first", tracker=listener)
    return result, listener
