"""What becomes of another system's configuration: lines of ours, what is left out, and what is done otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.config import Loaded, format_key, load_tree, parse_key


@dataclass(frozen=True)
class Line:
    """One value of textune's configuration."""

    key: str
    """Dotted, such as `train.batch_size`."""
    value: object
    origin: str
    """What it was made of, in the other system's words."""


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


def load_foreign(foreign: Foreign) -> Loaded:
    """The checked configuration, in which every value knows the foreign key that it comes from.

    Relative paths start from the current folder. Raises a ConfigError that lists what does not fit.
    """
    loaded = load_tree(foreign.tree, origin=foreign.system, base=Path.cwd())
    made_of = {format_key(*parse_key(line.key)): line.origin for line in foreign.lines}
    origins = {
        key: _origin(key, made_of) if known == foreign.system else known for key, known in loaded.origins.items()
    }
    return replace(loaded, origins=origins, notes=(*loaded.notes, *foreign.notes))


def _origin(key: str, made_of: dict[str, str]) -> str:
    """Of the key, or of the table that it is an entry of."""
    parts = parse_key(key)
    places = [format_key(*parts[:length]) for length in range(len(parts), 0, -1)]
    return next((made_of[place] for place in places if place in made_of), "")
