"""Systems that take turns at training the same rows, and, where asked for, the rate of the machine's matrix products beside."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.speed.data import Texts
from bench.speed.measure import (
    MOST_PAIRS,
    MOST_STEPS,
    Comparison,
    Segment,
    choose_steps,
    compare,
    repeat,
    row_rate,
    shared_order,
    significant,
)
from bench.speed.questions.common import Settings, Task
from bench.speed.shapes import product_shapes, read_config
from bench.speed.workers import Worker, WorkerError, working

GROUPED_BATCHES = 50
"""Batches that Trainer's length-grouped sampler sorts at a time."""
LARGE_SQUARE = {"cpu": 2048, "cuda": 8192}
"""Side of a matrix product that keeps the whole device busy."""
MATRIX_SECONDS = 0.15
"""Seconds for each shape of product, before every pair of segments."""


@dataclass
class Race:
    """Workers that train in turns, the same rows each; the first is ours."""

    names: list[str]
    segments: list[dict[str, Segment]] = field(default_factory=list)
    products: list[dict[str, float]] = field(default_factory=list)
    """FLOP/s of each shape of product, before each round of segments; empty where nobody asked."""
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
    block: int,
    warm_up: int,
    batch_size: int,
    order: Sequence[int] | None = None,
    limit_of: Path | None = None,
) -> Race:
    """Measure `workers` (name to module and specification; the first is ours) in turns for what is left of the question's time.

    `block`: batches that hold the same rows on both sides; 1 where every batch does, `grouped_block` where the peer groups by
    length. `warm_up` optimizer steps of each are not counted. `order` is that of the rows where no peer has one of its own.
    `limit_of`: a backbone whose matrix products are timed before every round.
    """
    result = Race(list(workers))
    with ExitStack() as stack:
        started = stack.enter_context(working(settings.work, *workers.values()))
        for name, worker in zip(result.names, started, strict=True):
            result.facts[name] = {key: value for key, value in worker.facts.items() if key != "order"}
        _require_same_rows(result)
        tokens_per_batch = round(result.tokens_per_row * batch_size)
        products = None if limit_of is None else stack.enter_context(Products(settings, limit_of, tokens_per_batch))
        _hand_out(result, started, block=block, warm_up=warm_up, batch_size=batch_size, order=order)
        pair_seconds = _warm_up(result, started, steps=warm_up)
        budget = settings.left()
        spare = budget - settings.pairs * (products.seconds if products else 0.0)
        result.steps = choose_steps(pair_seconds, seconds=max(0.0, spare), block=block)

        def turn() -> dict[str, Segment]:
            if products:
                result.products.append(products.rates())
            return {name: _segment(result, worker, result.steps) for name, worker in zip(result.names, started, strict=True)}

        result.segments = repeat(turn, seconds=budget, at_least=settings.pairs)
        if block in (1, result.steps):
            _require_same_tokens(result)
        result.memory = {name: worker.close() for name, worker in zip(result.names, started, strict=True)}
    return result


class Products(Worker):
    """The worker that multiplies matrices of a backbone's shapes for so many tokens, and one large square."""

    def __init__(self, settings: Settings, backbone: Path, tokens_per_batch: int) -> None:
        super().__init__("peers.matrix", {"device": settings.device}, work=settings.work)
        shapes = product_shapes(read_config(backbone), tokens_per_batch, square=LARGE_SQUARE[settings.device])
        self._shapes = [(64, 64, 64)] if settings.tiny else shapes
        self._each = 0.01 if settings.tiny else MATRIX_SECONDS
        self.seconds = self._each * len(self._shapes)

    def rates(self) -> dict[str, float]:
        """Shape to FLOP/s, measured now."""
        found: dict[str, float] = self.ask(do="run", shapes=self._shapes, seconds=self._each)["rates"]
        return found


def grouped_block(task: Task) -> int:
    """Batches that Trainer sorts by length at a time: 50, or a quarter of them all where there are fewer than 200."""
    return max(1, min(GROUPED_BATCHES, len(task.texts.examples) // (4 * task.batch_size)))


def random_order(count: int) -> list[int]:
    """The rows 0 ... count - 1 in an order without any meaning, the same each time."""
    return random.Random(0).sample(range(count), count)


def _hand_out(
    result: Race, workers: Sequence[Worker], *, block: int, warm_up: int, batch_size: int, order: Sequence[int] | None
) -> None:
    """Tell each side its order, long enough for all that can be asked of it."""
    orders = [worker.facts["order"] for worker in workers if "order" in worker.facts]
    if any(other != orders[0] for other in orders):
        raise WorkerError("two Trainers drew different orders of the same rows")
    shared = shared_order(
        orders[0] if orders else order or range(result.facts[result.names[0]]["num_rows"]),
        batch_size=batch_size,
        block=block,
        warm_up=warm_up,
        batches=warm_up + MOST_PAIRS * MOST_STEPS,
        seed=0,
    )
    for worker in workers:
        worker.tell(order=shared.peer if "order" in worker.facts else shared.ours)


def _segment(result: Race, worker: Worker, steps: int) -> Segment:
    reply = worker.ask(do="run", steps=steps)
    if "loss" in reply:
        result.losses.append(reply["loss"])
    return Segment(reply["rows"], reply["tokens"], reply["seconds"])


def _warm_up(result: Race, workers: Sequence[Worker], *, steps: int) -> float:
    """Run `steps` steps of each, two at least; returns the seconds that one step of all takes, by the last half of them."""
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
