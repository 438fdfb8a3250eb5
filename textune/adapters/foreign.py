"""What becomes of another system's configuration: lines of ours, what is left out, and what is done otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.config import parse_key


@dataclass(frozen=True)
class Line:
    """One value of textune's configuration."""

    key: str
    """Dotted, such as `train.batch_size`."""
    value: object
    origin: str
    """What it was made of, in the other system's words."""


@dataclass(frozen=True)
class BatchLine(Line):
    """`train.batch_size`, counted from what each device computes at once."""

    accumulation: int = 1
    """Steps of gradient accumulation among them."""
    processes: int = 1
    """Processes among them: those that were started."""

    @property
    def rows(self) -> int:
        """Of each process."""
        return int(str(self.value)) // self.processes


@dataclass(frozen=True)
class LeftOut:
    """A key of the other system that changes nothing here."""

    key: str
    reason: str


@dataclass(frozen=True)
class Foreign:
    """Another system's configuration, read and checked."""

    system: str
    source: tuple[str, ...]
    """The files and words that were read."""
    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What is done otherwise, as sentences."""
    run: str = ""
    """The folder that the other system would write."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Files that the run folder keeps in `foreign/`: their text by name (`kept_files`)."""

    settled: frozenset[str] = frozenset()
    """Settings of `accelerate launch` that lines were made of."""

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "system": self.system,
            "source": list(self.source),
            "config": self.tree,
            "origins": {line.key: line.origin for line in self.lines},
            "left_out": {one.key: one.reason for one in self.left_out},
            "notes": list(self.notes),
            "run": self.run,
        }

    @property
    def tree(self) -> dict[str, Any]:
        """The lines as nested tables, as a config file has them."""
        return as_tree(self.lines)


def kept_files(files: Iterable[Path]) -> dict[str, str]:
    """Text files that were read, as a run folder keeps them: by name, with as many folders before it as tell files of
    the same name apart."""
    kept: dict[str, str] = {}
    for file in dict.fromkeys(Path(os.path.abspath(path)) for path in files):  # `..` would lead out of the folder
        depth = next(
            (depth for depth in range(1, len(file.parts)) if "/".join(file.parts[-depth:]) not in kept),
            len(file.parts) - 1,
        )
        kept["/".join(file.parts[-depth:])] = file.read_text(encoding="utf-8-sig")
    return kept


def as_tree(lines: Iterable[Line]) -> dict[str, Any]:
    """Lines as nested tables."""
    tree: dict[str, Any] = {}
    for line in lines:
        *parents, last = parse_key(line.key)
        table = tree
        for part in parents:
            table = table.setdefault(part, {})
        table[last] = line.value
    return tree
