"""`[[track]]` of kind `accelerate`: Weights & Biases, Comet, ClearML and others, through the tracker classes of
Hugging Face's Accelerate alone.

To add a service that Accelerate knows: give it a row in `SERVICES`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.config import AccelerateTrack
from textune.errors import ConfigError
from textune.run.tracking.installed import require_installed
from textune.run.tracking.sink import Ended, Opened, Record, TrackedRun, as_scalars
from textune.run.tracking.whileused import WhileUsed
from textune.wording import listing, nearest


@dataclass(frozen=True)
class Service:
    """One that Accelerate has a class for."""

    package: str
    """What is imported."""
    options: Callable[[TrackedRun], Mapping[str, object]]
    """Keyword arguments of the class that begin a run, or take up the one that is known; the user's come over them."""
    run_of: Callable[[Any], str] = lambda tracker: ""
    """The service's own name of the run, asked of `GeneralTracker.tracker`; empty where `TrackedRun.key` decides."""
    takes_texts: bool = False
    """Whether it logs sentences, too."""
    install: str = ""
    """What pip is told, if that is not the name of the package."""


SERVICES: dict[str, Service] = {
    "aim": Service(
        "aim",
        lambda run: {"logging_dir": str(run.folder), **({"run_hash": run.known} if run.known else {})},
        run_of=lambda found: str(found.hash),
    ),
    "clearml": Service(
        "clearml",
        lambda run: {
            "task_name": run.name,
            "reuse_last_task_id": False,
            "continue_last_task": run.known or False,
            "auto_connect_frameworks": False,
            "auto_connect_arg_parser": False,
        },
        run_of=lambda task: str(task.id),
    ),
    "comet_ml": Service(
        "comet_ml",
        lambda run: {"experiment_key": run.key, "mode": "get_or_create"},
        takes_texts=True,
        install="comet-ml",
    ),
    "dvclive": Service(
        "dvclive",
        lambda run: {"dir": str(run.folder / "dvclive"), "resume": True, "save_dvc_exp": False, "dvcyaml": None},
    ),
    "swanlab": Service(
        "swanlab",
        lambda run: {
            "id": run.key[:21],
            "resume": "allow",
            "experiment_name": run.name,
            "logdir": str(run.folder / "swanlog"),
        },
    ),
    "trackio": Service(
        "trackio", lambda run: {"name": f"{run.name}-{run.key[:6]}", "resume": "allow"}, takes_texts=True
    ),
    "wandb": Service(
        "wandb",
        lambda run: {"id": run.key, "name": run.name, "resume": "allow", "dir": str(run.folder)},
        takes_texts=True,
    ),
}
"""By Accelerate's name."""
OWN_KINDS = ("tensorboard", "mlflow")
"""What textune does without Accelerate."""
_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables by which Accelerate would start processes' talk of its own."""


class AccelerateSink:
    """Parameters, figures by step, and sentences where the service takes them; Accelerate's classes send no files."""

    def __init__(self, track: AccelerateTrack, key: str) -> None:
        """ConfigError where Accelerate or the service is not installed, or Accelerate has no such class."""
        require_installed("accelerate", key=f"{key}.kind", value="accelerate")
        self._class, self._service = _find(track.name, key=f"{key}.name")
        self._track = track
        self._tracker: Any = None

    def open(self, run: TrackedRun) -> Opened:
        with _WITH_STATE, _WITHOUT_QUESTIONS:
            options = {**self._service.options(run), **self._track.options}
            tracker = self._class(self._track.project, **options)
            tracker.main_process_only = False  # only the first rank has a sink
            tracker.start()
            self._tracker = tracker
            tracker.store_init_configuration(as_scalars(run.parameters))
            return Opened(self._service.run_of(tracker.tracker) or run.key)

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        with _WITH_STATE:
            for record in records:
                if record.numbers:
                    self._tracker.log(record.numbers, step=record.step)
                elif record.kind == "notice" and self._service.takes_texts:
                    self._tracker.log({f"notice/{record.number}": record.message}, step=record.step)
        return ()

    def keep(self, name: str, path: Path) -> None:
        """Accelerate's classes have no way for files."""

    def finish(self, ended: Ended) -> None:
        with _WITH_STATE:
            if ended.numbers:
                self._tracker.log(ended.numbers)

    def close(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with _WITH_STATE:
                tracker.finish()


def _find(name: str, *, key: str) -> tuple[Any, Service]:
    """Accelerate's class of this name and what it needs; ConfigError where it has none."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name in OWN_KINDS:
        raise ConfigError(
            f"{key} = {name!r}: textune has a tracker of its own for that.",
            hint=f'Write kind = "{name}".',
            key=key,
            value=name,
            reason="a kind of its own",
        )
    known = LOGGER_TYPE_TO_CLASS.get(name)
    if known is None:
        names = [found for found in LOGGER_TYPE_TO_CLASS if found not in OWN_KINDS]
        close = nearest(name, names)
        raise ConfigError(
            f"{key} = {name!r}: Accelerate knows no tracker of that name.",
            hint=f"Did you mean {close!r}?" if close else f"It knows {listing(sorted(names), 12)}.",
            key=key,
            value=name,
            reason="unknown",
        )
    # One that was added with accelerate.tracking.register_tracker_class has no row.
    service = SERVICES.get(name, Service("accelerate", lambda run: {}))
    require_installed(service.package, key=key, value=name, install=service.install or service.package)
    return known, service


def _ask_nobody() -> Callable[[], None]:
    """Services ask for a password only where somebody sits at a terminal."""
    before, sys.stdin = sys.stdin, io.StringIO()

    def restore() -> None:
        sys.stdin = before

    return restore


def _one_process() -> Callable[[], None]:
    """Accelerate's classes need its `PartialState`. Where this process has none, it gets one that knows of a single
    process without a GPU, and so starts no process group and touches no device."""
    from accelerate import PartialState

    if PartialState._shared_state:
        return lambda: None
    launched = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    try:
        PartialState(cpu=True)
    finally:
        os.environ.update(launched)
    reset: Callable[[], None] = PartialState._reset_state
    return reset


_WITHOUT_QUESTIONS, _WITH_STATE = WhileUsed(_ask_nobody), WhileUsed(_one_process)
