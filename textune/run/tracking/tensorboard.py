"""`[[track]]` of kind `tensorboard`: event files, written by the `tensorboard` package alone.

A session writes a file of its own. What the files of the run already hold, tag by tag, is not written again: they are
read when they are taken up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from textune.config import TensorBoardTrack
from textune.run.tracking.installed import require_installed
from textune.run.tracking.sink import Ended, Opened, Record, TrackedRun, as_scalars

_MARK, _END = "_hparams_/session_start_info", "_hparams_/session_end_info"
"""The tags under which the HParams plugin keeps parameters, and we with them `TrackedRun.key`, and the end."""
_VERSION = "brain.Event:2"


class TensorBoardSink:
    """Scalars for what is a number, texts for notices; parameters for the HParams tab."""

    def __init__(self, track: TensorBoardTrack, key: str) -> None:
        """ConfigError where TensorBoard is not installed."""
        require_installed("tensorboard", key=f"{key}.kind", value="tensorboard")
        self._track = track
        self._folder = Path()
        self._file: Any = None
        """Writes records into the event file of this session."""
        self._last: dict[str, int] = {}
        """The last step of each tag in the files of the run."""

    def open(self, run: TrackedRun) -> Opened:
        """Takes up the folder that holds this run, else begins one."""
        folder = run.folder / "tensorboard" if self._track.folder is None else Path(self._track.folder) / run.name
        self._folder, first = _take_up(folder, run.key)
        self._last = _last_steps(self._folder)
        self._file = _new_file(self._folder)
        if not first:
            self._write(_start_of(run), step=0, at=time.time())
            first = Path(self._file._writer.name).name
        self._file.flush()
        return Opened(f"{self._folder.name}/{first}")

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb

        for record in records:
            for name, value in record.numbers.items():
                self._once(Summary(value=[Summary.Value(tag=name, simple_value=value)]), record.step, record.time)
            if record.kind == "notice":
                # Several may come at one step; on an axis of their own each is kept.
                self._once(text_pb("notices", record.message), record.number, record.time)
        self._file.flush()
        return ()

    def keep(self, name: str, path: Path) -> None:
        """Event files hold no files."""

    def finish(self, ended: Ended) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        now = time.time()
        for name, value in ended.numbers.items():
            self._once(Summary(value=[Summary.Value(tag=name, simple_value=value)]), ended.best_step or 0, now)
        if ended.status == "complete":  # any other run may go on
            self._once(_end_at(now), 0, now)
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported where it was written to
                self._file.close()
        self._file = None

    def _once(self, summary: Any, step: int, at: float) -> None:
        """Write it, unless the run has its tag at this step or a later one."""
        tag = summary.value[0].tag
        if step > self._last.get(tag, -1):
            self._write(summary, step=step, at=at)
            self._last[tag] = step

    def _write(self, summary: Any, *, step: int, at: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file.write(Event(wall_time=at, step=step, summary=summary).SerializeToString())


def _start_of(run: TrackedRun) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return hparams_pb(as_scalars(run.parameters), trial_id=run.key)


def _end_at(when: float) -> Any:
    """Not `session_end_pb` of the plugin: its module wants TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    content = HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=when))
    kept_as = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=_END, metadata=kept_as, tensor=metadata.NULL_TENSOR)])


def _new_file(folder: Path) -> Any:
    """A writer of records into a new event file.

    Not tensorboard's `EventFileWriter`: its thread prints a traceback where the disk is full.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    now, number = time.time(), 0
    while True:
        name = f"events.out.tfevents.{now:.0f}.{socket.gethostname()}.{os.getpid()}.{number}"
        try:
            file = RecordWriter((folder / name).open("xb"))
            break
        except FileExistsError:
            number += 1
    file.write(Event(wall_time=now, file_version=_VERSION).SerializeToString())
    return file


def _take_up(folder: Path, key: str) -> tuple[Path, str]:
    """The folder, or the same name with a number behind, that holds the run of this key, and the name of the file that
    says so; else a free one, and no name."""
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        # A process that was killed, or a full disk, may leave a file with nothing in it.
        files = [file for file in _event_files(candidate) if any(True for _ in _values(file))]
        if not files:
            return candidate, ""
        for file in files:
            if key in _keys(file):
                return candidate, file.name
        number += 1


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def _keys(file: Path) -> Iterator[str]:
    """The keys of the runs whose parameters stand in an event file."""
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    for _, value in _values(file):
        if value.tag == _MARK:
            yield parse_session_start_info_plugin_data(value.metadata.plugin_data.content).group_name


def _last_steps(folder: Path) -> dict[str, int]:
    last: dict[str, int] = {}
    for file in _event_files(folder):
        for step, value in _values(file):
            last[value.tag] = max(step, last.get(value.tag, -1))
    return last


def _values(file: Path) -> Iterator[tuple[int, Any]]:
    """Every value of an event file, with its step; a record that was cut off ends it."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for event in LegacyEventFileLoader(str(file)).Load():
        for value in event.summary.value:
            yield event.step, value
