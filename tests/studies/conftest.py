"""A place with a config of a short run, shared by all tests of studies."""

from pathlib import Path

import pytest
from kits.runs import reviews, write_place
from kits.trained import home, trained

__all__ = ["home", "trained"]

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.25
[model]
pretrained = "backbone"
[train]
duration = "6 steps"
evaluate_every = "3 steps"
log_every = "1 steps"
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("place"), CONFIG, reviews(60))
