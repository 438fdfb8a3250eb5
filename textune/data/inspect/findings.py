"""What the audit says: findings, with a level, a name that stays, a sentence and examples; below `audit.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]

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
