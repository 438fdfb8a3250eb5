"""Work that is done in parts, each kept beside the output as soon as it is done: what a process that was killed has
done already. Below every room.

scored.csv.parts/
  lock               held by the process that works
  JOB/00000.csv      a part, complete or absent; its facts in 00000.json, named before it
JOB is a hash of all that decides the parts, so that those of another job are never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.atomic import WRITING, written_aside
from textune.errors import DataError, RunError
from textune.jsontext import parse_json
from textune.locks import Held, held

_NUM_BYTES = "bytes"
"""Among the facts of a part: its size."""


def job_key(facts: Mapping[str, Any]) -> str:
    """A short name for all that decides the output."""
    text = json.dumps(facts, sort_keys=True, default=str, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True)
class PartFiles:
    """The parts of one output."""

    target: Path
    job: str
    ending: str = ""
    """Of the files of the parts; by default that of the output."""

    @property
    def folder(self) -> Path:
        """Where they are until the output is complete."""
        return self.target.with_name(f"{self.target.name}.parts")

    def path(self, number: int) -> Path:
        """That of one part."""
        return self.folder / self.job / f"{number:05d}{self.ending or ''.join(self.target.suffixes[-2:])}"

    def started(self) -> bool:
        """Whether a process has begun with this job, and no other has since; also one that was killed as it removed
        the parts of a complete output. A lock alone is no beginning."""
        return self.folder.is_dir() and [path.name for path in self.folder.iterdir() if path.is_dir()] == [self.job]

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.folder / "lock"

    def begin(self) -> None:
        """Make room for parts, and remove those of other jobs and what a process left half-written."""
        (self.folder / self.job).mkdir(parents=True, exist_ok=True)
        for other in self.folder.iterdir():
            if other.is_dir() and other.name != self.job:
                shutil.rmtree(other, ignore_errors=True)
        for unfinished in self.folder.glob(f"*/.*{WRITING}"):
            unfinished.unlink(missing_ok=True)

    def facts(self, number: int) -> dict[str, Any] | None:
        """What was noted of a part that is done; None where it is not."""
        path = self.path(number)
        try:  # of parts that are being removed, either may stay; a failing disk may have lost the end of either
            noted = dict(parse_json(_facts_path(path).read_bytes()))
            return noted if noted.pop(_NUM_BYTES, None) == path.stat().st_size else None
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the parts, and after them the lock, which keeps others away meanwhile."""
        self.clear()
        with contextlib.suppress(OSError):  # somewhere, open files cannot be removed
            self.lock.unlink(missing_ok=True)
            self.folder.rmdir()

    def clear(self) -> None:
        """Remove the parts of every job and what stands beside them, but for the lock."""
        for path in list(self.folder.glob("*")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != self.lock:
                path.unlink(missing_ok=True)

    def is_empty(self) -> bool:
        """Whether no part of any job is done."""
        return not any(path.suffix != WRITING for path in self.folder.glob("*/*"))

    def remove_if_empty(self) -> None:
        """Remove the folder of the parts where none is done."""
        if self.is_empty():
            self.remove()


def write_part(path: Path, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
    """Write a part, which other processes may write, too; its facts get their name first, so that a part that is
    there has them."""
    facts_path = _facts_path(path)
    with written_aside(path, unique_aside(path)) as aside:
        write(aside)
        noted = {**facts, _NUM_BYTES: aside.stat().st_size}
        with written_aside(facts_path, unique_aside(facts_path)) as beside:
            beside.write_text(json.dumps(noted, allow_nan=False), encoding="utf-8")


def unique_aside(path: Path) -> Path:
    """A name beside it that no other process uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{WRITING}")


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.json")


def no_output(target: Path, reason: str, hint: str) -> DataError:
    """What is said where an output cannot be written."""
    return DataError(
        f"--output {target}: {reason}.", hint=hint, key="output", value=str(target), place=str(target), reason=reason
    )


@contextlib.contextmanager
def alone(target: Path, lock: Path) -> Iterator[None]:
    """RunError where another process writes the same output, DataError where the system refuses."""
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(exist_ok=True)
            stack.enter_context(held(lock))
        except Held as holder:
            raise RunError(
                f"another process is writing {target} ({holder}).",
                hint="Wait for it or stop it, or choose another --output.",
                key="output",
                value=str(target),
                place=str(target),
                reason="another process is writing",
            ) from None
        except OSError as error:
            raise no_output(target, f"it cannot be written: {error.strerror}", "Choose another place.") from error
        yield
