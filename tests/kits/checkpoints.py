"""Checkpoints of a few tensors, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from textune.config.sharing import Checkpointing
from textune.ranks import ALONE
from textune.training.keeper import CheckpointKeeper

SMALL_FILES = {"config.toml": b"[train]\n", "model/config.json": b"{}\n"}


class Tensors:
    """What a keeper asks of a learner: weights that tell of the step they were saved at."""

    def __init__(self, size: int = 64) -> None:
        self.weight = torch.zeros(size)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield "model/weight", self.weight
        yield "optimizer/weight/exp_avg", self.weight * 2
        yield "optimizer/weight/step", self.weight[0].clone()


def keeper_of(
    folder: Path, *, step: int = 0, on_notice: Callable[[str], None] = lambda message: None, **keys: Any
) -> CheckpointKeeper:
    """A keeper that is open."""
    keeper = CheckpointKeeper(folder, Checkpointing(**keys), ALONE, small_files=SMALL_FILES, on_notice=on_notice)
    keeper.open(step)
    return keeper


def save(keeper: CheckpointKeeper, step: int, *, value: float | None = None, size: int = 64) -> None:
    """A whole checkpoint."""
    learner = Tensors(size)
    learner.weight += step
    keeper.save(learner, step, {"step": step, "note": "n" * step}, value=value)
    keeper.wait()
