"""What a proof found: every kill, what it left, and the first difference."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from textune.chaos.watch import Phase

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True)
class Kill:
    """One kill and what it left."""

    number: int
    """From 1."""
    run: str
    """Name of the run's folder."""
    seconds: float
    """After the start of the process."""
    phase: Phase
    """What the process was doing."""
    moment: str
    """The same in a few more words."""
    resumes_from: int
    """Step of the newest complete checkpoint: 0 where there was none yet."""
    torn: tuple[str, ...]
    """What was incomplete, and is skipped or removed by the run that resumes."""

    def sentence(self) -> str:
        """For a person."""
        after = f"resumes from step {self.resumes_from}" if self.resumes_from else "starts again"
        torn = f"; torn and skipped: {', '.join(self.torn)}" if self.torn else ""
        return f"{self.run}, {self.seconds:.2f} s after its start, {self.moment}; {after}{torn}"


@dataclass
class ChaosResult:
    """What became of the runs."""

    reference: Path
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    """Runs that came to their end."""
    difference: str = ""
    """The first thing that was not as in the uninterrupted run; empty where everything was."""

    @property
    def during(self) -> dict[str, int]:
        """Number of kills by what they interrupted."""
        return dict(Counter(kill.phase for kill in self.kills))

    def to_dict(self) -> dict[str, JsonValue]:
        """As JSON holds it."""
        return {
            "reference": str(self.reference),
            "equal": not self.difference,
            "difference": self.difference,
            "runs": self.runs,
            "during": dict(self.during),
            "kills": [asdict(kill) for kill in self.kills],
        }
