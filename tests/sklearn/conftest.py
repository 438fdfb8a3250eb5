"""What the tests of the estimators train: a tiny model, a step or two."""

from pathlib import Path
from typing import Any

import pytest
from kits.trained import home

__all__ = ["home"]


@pytest.fixture
def quick(home: Path) -> dict[str, Any]:
    """Parameters of an estimator that fits in a moment."""
    overrides = {
        "train.schedule.kind": "constant",
        "train.schedule.warmup": "0 steps",
        "train.precision": "fp32",
        "tokens.cache": str(home / "cache"),
        "evaluate.bootstrap": 0,
        "evaluate.mistakes": 0,
    }
    return {
        "model": str(home / "backbone"),
        "duration": "2 steps",
        "max_length": 24,
        "device": "cpu",
        "overrides": overrides,
    }
