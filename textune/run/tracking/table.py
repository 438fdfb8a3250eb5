"""The trackers that every run opens, and the kinds of `[[track]]`.

To add a kind of tracker: write a class with the methods of `Sink` (`sink.py`) in a file of its own, describe its keys
in `textune/config/tracking.py`, and give it a row in `KINDS`.

To add what every run keeps of itself: write a class with the methods of `Tracker` (`SilentTracker` has all of them)
that is a context manager, and give it a row in `TRACKERS`; every run then opens it with its folder, and closes it at
the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.config import AccelerateTrack, MlflowTrack, PythonTrack, TensorBoardTrack, Track
from textune.errors import ConfigError
from textune.run.folder import RunFolder
from textune.run.tracking.lines import JsonlTracker
from textune.run.tracking.log import RunLog
from textune.run.tracking.sink import Sink
from textune.run.tracking.tracker import Tracker
from textune.wording import without_passwords

OpenTracker = Callable[[RunFolder, Callable[[str], None]], AbstractContextManager[Tracker]]
"""Opens a tracker in a run folder; what it is given to say goes to the user, once the run has begun."""


def _lines(folder: RunFolder, say: Callable[[str], None]) -> JsonlTracker:
    return JsonlTracker(folder.metrics)


TRACKERS: dict[str, OpenTracker] = {"metrics.jsonl": _lines, "run.log": RunLog}
"""Every tracker that a run opens itself, beside the one that its caller gives and those of `[[track]]`, by name. Only
the first rank opens them, after the run folder was made; they first hear the notices from before that.
"""


@dataclass(frozen=True)
class Kind:
    """A kind of `[[track]]`. Each function gets the table of the configuration."""

    name: Callable[[Any], str]
    """What its tracker is called, in messages and in the name of its cursor."""
    place: Callable[[Any, Path], str]
    """Where it keeps the run of this folder, without passwords: the same text in every session, and another one for
    another place."""
    build: Callable[[Any, str, Path], Sink]
    """Its sink, for a run folder. ConfigError, before data is read, where something is not installed, or a name is
    not known; the text is the key of the table, such as `track[0]`."""
    is_alone: bool = False
    """Whether a process can have but one of a name."""


def _tensorboard(track: TensorBoardTrack, key: str, folder: Path) -> Sink:
    from textune.run.tracking.tensorboard import TensorBoardSink

    return TensorBoardSink(track, key)


def _mlflow(track: MlflowTrack, key: str, folder: Path) -> Sink:
    from textune.run.tracking.mlflow import MlflowSink

    return MlflowSink(track, key)


def _accelerate(track: AccelerateTrack, key: str, folder: Path) -> Sink:
    from textune.run.tracking.accelerate import AccelerateSink

    return AccelerateSink(track, key)


def _python(track: PythonTrack, key: str, folder: Path) -> Sink:
    from textune.run.tracking.python import PythonSink

    return PythonSink(track, key)


def _boards(track: TensorBoardTrack, folder: Path) -> str:
    own = folder.absolute() / "tensorboard"
    return "the folder tensorboard of the run" if track.folder is None or Path(track.folder) == own else track.folder


def _in_mlflow(track: MlflowTrack, folder: Path) -> str:
    from textune.run.tracking.mlflow import database_file

    database = database_file(track.uri)
    address = without_passwords(track.uri).rstrip("/") if database is None else f"sqlite:///{database}"
    return f"{address}, experiment {track.experiment}"


def _with_options(what: str, options: Mapping[str, object]) -> str:
    """The options as a hash: some may be passwords."""
    text = json.dumps(options, sort_keys=True, default=str, allow_nan=False)
    return f"{what}, options {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}" if options else what


KINDS: dict[str, Kind] = {
    "tensorboard": Kind(
        name=lambda track: "tensorboard",
        place=_boards,
        build=_tensorboard,
    ),
    "mlflow": Kind(
        name=lambda track: "mlflow",
        place=_in_mlflow,
        build=_mlflow,
    ),
    "accelerate": Kind(
        name=lambda track: track.name,
        place=lambda track, folder: f"{track.name}, project {track.project}",
        build=_accelerate,
        is_alone=True,  # wandb, swanlab and trackio keep their run for the process
    ),
    "python": Kind(
        name=lambda track: "python",
        place=lambda track, folder: _with_options(track.object, track.options),
        build=_python,
    ),
}
"""Every kind of `[[track]]`."""


@dataclass(frozen=True)
class Target:
    """A table of `[[track]]`, ready to be sent to."""

    name: str
    place: str
    sink: Sink = field(repr=False)
    track: Track = field(repr=False)


def build_targets(tracks: Sequence[Track], folder: Path) -> list[Target]:
    """Those of a run folder, which need not be there yet. ConfigError where one cannot work, or two write to one
    place."""
    found: list[Target] = []
    for index, track in enumerate(tracks):
        key = f"track[{index}]"
        kind = KINDS[track.kind]
        name, place = kind.name(track), kind.place(track, folder)
        for other, target in enumerate(found):
            if target.place == place or (kind.is_alone and target.name == name):
                shared = place if target.place == place else name
                raise ConfigError(
                    f"{key} and track[{other}] both write to {shared}.",
                    hint=f"Remove one of them{'' if kind.is_alone else ', or give it another place'}.",
                    key=key,
                    value=shared,
                    reason=f"track[{other}] writes there, too",
                )
        found.append(Target(name, place, kind.build(track, key, folder), track))
    return found
