"""Folders that a stage writes: complete or absent, also where the caller has made an empty one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from textune.atomic import write_folder, write_text
from textune.config import absolute
from textune.errors import ConfigError

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl"})
"""Suffixes of what a training keeps for itself: its arguments, optimizer and random states. Weights are
safetensors."""


def copy_model(model: Path, folder: Path) -> None:
    """The files of a model folder without pickles, and without the folders in it, such as checkpoints."""
    folder.mkdir()
    for file in sorted(model.iterdir()):
        if file.is_file() and file.suffix not in _PICKLES:
            shutil.copyfile(file, folder / file.name)


def write_output(given: str, write: Callable[[Path], None], *, key: str) -> Path:
    """Fill a new folder, or an empty one, by `write(folder)`; ConfigError where something is in it, RunError where the
    system refuses."""
    folder = output_folder(given, key=key)
    if folder.is_dir():
        folder.rmdir()
    write_folder(folder, write)
    return folder


def output_folder(given: str, *, key: str) -> Path:
    """The folder that will be written; ConfigError unless it is absent or empty."""
    folder = Path(absolute(given, Path.cwd()))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"--{key} {given}: something is there already; nothing is ever overwritten.",
            hint="Name a new folder, or an empty one.",
            key=key,
            value=given,
            place=given,
        )
    return folder


def write_object(file: Path, values: Mapping[str, object]) -> None:
    """Write a JSON object as the other system does: indented."""
    write_text(file, json.dumps(dict(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
