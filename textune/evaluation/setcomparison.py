"""Several models on one set, each beside the first; after `versus.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textune.evaluation.versus import Versus


@dataclass(frozen=True)
class SetComparison:
    """What runs reach on the same rows."""

    name: str
    """Of the set."""
    num_rows: int
    metric: str
    """Name of the main metric."""
    higher_is_better: bool
    runs: tuple[str, ...]
    against: tuple[Versus, ...]
    """Each run but the first one, beside the first one."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "set": self.name,
            "rows": self.num_rows,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "first": self.runs[0],
            "against": {run: one.to_dict() for run, one in zip(self.runs[1:], self.against, strict=True)},
            "notes": list(self.notes),
        }
