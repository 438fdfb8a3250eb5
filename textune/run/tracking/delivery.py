"""From metrics.jsonl to one sink, in order, each record once; in a thread while a run trains (`sender.py`), or
afterwards (`textune tracking replay`)."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from textune.atomic import WRITING
from textune.jsontext import parse_json
from textune.run.folder import RunFolder
from textune.run.tracking.cursor import Cursor, find_cursor, write_cursor
from textune.run.tracking.lines import read_lines, tail_of
from textune.run.tracking.sink import Ended, Record, Sink, TrackedRun
from textune.run.tracking.table import Target
from textune.wording import without_passwords

if TYPE_CHECKING:
    from pydantic import JsonValue

NOTHING: Mapping[str, JsonValue] = MappingProxyType({})
MAX_RECORDS = 200
"""Records that a sink gets at once."""
FAULTS = (Exception, SystemExit)
"""What the code of a tracker may raise."""


@dataclass(frozen=True)
class Story:
    """What every tracker of a run is told at its start."""

    config: Mapping[str, JsonValue]
    """The resolved configuration."""
    facts: Mapping[str, JsonValue]


class Delivery:
    """Brings one sink up to date. Everything that its sink raises passes through; then it can be opened again."""

    def __init__(
        self,
        target: Target,
        folder: RunFolder,
        story: Story,
        *,
        kept: Mapping[str, JsonValue] = NOTHING,
        others: Sequence[Delivery] = (),
    ) -> None:
        """`kept`: what a checkpoint holds of the cursor, for a folder that has lost it. `others`: those of the same
        run. RunError where the cursor is damaged."""
        self.target = target
        self._sink: Sink = target.sink
        self._lines = folder.metrics
        taken = [other._path for other in others]
        path, found = find_cursor(folder.path / "tracking", target.name, target.place, taken=taken)
        self._path: Path = path
        self._written = found
        """What the file of the cursor says."""
        if found is None:
            found = (
                Cursor.from_json(kept, where="the trackers' state of the checkpoint") if kept else Cursor(target.place)
            )
        if found.bytes and found.tail != tail_of(self._lines, found.bytes):
            found = replace(found, bytes=0)  # the file was cut where the run resumed
        self.cursor = found
        config = {name: value for name, value in story.config.items() if name != "track"}
        place = folder.path.absolute()
        self._run = TrackedRun(place.name, place, config, story.facts, key=self.cursor.key)
        self.num_sent = 0
        """Records sent by now."""
        self.reasons: list[str] = []
        """Why records were left out, each reason once."""

    def forget_files(self) -> None:
        """The run goes on: what it left when it was complete is no longer what it leaves."""
        self.cursor = replace(self.cursor, files=())

    def open(self) -> None:
        """Let the sink begin the run, or take up the one that it knows."""
        self._note(replace(self.cursor, status=""))  # with the key, before anything is made that has it
        opened = self._sink.open(replace(self._run, known=self.cursor.run))
        cursor = self.cursor
        if cursor.run not in ("", opened.run):
            cursor = Cursor(cursor.place, key=cursor.key)
        sent = {stream: max(step, cursor.sent.get(stream, -1)) for stream, step in opened.sent.items()}
        self._note(replace(cursor, run=opened.run, sent={**cursor.sent, **sent}))

    def send_next(self) -> bool:
        """Send the next records, if there are any; whether there were lines at all."""
        lines, end = read_lines(self._lines, self.cursor.bytes, MAX_RECORDS)
        if not lines:
            return False
        after, records = self.cursor, list[Record]()
        for line in lines:
            record = _record(line, after)
            if record is not None and not after.has(record):
                records.append(record)
                after = after.after(record)
        left_out = self._sink.send(records) if records else ()
        self.num_sent += len(records) - len(left_out)
        self.reasons += [reason for reason in dict.fromkeys(left_out) if reason not in self.reasons]
        left_out_by_now = after.left_out + len(left_out)
        self._note(replace(after, bytes=end, tail=tail_of(self._lines, end), left_out=left_out_by_now))
        return True

    def num_left(self) -> int:
        """Records in metrics.jsonl that the tracker does not have."""
        found, start, after = 0, self.cursor.bytes, self.cursor
        while True:
            lines, start = read_lines(self._lines, start, MAX_RECORDS)
            if not lines:
                return found
            for line in lines:
                record = _record(line, after)
                if record is not None and not after.has(record):
                    found, after = found + 1, after.after(record)

    def finish(self, ended: Ended, files: Mapping[str, Path]) -> None:
        """Once all records are sent: what the run leaves, if it is complete, then how it ended."""
        for name, path in files.items():
            if name not in self.cursor.files:
                with _to_share(path, beside=self._path.parent) as shared:
                    self._sink.keep(name, shared)
                self._note(replace(self.cursor, files=(*self.cursor.files, name)))
        self._sink.finish(ended)
        self._note(replace(self.cursor, status=ended.status))

    def close(self) -> None:
        """Let go of the sink; a fault that this has does not matter any more."""
        with contextlib.suppress(*FAULTS):
            self._sink.close()

    def _note(self, cursor: Cursor) -> None:
        """Go on from here; what was sent counts as sent even where that cannot be written down."""
        self.cursor = cursor
        if cursor != self._written:
            write_cursor(self._path, cursor, before=self._written)
            self._written = cursor


def _record(line: bytes, cursor: Cursor) -> Record | None:
    """A line of metrics.jsonl, beside what was sent before it; None where it is no record, such as a damaged one."""
    try:
        values = parse_json(line)
    except ValueError:
        return None
    kind = values.get("kind") if isinstance(values, dict) else None
    written = values.get("time") if kind else None
    when = float(written) if isinstance(written, int | float) else time.time()  # lines of version 0.1.0 have none
    if kind == "notice":
        number = len(cursor.notices) + 1
        return Record("notice", cursor.sent.get("step", 0), when, values, number=number)
    if kind in ("step", "evaluation") and isinstance(values.get("step"), int):
        return Record(kind, values["step"], when, values)
    return None


@contextlib.contextmanager
def _to_share(path: Path, *, beside: Path) -> Iterator[Path]:
    """The file itself; of the configuration a copy without `[[track]]`, whose options may hold passwords."""
    if path.name != "config.toml":
        yield path
        return
    tables = re.split(r"^(?=\[)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    others = [table for table in tables if not re.match(r"\[+\s*track\b", table)]
    with tempfile.TemporaryDirectory(suffix=WRITING, dir=beside) as scratch:
        shared = Path(scratch) / path.name
        shared.write_text("".join(others), encoding="utf-8")
        yield shared


def trouble_of(error: BaseException) -> str:
    """What a sink raised, on one line; the address that a library names may hold a password."""
    return without_passwords(" ".join(f"{type(error).__name__}: {error}".split()).rstrip(": "))
