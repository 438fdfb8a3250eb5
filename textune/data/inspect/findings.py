"""What the audit says: findings, with a level, a name that stays, a sentence and examples; below `audit.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["error", "warning", "note"]

Numbers = Mapping[str, int | float | dict[str, int]]

NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that the audit found."""

    level: Level
    code: str
    """A short name that stays the same, such as `leak-exact`."""
    message: str
    count: int
    """How many rows, labels or tokens are affected."""
    examples: tuple[str, ...] = ()
    """Up to three of them: place and shortened text."""
    set: str | None = None
    """The rows that it is about, such as `train`, where its figures are those of one set."""
    numbers: Numbers = field(default_factory=dict)
    """The figures of the message that `count` does not have, by name; shares are between 0 and 1."""
