"""The finished parts of a file beside its output: what a run of `tag` that was killed has done already.

tagged.jsonl.gz.parts/
  lock               held by the process that is tagging
  JOB/00000.jsonl.gz a part, complete or absent; its counts in 00000.json, written before it
JOB is a hash of the input and the settings, so that parts of another job are never used.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textune.atomic import WRITING, written_aside
from textune.data import COMPRESSION
from textune.jsontext import parse_json
from textune.metadata.taggers.tagging import TagCounts

_GZIP_LEVEL = 6


def job_key(facts: Mapping[str, Any]) -> str:
    """A short name for all that decides the output."""
    text = json.dumps(facts, sort_keys=True, default=str, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True)
class PartFiles:
    """The parts of one output."""

    target: Path
    job: str

    @property
    def folder(self) -> Path:
        """Where they are until the output is complete."""
        return self.target.with_name(f"{self.target.name}.parts")

    def path(self, number: int) -> Path:
        """That of one part; its ending is that of the output, which it becomes a piece of."""
        return self.folder / self.job / f"{number:05d}{''.join(self.target.suffixes[-2:])}"

    def started(self) -> bool:
        """Whether a process has begun with this job, and no other has since; also one that was killed as it removed
        the parts of a complete output. A lock alone is no beginning."""
        return self.folder.is_dir() and [path.name for path in self.folder.iterdir() if path.is_dir()] == [self.job]

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.folder / "lock"

    def begin(self) -> None:
        """Make room for parts, and remove those of other jobs."""
        (self.folder / self.job).mkdir(parents=True, exist_ok=True)
        for other in self.folder.iterdir():
            if other.is_dir() and other.name != self.job:
                shutil.rmtree(other, ignore_errors=True)

    def counts(self, number: int) -> tuple[TagCounts, list[str]] | None:
        """Of a part that is done, with the rows that were left out; None where it is not."""
        path = self.path(number)
        if not (path.is_file() and _counts_path(path).is_file()):  # of parts that are being removed, either may stay
            return None
        found = parse_json(_counts_path(path).read_bytes())
        return TagCounts.from_dict(found["counts"]), found["skipped"]

    def assemble(self, num_parts: int) -> None:
        """Make the output of its parts."""
        paths = [self.path(number) for number in range(num_parts)]
        with written_aside(
            self.target, self.target.with_name(f".{self.target.name}.{uuid.uuid4().hex}{WRITING}")
        ) as aside:
            if self.target.suffix == ".parquet":
                _join_tables(paths, aside)
            else:  # packed files put one after the other are one packed file
                with aside.open("wb") as whole:
                    for path in paths:
                        with path.open("rb") as part:
                            shutil.copyfileobj(part, whole, 1 << 20)

    def remove(self) -> None:
        """Remove the parts, and after them the lock, which keeps others away meanwhile."""
        for path in list(self.folder.glob("*")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # somewhere, open files cannot be removed
            self.lock.unlink(missing_ok=True)
            self.folder.rmdir()

    def remove_if_empty(self) -> None:
        """Remove the folder of the parts where none is done."""
        if not any(path.suffix != WRITING for path in self.folder.glob("*/*")):
            self.remove()


def write_part(path: Path, content: bytes | pa.Table, counts: TagCounts, skipped: list[str]) -> None:
    """Write a part, which other processes may write, too; its counts come first, so that a part that is there has
    them."""
    facts = {"counts": counts.to_dict(), "skipped": skipped}
    counts_path = _counts_path(path)
    with written_aside(counts_path, _unique(counts_path)) as aside:
        aside.write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")
    with written_aside(path, _unique(path)) as aside:
        if isinstance(content, bytes):
            aside.write_bytes(_packed(content, path.suffix.lower()))
        else:
            pq.write_table(content, aside)


def _unique(path: Path) -> Path:
    """A name beside it that no other process uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{WRITING}")


def _counts_path(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.json")


def _packed(text: bytes, suffix: str) -> bytes:
    packing = COMPRESSION.get(suffix)
    if packing == "gzip":
        return gzip.compress(text, _GZIP_LEVEL, mtime=0)
    return text if packing is None else pa.Codec(packing).compress(text, asbytes=True)


def _join_tables(paths: list[Path], aside: Path) -> None:
    with pq.ParquetWriter(aside, pq.read_schema(paths[0])) as whole:
        for path in paths:
            with pq.ParquetFile(path) as part:
                for group in range(part.num_row_groups):
                    whole.write_table(part.read_row_group(group))
