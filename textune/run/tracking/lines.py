"""metrics.jsonl: written line by line while a run trains, cut where it resumes, read from any line on."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textune.errors import RunError
from textune.jsontext import finite
from textune.run.tracking.tracker import EvaluationValues, SilentTracker, StepValues

if TYPE_CHECKING:
    from pydantic import JsonValue

_READ_BYTES = 1 << 16
_TAIL_BYTES = 256


class JsonlTracker(SilentTracker):
    """Appends steps, evaluations and notices to a file, a JSON object per line with its time, flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def notice(self, message: str) -> None:
        self._write("notice", {"message": message})

    def step(self, values: StepValues) -> None:
        self._write("step", values)

    def evaluation(self, values: EvaluationValues) -> None:
        self._write("evaluation", values)

    def state(self) -> Mapping[str, JsonValue]:
        """Bytes of the file so far, synced: a run that resumes here continues there (`cut_lines`)."""
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            os.fsync(self._file.fileno())
        return {"metrics_bytes": self._file.tell()}

    def _write(self, kind: str, values: Mapping[str, object]) -> None:
        line = {"kind": kind, **finite(values), "time": round(time.time(), 3)}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self._file.name} cannot be written: {error.strerror or error}.",
                hint="Fix that (free space: other runs, their checkpoints), then continue with --resume.",
            ) from error


def cut_lines(path: Path, size: int) -> None:
    """Remove what a JSON-lines file holds beyond `size` bytes: steps that will be done again."""
    if not path.is_file():
        return
    if path.stat().st_size >= size:
        os.truncate(path, size)
    else:  # a machine that went down has lost the end, and may have cut a line
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def tail_of(path: Path, end: int) -> str:
    """Hash of the last bytes before byte `end`: lines have their times, so it tells them from those that are written
    when the same steps are done again."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, end - _TAIL_BYTES))
        return hashlib.blake2b(file.read(min(end, _TAIL_BYTES)), digest_size=8).hexdigest()


def read_lines(path: Path, start: int, most: int) -> tuple[list[bytes], int]:
    """At most so many whole lines from byte `start` on, and the byte behind them; a line that is still being written
    waits."""
    lines: list[bytes] = []
    end, rest = start, b""
    if not path.is_file():
        return lines, end
    with path.open("rb") as file:
        file.seek(start)
        while len(lines) < most and (read := file.read(_READ_BYTES)):
            *whole, rest = (rest + read).split(b"\n")
            for line in whole[: most - len(lines)]:
                lines.append(line)
                end += len(line) + 1
    return lines, end
