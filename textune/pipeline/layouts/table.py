"""Which files a finished run has beside its own: layouts by name.

To add one, write a module with `write(run, result, experiment)`, a row in `LAYOUTS`, and its name at `train.layout`
(`config/schema.py`). `write` is called once training has ended, by one process, which holds the lock of the run
folder; again where a run that is complete is resumed. What it writes is complete or absent (`textune/atomic.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from textune.config import Experiment
from textune.errors import RunError
from textune.run import RunFolder

if TYPE_CHECKING:
    from textune.pipeline.train import TrainResult

LAYOUTS: dict[str, str] = {
    "huggingface": "textune.pipeline.layouts.huggingface:write",
    "training-wizard": "textune.pipeline.layouts.trainingwizard:write",
    "azureml": "textune.pipeline.layouts.azureml:write",
}
"""Functions as `module:name`, by the value of `train.layout`; textune's own layout has no other files."""


def write_layout(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """Write the files of the layout that the run asks for; RunError where the system refuses."""
    name = LAYOUTS.get(experiment.train.layout)
    if name is None:
        return
    module, _, function = name.partition(":")
    write: Callable[[RunFolder, TrainResult, Experiment], None] = getattr(importlib.import_module(module), function)
    try:
        with run.lock():
            write(run, result, experiment)
    except OSError as error:
        place = str(error.filename or run.path)
        raise RunError(
            f"{place}: {error.strerror or error}. The run is complete; its files of the layout"
            f" {experiment.train.layout} are not.",
            hint="Fix that, then start the same command again with --resume.",
            place=place,
            reason=error.strerror or str(error),
        ) from error
