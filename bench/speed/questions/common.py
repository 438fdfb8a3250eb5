"""Shared by all questions: what the command line set, the config of our side, and two systems taking turns at training."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.speed.data import Texts
from bench.speed.measure import (
    Comparison,
    Segment,
    choose_steps,
    compare,
    repeat,
    row_rate,
    shared_order,
    significant,
)
from bench.speed.shapes import make_backbone, minilm
from bench.speed.workers import Worker, WorkerError, working

BATCH_SIZE = 32
MAX_LENGTH = 128
GROUPED_BATCHES = 50
"""Batches that Trainer's length-grouped sampler sorts at a time."""
LEARNING_RATE = 5e-5


@dataclass(frozen=True)
class Settings:
    """What the command line says, and a folder to work in."""

    work: Path
    data: Path | None = None
    seconds: float | None = None
    """Of measuring, per question; None leaves it to the question."""
    rows: int | None = None
    """Most rows to measure with; None leaves it to the question."""
    device: str = "cpu"
    tiny: bool = False
    """Tiny backbones and the fewest rows: to see that everything runs."""

    def budget(self, seconds: float) -> float:
        """Seconds of measuring, for a question that wants `seconds`."""
        return 0.0 if self.tiny else self.seconds if self.seconds is not None else seconds

    def count(self, rows: int, tiny: int = 256) -> int:
        """Rows, for a question that wants `rows`."""
        return tiny if self.tiny else rows if self.rows is None else min(rows, self.rows)

    def backbone(self, shape: str = "minilm") -> Path:
        """The folder of a backbone; made once per run."""
        if shape == "minilm" and not self.tiny:
            return minilm()
        name = {"minilm": "bert-tiny", "bert-base": "bert-tiny", "xlmr-base": "xlmr-tiny"}.get(shape, shape)
        folder = self.work / "backbones" / (name if self.tiny else shape)
        return folder if (folder / "config.json").exists() else make_backbone(folder.name, folder)


def quoted(text: str | Path) -> str:
    """A TOML string."""
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_config(
    path: Path,
    *,
    rows: Path,
    backbone: Path,
    cache: Path,
    pairs: bool = False,
    duration: str = "100000 steps",
    batch_size: int = BATCH_SIZE,
    max_length: int = MAX_LENGTH,
    order: str = "sequential",
    validation: Path | None = None,
    device: str = "cpu",
) -> Path:
    """A run's config as a user would write it; every key that is not here keeps its default."""
    held_out = f'kind = "files"\nfiles = {quoted(validation)}' if validation else 'kind = "none"'
    path.write_text(
        f"""
[data.train]
files = {quoted(rows)}
[data.validation]
{held_out}
[data.columns]
{'text_pair = "text_pair"' if pairs else ""}
[tokens]
max_length = {max_length}
cache = {quoted(cache)}
[model]
pretrained = {quoted(backbone)}
[train]
duration = "{duration}"
batch_size = {batch_size}
order = "{order}"
device = "{device}"
[train.optimizer]
lr = {LEARNING_RATE}
[train.schedule]
warmup = "50 steps"
""",
        encoding="utf-8",
    )
    return path


@dataclass(frozen=True)
class Task:
    """A training that is measured: texts on a backbone."""

    texts: Texts
    backbone: Path
    batch_size: int = BATCH_SIZE
    max_length: int = MAX_LENGTH
    total_steps: int = 6315
    """Steps that both runs are told they will last: three epochs of SST-2; decides the schedule, and what pays off."""

    def write(self, settings: Settings) -> tuple[Path, Path]:
        """The csv and our config."""
        rows = self.texts.write(settings.work / "rows.csv")
        config = write_config(
            settings.work / "config.toml",
            rows=rows,
            backbone=self.backbone,
            cache=settings.work / "cache",
            pairs=self.texts.is_pairs,
            duration=f"{self.total_steps} steps",
            batch_size=self.batch_size,
            max_length=self.max_length,
            device=settings.device,
        )
        return rows, config


def ours_spec(config: Path, *overrides: str) -> dict[str, Any]:
    """Specification of the worker `ours.training`."""
    return {"config": str(config), "overrides": list(overrides)}


def trainer_spec(task: Task, rows: Path, settings: Settings, **options: Any) -> dict[str, Any]:
    """Specification of the worker `peers.trainer`; at its best unless `options` say otherwise."""
    return {
        "backbone": str(task.backbone),
        "rows": str(rows),
        "batch_size": task.batch_size,
        "max_length": task.max_length,
        "total_steps": task.total_steps,
        "device": settings.device,
        "precision": "best",
        "padded": False,
        "grouped": True,
        "best": True,
        **options,
    }


@dataclass
class Race:
    """Workers that train in turns, the same rows each; the first is ours, at least one more follows."""

    names: list[str]
    segments: list[dict[str, Segment]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    """Optimizer steps of a segment."""
    first_step: dict[str, float] = field(default_factory=dict)
    """Seconds of the very first step, compilation included."""

    @property
    def tokens_per_row(self) -> float:
        """Mean length of all rows, in tokens."""
        facts = self.facts[self.names[0]]
        return float(facts["num_tokens"] / facts["num_rows"])

    def rates(self, name: str) -> list[float]:
        """Rows a second, segment by segment."""
        return [row_rate(segment[name], self.tokens_per_row) for segment in self.segments]

    def comparison(self, peer: str, ours: str | None = None) -> Comparison:
        """Ours (by default the first) beside a peer, in rows a second."""
        return compare(list(zip(self.rates(ours or self.names[0]), self.rates(peer), strict=True)))

    def details(self, comparison: Comparison, texts: Texts) -> dict[str, Any]:
        """Everything that stands behind a number."""
        segment = self.segments[0][self.names[0]]
        return {
            **comparison.details(),
            "data": texts.name,
            "segment": {"steps": self.steps, "rows": segment.rows, "segments": len(self.segments)},
            "tokens_per_row": significant(self.tokens_per_row),
            "first_step_seconds": {name: significant(value, 3) for name, value in self.first_step.items()},
            "memory_mb": {name: {key: round(value) for key, value in last.items()} for name, last in self.memory.items()},
            "precision": {name: facts["precision"] for name, facts in self.facts.items()},
            "mean_loss": [round(loss, 4) for loss in self.losses],
            "header": self.facts[self.names[0]]["header"],
            "threads": self.facts[self.names[0]]["threads"],
        }


def race(
    settings: Settings,
    workers: Mapping[str, tuple[str, dict[str, Any]]],
    *,
    seconds: float,
    block: int,
    warm_up: int,
    batch_size: int,
    order: Sequence[int] | None = None,
) -> Race:
    """Measure `workers` (name to module and specification; the first is ours) in turns for about `seconds`.

    `block`: batches that hold the same rows on both sides; 1 where every batch does, `GROUPED_BATCHES` where the peer groups by
    length. `warm_up` optimizer steps of each are not counted. `order` is that of the rows where no peer has one of its own.
    """
    result = Race(list(workers))
    with working(settings.work, *workers.values()) as started:
        for name, worker in zip(result.names, started, strict=True):
            result.facts[name] = {key: value for key, value in worker.facts.items() if key != "order"}
        _require_same_rows(result)
        orders = [worker.facts["order"] for worker in started if "order" in worker.facts]
        if any(other != orders[0] for other in orders):
            raise WorkerError("two Trainers drew different orders of the same rows")
        shared = shared_order(
            orders[0] if orders else order or range(result.facts[result.names[0]]["num_rows"]),
            batch_size=batch_size,
            block=block,
            warm_up=warm_up,
            seed=0,
        )
        for worker in started:
            worker.tell(order=shared.peer if "order" in worker.facts else shared.ours)
        pair_seconds = _warm_up(result, started, steps=warm_up)
        budget = settings.budget(seconds)
        result.steps = choose_steps(pair_seconds, seconds=budget, block=block)

        def turn() -> dict[str, Segment]:
            return {name: _segment(result, worker, result.steps) for name, worker in zip(result.names, started, strict=True)}

        result.segments = repeat(turn, seconds=budget, at_least=2 if settings.tiny else 3)
        if block in (1, result.steps):
            _require_same_tokens(result)
        result.memory = {name: worker.close() for name, worker in zip(result.names, started, strict=True)}
    return result


def grouped_block(task: Task) -> int:
    """Batches that Trainer sorts by length at a time: 50, or a quarter of them all where there are fewer than 200."""
    return max(1, min(GROUPED_BATCHES, len(task.texts.examples) // (4 * task.batch_size)))


def random_order(count: int) -> list[int]:
    """The rows 0 ... count - 1 in an order without any meaning, the same each time."""
    return random.Random(0).sample(range(count), count)


def _segment(result: Race, worker: Worker, steps: int) -> Segment:
    reply = worker.ask(do="run", steps=steps)
    if "loss" in reply:
        result.losses.append(reply["loss"])
    return Segment(reply["rows"], reply["tokens"], reply["seconds"])


def _warm_up(result: Race, workers: Sequence[Worker], *, steps: int) -> float:
    """Run `steps` steps of each; returns the seconds that one step of all takes, by the last half of them."""
    total = 0.0
    for name, worker in zip(result.names, workers, strict=True):
        result.first_step[name] = worker.ask(do="run", steps=1)["seconds"]
        early, late = (steps - 1) // 2, steps - 1 - (steps - 1) // 2
        if early:
            worker.ask(do="run", steps=early)
        total += worker.ask(do="run", steps=late)["seconds"] / late
    result.losses.clear()
    return total


def _require_same_rows(result: Race) -> None:
    counts = {(facts["num_rows"], facts["num_tokens"]) for facts in result.facts.values()}
    if len(counts) > 1:
        raise WorkerError(f"the systems read different rows: {dict(zip(result.names, counts, strict=False))}")


def _require_same_tokens(result: Race) -> None:
    """Segments of whole blocks hold the same rows on both sides."""
    for number, segment in enumerate(result.segments):
        if len({(part.rows, part.tokens) for part in segment.values()}) > 1:
            raise WorkerError(f"segment {number} is not the same work for all: {segment}")
