"""The files of the AzureML component: the best model as `pytorch_model_folder/` in the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import replace_folder
from textune.config import Experiment
from textune.run import RunFolder

if TYPE_CHECKING:
    from textune.pipeline.train import TrainResult


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """`pytorch_model_folder/`, with the best model."""
    replace_folder(run.path / "pytorch_model_folder", lambda folder: _copy(run.best, folder))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
