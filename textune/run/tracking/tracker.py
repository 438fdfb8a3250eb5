"""What a run says while it works: one protocol, which the CLI shows, metrics.jsonl keeps, and Python callers may
hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run.facts import Facts
    from textune.run.manifest import Ending


class UseValues(TypedDict, total=False):
    """What the first process of a run takes of its machine; what a platform cannot tell is left out."""

    memory: int
    """Bytes in memory now."""
    memory_peak: int
    """The most so far."""
    cpu: float
    """Processor time by wall time since the last logged step, in percent: 200 is two cores."""
    gpu_memory: int
    """Bytes that PyTorch has taken of the GPU now."""
    gpu_memory_peak: int
    """The most so far."""


class StepValues(TypedDict):
    """A logged training step; means and speeds are those since the last one."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    rows_per_second: float
    use: UseValues


class EvaluationValues(TypedDict):
    """An evaluation of one set."""

    set: str
    step: int
    epoch: float
    main: str
    """The main metric."""
    is_best: bool
    """Whether it made the model of this step the best one; only for the set that chooses it."""
    metrics: Mapping[str, float]


class Tracker(Protocol):
    """Receives what happens in a run: `start`, then steps, evaluations, notices and progress in any order, then
    `finish`.

    Notices and progress may come before `start`, while data is read. `finish` is not called where the process is
    killed.
    """

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """What is about to be trained; `state`: what the trackers kept when the run stopped, empty for a new run."""

    def notice(self, message: str) -> None:
        """Something the user should know."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far a long stage is; `done == total` ends it."""

    def step(self, values: StepValues) -> None:
        """A logged training step."""

    def evaluation(self, values: EvaluationValues) -> None:
        """An evaluation."""

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """How the run ended, and the files and folders that it leaves, such as `best` and `report.json`."""

    def state(self) -> Mapping[str, JsonValue]:
        """What a checkpoint keeps for this tracker, under names that no other tracker uses."""


class SilentTracker:
    """Says nothing."""

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Ignored."""

    def notice(self, message: str) -> None:
        """Ignored."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Ignored."""

    def step(self, values: StepValues) -> None:
        """Ignored."""

    def evaluation(self, values: EvaluationValues) -> None:
        """Ignored."""

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Ignored."""

    def state(self) -> Mapping[str, JsonValue]:
        """Nothing."""
        return {}


class Trackers:
    """Several trackers as one, which keeps the notices of a run."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self.notices: list[str] = []
        """Every notice so far: those from before there is a run folder are written into it later."""

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.start(config, facts, state)

    def notice(self, message: str) -> None:
        """Kept and passed on."""
        self.notices.append(message)
        for tracker in self._trackers:
            tracker.notice(message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.progress(stage, done, total)

    def step(self, values: StepValues) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.step(values)

    def evaluation(self, values: EvaluationValues) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.evaluation(values)

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Passed on."""
        for tracker in self._trackers:
            tracker.finish(status, files)

    def state(self) -> Mapping[str, JsonValue]:
        """That of all of them. ValueError where two use one name."""
        states = [tracker.state() for tracker in self._trackers]
        merged = {name: value for state in states for name, value in state.items()}
        if len(merged) < sum(map(len, states)):
            raise ValueError(f"two trackers keep their state under one name: {', '.join(sorted(merged))}")
        return merged
