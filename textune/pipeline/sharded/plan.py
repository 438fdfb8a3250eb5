"""Which shards the input has, noted beside what is done of them: `OUTPUT.parts/manifest.json`.

Every row is read before anything is computed, as `predict_file` does: so the columns and types of the output are
known, and a row that cannot be used is found at once. A later start goes by the note as long as the files have not
been touched, and otherwise reads them again to see whether their rows are still the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.atomic import write_text
from textune.errors import RunError
from textune.jsontext import parse_json

MANIFEST = "manifest.json"
MAX_SKIPPED = 10
"""Rows left out that are kept by name."""


@dataclass(frozen=True)
class FileState:
    """An input file, and what shows that it was touched."""

    path: str
    num_bytes: int
    changed_ns: int
    """When, in nanoseconds."""
    noted_ns: int
    """When the system last noted a change of it, which no program sets: a copy with an old date shows here."""


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of one file."""

    source: int
    """Which file."""
    first: int
    """Number of its first line or row, from 1."""
    last: int
    """Of its last one."""
    num_rows: int
    """Rows that can be used."""
    content: str
    """A hash of them."""


@dataclass(frozen=True)
class Plan:
    """The shards of one command, and what reading all rows showed."""

    files: tuple[FileState, ...]
    shards: tuple[Shard, ...]
    schema: pa.Schema
    """Columns and types of the input as they are written."""
    num_skipped: int
    """Rows left out while reading."""
    skipped: tuple[tuple[str, str], ...]
    """Place and reason of the first ones."""
    without: tuple[int, ...]
    """Rows that lack the field of each column of the model's prefix."""
    notes: tuple[str, ...]
    """What else was noticed."""

    @property
    def num_rows(self) -> int:
        """Of all shards."""
        return sum(shard.num_rows for shard in self.shards)

    @property
    def contents(self) -> tuple[str, ...]:
        """Of all shards."""
        return tuple(shard.content for shard in self.shards)

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write it with what decides the output. OSError where the system refuses."""
        found = asdict(self) | {"schema": base64.b64encode(self.schema.serialize()).decode(), "facts": dict(facts)}
        write_text(path, json.dumps(found, indent=1, allow_nan=False))


def read_plan(path: Path) -> tuple[Plan, dict[str, Any]] | None:
    """A plan and what decided its output; None where there is none. RunError where it is damaged."""
    if not path.is_file():
        return None
    try:
        found = parse_json(path.read_bytes())
        plan = Plan(
            tuple(FileState(**one) for one in found["files"]),
            tuple(Shard(**one) for one in found["shards"]),
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(found["schema"]))),
            found["num_skipped"],
            tuple((place, reason) for place, reason in found["skipped"]),
            tuple(found["without"]),
            tuple(found["notes"]),
        )
        return plan, dict(found["facts"])
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise RunError(
            f"{path} cannot be read: {error}.",
            hint="Add --force to start again.",
            key="force",
            place=str(path),
            reason="it is damaged",
        ) from error
