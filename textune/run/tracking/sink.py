"""What is asked of a tracking service, TensorBoard, MLflow or code of the user's: a *sink* of records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run.manifest import Ending


@dataclass(frozen=True)
class TrackedRun:
    """The run that a sink is about to be told of."""

    name: str
    """Name of the run folder."""
    folder: Path
    config: Mapping[str, JsonValue]
    """The resolved configuration, without `track`, whose options may hold passwords."""
    facts: Mapping[str, JsonValue]
    """`Facts` as JSON."""
    key: str
    """Names this run at this sink, in all its sessions: a sink that was killed before it could say its own name of
    the run finds it again by this."""
    known: str = ""
    """The sink's own name of the run, which an earlier session began; empty for a new one."""

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """Every value of the configuration and every fact, by dotted name: `train.optimizer.lr`, `facts.steps`."""
        return dict(_flat(self.config)) | dict(_flat(self.facts, "facts."))


@dataclass(frozen=True)
class Opened:
    """What a sink says when it takes up a run."""

    run: str
    """Its own name of the run; another one than it gave before means that it begins again, and gets everything."""
    sent: Mapping[str, int] = field(default_factory=dict)
    """How far it came, if it can tell: by stream (`Record.stream`), the step of the last record that it has."""


@dataclass(frozen=True)
class Record:
    """A line of metrics.jsonl."""

    kind: Literal["step", "evaluation", "notice"]
    step: int
    """Optimizer steps done by then; of a notice, the last that was logged."""
    time: float
    """When it was written, in seconds since 1970."""
    values: Mapping[str, JsonValue]
    """The line itself."""
    number: int = 0
    """Of a notice: which one of this run, from 1."""

    @property
    def stream(self) -> str:
        """What it is the next one of, at a later step: `step`, `evaluation/NAME` or `notice`."""
        return f"evaluation/{self.values.get('set', 'validation')}" if self.kind == "evaluation" else self.kind

    @property
    def numbers(self) -> dict[str, float]:
        """Its figures by name: `train/loss`, `system/memory`, `validation/f1`, and `best/f1` for the main metric of
        an evaluation that made its model the best one; what is undefined is left out."""
        if self.kind == "step":
            found = {
                _STEP + _RENAMED.get(name, name): one for name, one in self.values.items() if name not in _NOT_FIGURES
            }
            used = self.values.get("use")
            return _numbers(found | (_named(_SYSTEM, used) if isinstance(used, dict) else {}))
        metrics = self.values.get("metrics")
        if not isinstance(metrics, dict):
            return {}
        name = str(self.values.get("set", "validation"))
        found = _named(f"evaluation/{name}/" if f"{name}/" in _TAKEN else f"{name}/", metrics)
        main = str(self.values.get("main"))
        return _numbers(found | ({_BEST + main: metrics.get(main)} if self.values.get("is_best") else {}))

    @property
    def message(self) -> str:
        """The sentence of a notice."""
        return str(self.values.get("message", ""))


_NOT_FIGURES = {"kind", "step", "total_steps", "time", "use"}
"""Entries of a step that are no figures of the training."""
_RENAMED = {"lr": "learning_rate"}
_STEP, _SYSTEM, _BEST, _REPORT = _TAKEN = ("train/", "system/", "best/", "report/")
"""What the names of figures begin with that are no evaluation's; a set with such a name stands under `evaluation/`."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: Ending
    results: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    """Of a complete run: the metrics of each report, by set."""
    best_step: int | None = None
    seconds: float | None = None
    """Of the training loop, in all sessions together."""

    @property
    def numbers(self) -> dict[str, float]:
        """The figures of the reports by name: `report/test/f1`."""
        found: dict[str, JsonValue] = {}
        for name, metrics in self.results.items():
            found |= _named(f"{_REPORT}{name}/", metrics)
        return _numbers(found)


class Sink(Protocol):
    """One tracker of a run, used by one thread. Made before data is read, when it only looks whether it can work:
    what it needs is installed, its options make sense. It connects in `open`.

    Any exception means that it does not work now: it is closed, opened again a little later, and gets the same records
    again, but for those that it says it has (`Opened.sent`).
    """

    def open(self, run: TrackedRun) -> Opened:
        """Begin a run, or take up the one that it knows: configuration and facts are its parameters."""

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        """Take the next records, in order. Why it leaves out any that it can never take, one reason for each."""

    def keep(self, name: str, path: Path) -> None:
        """Keep a file or a folder of the complete run, such as `report.json` and `best`."""

    def finish(self, ended: Ended) -> None:
        """Mark the run as ended; one that was stopped may be opened again."""

    def close(self) -> None:
        """Let go of everything; also after an exception, and where it was never opened."""


def _flat(tree: Mapping[str, JsonValue], start: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in tree.items():
        key = f"{start}{name}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield from _flat({str(index): item for index, item in enumerate(value)}, f"{key}.")
        else:
            yield key, value


def as_scalars(values: Mapping[str, JsonValue]) -> dict[str, str | int | float | bool]:
    """Parameters as every service takes them: lists as text, empty where one is not set."""
    return {name: _scalar(value) for name, value in values.items()}


def _scalar(value: JsonValue) -> str | int | float | bool:
    if isinstance(value, str | int | float | bool):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _named(start: str, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {f"{start}{name}": value for name, value in values.items()}


def _numbers(values: Mapping[str, JsonValue]) -> dict[str, float]:
    """What is a number of these."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
