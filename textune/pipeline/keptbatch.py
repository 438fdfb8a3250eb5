"""The rows of a step of a run that goes on: another system counts them from the processes that were started, and
another number of processes must not change what is trained; used by `train.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textune.config import Loaded, load_config, user_path
from textune.run import AUTO, LATEST

_KEY = "train.batch_size"


def with_own_batch(loaded: Loaded, folder: Path, resume: str | None) -> Loaded:
    """The configuration with the rows a step that the run began with, if `loaded` has others only since more or fewer
    processes were started.

    `folder`: the run folder; `resume`: as for `textune.train`. ConfigError if the run's own file cannot be read.
    """
    file = _run_of(folder, resume) / "config.toml"
    if loaded.rows_a_process is None or not file.is_file():
        return loaded
    own, now = load_config(file).experiment.train.batch_size, loaded.experiment.train.batch_size
    if own == now or own % loaded.rows_a_process:  # another size was asked for, which resuming refuses
        return loaded
    train = loaded.experiment.train.model_copy(update={"batch_size": own})
    note = (
        f"{_KEY} stays {own}, with which this run began; this command, in as many processes as were started, would"
        f" make it {loaded.origins.get(_KEY) or now}"
    )
    return replace(
        loaded,
        experiment=loaded.experiment.model_copy(update={"train": train}),
        origins={**loaded.origins, _KEY: f"the run in {file.parent}, which goes on"},
        notes=(*loaded.notes, note),
    )


def _run_of(folder: Path, resume: str | None) -> Path:
    """The run that goes on: this folder's own, or that of the checkpoint or run which is named."""
    if resume in (None, "", AUTO, LATEST) or (folder / "config.toml").is_file():
        return folder
    place = user_path(str(resume))
    return place.parent.parent if place.parent.name == "checkpoints" else place
