"""A run of torchrecipes as a configuration of textune: every key becomes a line, or is left out with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textune.adapters.foreign import Foreign, LeftOut, Line, as_tree, kept_files
from textune.adapters.torchrecipes.command import Mode, Named
from textune.adapters.torchrecipes.data import data_lines
from textune.adapters.torchrecipes.devices import Devices, devices_of
from textune.adapters.torchrecipes.given import Settings, read_settings
from textune.adapters.torchrecipes.keys import KEYS
from textune.adapters.torchrecipes.model import model_lines
from textune.adapters.torchrecipes.tracking import Watched, default_metric, watched_of
from textune.adapters.torchrecipes.training import train_lines
from textune.config import refuse

SYSTEM = "torchrecipes"


@dataclass(frozen=True)
class Recipe(Foreign):
    """A run of torchrecipes."""

    rehearses: bool = False
    """Whether it is one batch of everything (`trainer.fast_dev_run`)."""
    resume: str = ""
    """The run or checkpoint that it goes on from (`trainer.resume_from_checkpoint`)."""


def convert_torchrecipes(
    named: Named,
    words: Iterable[str] = (),
    *,
    mode: Mode = "prod",
    processes: int | None = None,
    gpus_here: int = 0,
) -> Recipe:
    """The configuration that trains what the recipe trains with a Hydra configuration and words.

    `mode`: "prod" and "test" end with a test, as the variable MODE says there. `processes`: those that a launcher
    started; None where the configuration says how many. `gpus_here`: the GPUs of this machine, for `devices = -1`.
    Raises a ConfigError for an unknown key or group, a wrong value, and what cannot be done.
    """
    words = tuple(words)
    settings = read_settings(named.file, words, named.folders)
    _refuse_old_checkpoints(settings)
    notes = list(named.notes)
    devices = devices_of(settings, started=processes, gpus_here=gpus_here)
    watched = watched_of(settings)
    lines = [
        *_limited(settings, list(data_lines(settings, notes, tests=mode in ("prod", "test"))), devices),
        *model_lines(settings, notes),
        *train_lines(settings, devices, notes),
        *default_metric(watched),
        *watched.all_lines(),
    ]
    notes += _usual_notes(settings, devices, lines)
    return Recipe(
        SYSTEM,
        (named.said, *words),
        tuple(lines),
        tuple(_left_out(settings, devices, watched)),
        tuple(notes),
        run=_run_folder(settings, named, watched, lines),
        kept=kept_files(settings.composed.files),
        rehearses=bool(settings["trainer.fast_dev_run"]),
        resume=settings["trainer.resume_from_checkpoint"] or "",
    )


def _refuse_old_checkpoints(settings: Settings) -> None:
    key = "trainer.resume_from_checkpoint"
    path = settings[key]
    if path is not None and str(path).endswith((".ckpt", ".pt", ".pth")):
        reason = "such files are pickled, which textune never reads"
        refuse([settings.problem(key, reason, "Name a run of textune or one of its checkpoints, or leave it out.")])


def _limited(settings: Settings, lines: list[Line], devices: Devices) -> Iterator[Line]:
    """The rows that `limit_train_batches` and its like leave, as the first rows of each set."""
    parts = {"train": "train", "val": "validation", "test": "test"}
    takes: dict[str, Line] = {}
    gone: dict[str, Line] = {}
    kinds = {line.key: line.value for line in lines}
    for name, part in parts.items():
        key = f"trainer.limit_{name}_batches"
        value = settings[key]
        if value is None or (isinstance(value, float) and value == 1.0):
            continue
        if isinstance(value, float) and value != 0:
            hint = "Write a number of batches, such as 10."
            refuse([settings.problem(key, "how many rows a share is, is not known before they are read", hint)])
        if value < 0 or (value == 0 and part == "train"):
            refuse([settings.problem(key, "there would be no rows", "Write a number of batches, such as 10.")])
        origin = settings.origin(key)
        if value == 0:
            gone[part] = Line(f"data.{part}.kind", "none", origin)
        elif kinds.get(f"data.{part}.kind") == "split":
            takes[part] = Line(f"data.{part}.count", int(value) * settings["datamodule.batch_size"], origin)
        elif f"data.{part}.kind" in kinds:
            rows = int(value) * settings["datamodule.batch_size"] * devices.processes
            takes[part] = Line(f"data.{part}.take", rows, f"{origin}, of {settings['datamodule.batch_size']} rows")
    for line in lines:
        part = line.key.split(".")[1]
        if line.key.startswith("data.") and part in gone:
            continue
        yield line
    yield from (*takes.values(), *gone.values())


def _usual_notes(settings: Settings, devices: Devices, lines: list[Line]) -> Iterator[str]:
    """What textune does otherwise in every such run, and what its defaults cost."""
    tree = as_tree(lines)
    yield (
        "Three defaults of the recipe are kept that cost most: rows in the order of the file (better:"
        ' train.order = "shuffle"), a constant rate without a warm-up (better: train.schedule.kind = "linear"), and a'
        " dropout of 0.4 before the head (usual: 0.1)."
    )
    if tree["train"]["optimizer"].get("weight_decay"):
        yield "Biases and norms are not decayed; PyTorch's optimizer decays every weight."
    if devices.processes > 1:
        yield "Each row of an epoch is trained on once; there every process may read all rows."
    yield (
        "The best model is chosen by its score on the validation rows; there ModelCheckpoint watches nothing, so that"
        " the best is the last."
    )
    if settings["random_seed"] is None:
        yield "Without random_seed the seed is 0, so that a run can be repeated; there every run draws other numbers."


def _left_out(settings: Settings, devices: Devices, watched: Watched) -> Iterator[LeftOut]:
    """Keys that somebody set and that change nothing here."""
    for key, known in KEYS.items():
        if known.unused and settings.is_set(key):
            yield LeftOut(f"{key} ({settings.place(key)})", known.unused)
    for word in dict.fromkeys(settings.composed.of_hydra):
        yield LeftOut(word, "it is about Hydra itself")
    for key in ("trainer.default_root_dir", "tb_save_dir"):
        if settings[key]:
            yield LeftOut(f"{key} ({settings.place(key)})", "the run folder is there")
    number = settings["trainer.fast_dev_run"]
    if not isinstance(number, bool) and number > 1:
        yield LeftOut(f"trainer.fast_dev_run = {number}", "a rehearsal is one batch of everything")
    yield from devices.left_out
    yield from watched.left_out


def _run_folder(settings: Settings, named: Named, watched: Watched, lines: list[Line]) -> str:
    """Where the original would write, in a folder of the configuration's name and a hash of what is trained: the same
    command finds its run again, and another one does not meet it."""
    parent = settings["trainer.default_root_dir"] or settings["tb_save_dir"] or watched.folder or "runs"
    text = repr([(line.key, line.value) for line in lines])
    mark = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return str(Path(str(parent)) / f"{named.name}-{mark}")
