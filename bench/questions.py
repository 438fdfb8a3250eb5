"""The table of `questions.toml`."""

from __future__ import annotations

import pkgutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Question:
    """What is asked, and who answers it; the fields are explained in the table."""

    asks: str
    seconds: float
    answer: str
    asked: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where it is measured."""
        return "cuda" if self.asked == "cuda" else "cpu"

    @property
    def answers(self) -> Callable[..., list[Any]]:
        """The function from settings and options to rows."""
        found: Callable[..., list[Any]] = pkgutil.resolve_name(f"bench.speed.{self.answer}")
        return found


QUESTIONS = {name: Question(**keys) for name, keys in TABLE["questions"].items()}
GOALS: dict[str, dict[str, float]] = TABLE["goals"] | TABLE["goals_at_most"]
"""Id of a row to level, or `any`, to the bound of its ratio."""
