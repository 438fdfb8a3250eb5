"""Trackers of the `python` kind that keep what they get in a folder of JSON lines, and fail in every way."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textune.run.tracking.sink import Ended, Record, TrackedRun

HANGING = threading.Event()
"""Set to let those go that hang."""


class Kept:
    """Appends to `folder/NAME.jsonl`, as a service keeps its runs; says what it has of a run that it knows."""

    def __init__(self, folder: str, tells: bool = True) -> None:
        """`tells`: whether it can say how far it came."""
        self.folder = Path(folder)
        self.tells = tells

    def open(self, run: TrackedRun) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = run.known or run.key[:8]
        self.file = self.folder / f"{name}.jsonl"
        self._mend()
        if not run.known:
            self._write([{"parameters": run.parameters, "name": run.name}] if not self.file.exists() else [])
        return {"run": name, "sent": sent_in(self.file) if self.tells else {}}

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        self._write([line_of(record) for record in records])
        return []

    def keep(self, name: str, path: Path) -> None:
        assert path.exists()
        self._write([{"file": name}])

    def finish(self, ended: Ended) -> None:
        self._write([{"ended": ended.status, "sets": sorted(ended.results)}])

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _mend(self) -> None:
        """Remove half a line, of a process that was killed."""
        if self.file.exists():
            text = self.file.read_bytes()
            os.truncate(self.file, text.rfind(b"\n") + 1)


class Hanging(Kept):
    """Does not come back from `send`."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        HANGING.wait()
        return super().send(records)


class Unreachable(Kept):
    """Cannot be opened while the file `up` is not in its folder."""

    def open(self, run: TrackedRun) -> dict[str, Any]:
        if not (self.folder / "up").exists():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return super().open(run)


class Full(Kept):
    """Has room for three records while the file `up` is not in its folder; the disk is full then."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        if (self.folder / "up").exists():
            return super().send(records)
        room = max(0, 3 - len(records_in(self.file)))
        self._write([line_of(record) for record in records[:room]])
        if room < len(records):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return []


class Refusing(Kept):
    """Takes no notices: they are too long."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        super().send([record for record in records if record.kind != "notice"])
        return ["too long" for record in records if record.kind == "notice"]


class Exiting(Kept):
    """Ends the program, or so it thinks."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        raise SystemExit(3)


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


class Panicking(Kept):
    """Fails in every method with what is no Exception."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        raise Panic("entered unreachable code")

    def close(self) -> None:
        raise SystemExit(3)


class Dying(Kept):
    """Kills its process at one moment, once."""

    MOMENTS = ("before it opens", "opened", "before it sends", "half sent", "sent", "kept", "finished")

    def __init__(self, folder: str, at: str) -> None:
        super().__init__(folder)
        self.at = at

    def open(self, run: TrackedRun) -> dict[str, Any]:
        self._die("before it opens")
        said = super().open(run)
        self._die("opened")
        return said

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        self._die("before it sends")
        half = len(records) // 2
        super().send(records[:half])
        with self.file.open("a", encoding="utf-8") as file:
            text = json.dumps(line_of(records[half]))
            file.write(text[: len(text) // 2])
            file.flush()
            self._die("half sent")
            file.write(text[len(text) // 2 :] + "\n")
        super().send(records[half + 1 :])
        self._die("sent")
        return []

    def keep(self, name: str, path: Path) -> None:
        super().keep(name, path)
        if name == "metrics.jsonl":
            self._die("kept")

    def finish(self, ended: Ended) -> None:
        super().finish(ended)
        self._die("finished")

    def _die(self, moment: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if moment == self.at and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def line_of(record: Record) -> dict[str, Any]:
    said = {"message": record.message} if record.kind == "notice" else {"numbers": record.numbers}
    return {"stream": record.stream, "step": record.step, "time": record.time, "number": record.number, **said}


def kept_in(folder: Path) -> list[dict[str, Any]]:
    """Everything that the only run in a folder has."""
    [file] = folder.glob("*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def records_in(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line for line in map(json.loads, lines) if "stream" in line]


def sent_in(file: Path) -> dict[str, int]:
    return {line["stream"]: line["step"] for line in records_in(file) if line["stream"] != "notice"}
