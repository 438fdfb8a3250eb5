"""What a sink gets, made by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from textune.run.tracking.sink import Record, TrackedRun


def tracked(
    folder: Path, *, key: str = "0123456789abcdef0123456789abcdef", known: str = "", **config: Any
) -> TrackedRun:
    return TrackedRun("x", folder, {"train": {"seed": 1, "betas": [0.9, 0.99]}, **config}, {"steps": 4}, key, known)


def step(number: int, **values: Any) -> Record:
    line = {"kind": "step", "step": number, "loss": 1 / number, "lr": 0.1, "use": {"cpu": 99.0}, **values}
    return Record("step", number, 1000.0 + number, line)


def evaluation(number: int, *, name: str = "validation", is_best: bool = False, **metrics: Any) -> Record:
    line = {"kind": "evaluation", "set": name, "step": number, "main": "f1", "is_best": is_best, "metrics": metrics}
    return Record("evaluation", number, 1000.0 + number, line)


def notice(message: str, number: int = 1) -> Record:
    return Record("notice", 0, 1000.0, {"kind": "notice", "message": message}, number)


class FakeTracker(GeneralTracker):  # type: ignore[misc]
    """One of Accelerate's trackers that keeps what it gets."""

    name = "fake"
    requires_logging_directory = False
    said: ClassVar[list[Any]] = []
    """What all of them were told, in order."""

    @classmethod
    def register(cls, patch: pytest.MonkeyPatch) -> None:
        """Make it one that Accelerate knows, which has heard nothing yet."""
        patch.setitem(LOGGER_TYPE_TO_CLASS, cls.name, cls)
        cls.said.clear()

    @classmethod
    def series(cls) -> dict[str, list[tuple[int, float]]]:
        """Steps and values of each figure; without a step: 0."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, values in (one for one in cls.said if len(one) == 2 and isinstance(one[0], int | None)):
            for name, value in values.items():
                found.setdefault(name, []).append((step or 0, value))
        return found

    def __init__(self, run_name: str, **options: Any) -> None:
        super().__init__()
        self.said.append(("project", run_name, options))

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        """Where somebody sat at a terminal, a service would ask for a password."""
        assert not sys.stdin.isatty() and sys.stdin.read() == ""
        state = PartialState()
        self.said.append(("processes", state.num_processes, state.device.type))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.said.append(("parameters", values))

    def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
        self.said.append((step, values))

    def finish(self) -> None:
        self.said.append(("finish",))
