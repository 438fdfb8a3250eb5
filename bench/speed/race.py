"""Systems that take turns at training the same rows, and, where asked for, the rate of the machine's matrix products
beside."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.speed.backbones import product_shapes, read_config
from bench.speed.measure import MOST_PAIRS, MOST_STEPS, Comparison, choose_steps, repeat, shared_order, significant
from bench.speed.work import Settings, Task
from bench.worker import Json, Worker, WorkerError

LARGE_SQUARE = {"cpu": 2048, "cuda": 8192}
"""Side of a matrix product that keeps the whole device busy."""
MATRIX_SECONDS = 0.15
"""Seconds for each shape of product, before every pair of segments."""
TEXTUNE, TRAINER = "bench.sides.textune:training", "bench.sides.trainer:segments"
PRODUCTS = "bench.sides.products:products"


@dataclass(frozen=True)
class Plan:
    """How a race is run."""

    block: int = 1
    """Batches that hold the same rows on both sides: 1 where every batch does, more where the peer groups by
    length."""
    warm_up: int = 2
    """Optimizer steps of each system that are not counted, two at least."""
    with_limit: bool = False
    """Whether the matrix products of the backbone are timed before every round."""


@dataclass
class Race:
    """Workers that train in turns, the same rows each; the first is ours."""

    task: Task
    workers: dict[str, Worker]
    segments: list[dict[str, Json]] = field(default_factory=list)
    """What each system did while the others waited: `rows`, real `tokens`, `seconds`."""
    products: list[dict[str, float]] = field(default_factory=list)
    """FLOP/s of each shape of product, before each round of segments; empty where nobody asked."""
    memory: dict[str, Json] = field(default_factory=dict)
    steps: int = 0
    """Optimizer steps of a segment."""
    first_step: dict[str, float] = field(default_factory=dict)
    """Seconds of the very first step, compilation included."""

    @property
    def facts(self) -> Json:
        """What our side said when it was ready."""
        return next(iter(self.workers.values())).facts

    @property
    def tokens_per_row(self) -> float:
        """Mean length of all rows, in tokens."""
        return float(self.facts["num_tokens"] / self.facts["num_rows"])

    def rates(self, name: str) -> list[float]:
        """Tokens per second, segment by segment."""
        return [segment[name]["tokens"] / segment[name]["seconds"] for segment in self.segments]

    def comparison(self, peer: str) -> Comparison:
        """Ours beside a peer, in rows per second, by the real tokens: segments of longer rows count for more."""
        rates = zip(self.rates(next(iter(self.workers))), self.rates(peer), strict=True)
        return Comparison([(ours / self.tokens_per_row, other / self.tokens_per_row) for ours, other in rates])

    def details(self) -> Json:
        """Everything that stands behind a number."""
        rows = next(iter(self.segments[0].values()))["rows"]
        return {
            "data": self.task.texts.name,
            "segment": {"steps": self.steps, "rows": rows, "segments": len(self.segments)},
            "tokens_per_row": significant(self.tokens_per_row),
            "first_step_seconds": {name: significant(value, 3) for name, value in self.first_step.items()},
            "memory_mb": {
                name: {key: round(value) for key, value in last.items()} for name, last in self.memory.items()
            },
            "numbers_trained": {name: worker.facts["num_trained"] for name, worker in self.workers.items()},
            "precision": {name: worker.facts["precision"] for name, worker in self.workers.items()},
            "mean_loss": [
                round(part["loss"], 4) for segment in self.segments for part in segment.values() if "loss" in part
            ],
            "header": self.facts["header"],
            "threads": self.facts["threads"],
        }


def race(settings: Settings, task: Task, sides: Mapping[str, tuple[str, Json]], plan: Plan) -> Race:
    """Measure systems (name to side and specification; the first is ours) in turns for what is left of the time."""
    with ExitStack() as stack:
        result = Race(task, {name: stack.enter_context(Worker(*side)) for name, side in sides.items()})
        read = {
            name: (worker.facts["num_rows"], worker.facts["num_tokens"]) for name, worker in result.workers.items()
        }
        if len(set(read.values())) > 1:
            raise WorkerError(f"the systems read different rows: {read}")
        _hand_out(result, plan)
        tokens = round(result.tokens_per_row * task.batch_size)
        own = product_shapes(read_config(task.backbone), tokens, square=LARGE_SQUARE[settings.device])
        shapes = [] if not plan.with_limit else [(64, 64, 64)] if settings.tiny else own
        each = 0.01 if settings.tiny else MATRIX_SECONDS
        products = stack.enter_context(Worker(PRODUCTS, {"device": settings.device})) if shapes else None
        pair_seconds = _warm_up(result, plan.warm_up)
        budget = settings.left()
        spare = max(0.0, budget - settings.pairs * each * len(shapes))
        result.steps = choose_steps(pair_seconds, seconds=spare, block=plan.block)

        def turn() -> dict[str, Json]:
            if products:
                result.products.append(products.ask(shapes=shapes, time=each)["rates"])
            return {name: worker.ask(steps=result.steps) for name, worker in result.workers.items()}

        result.segments = repeat(turn, seconds=budget, at_least=settings.pairs)
        if plan.block in (1, result.steps):
            for segment in result.segments:  # of whole blocks: they hold the same rows for all
                if len({(part["rows"], part["tokens"]) for part in segment.values()}) > 1:
                    raise WorkerError(f"a segment is not the same work for all: {segment}")
        result.memory = {name: worker.close() for name, worker in result.workers.items()}
    return result


def random_order(count: int) -> list[int]:
    """The rows 0 ... count - 1 in an order without any meaning, the same each time."""
    return random.Random(0).sample(range(count), count)


def _hand_out(result: Race, plan: Plan) -> None:
    """Tell each side its order, long enough for all that can be asked of it; a peer that draws one draws it for
    all."""
    orders = [worker.facts["order"] for worker in result.workers.values() if "order" in worker.facts]
    if any(other != orders[0] for other in orders):
        raise WorkerError("two Trainers drew different orders of the same rows")
    ours, peer = shared_order(
        orders[0] if orders else random_order(result.facts["num_rows"]),
        batch_size=result.task.batch_size,
        block=plan.block,
        warm_up=plan.warm_up,
        batches=plan.warm_up + MOST_PAIRS * MOST_STEPS,
        seed=0,
    )
    for worker in result.workers.values():
        worker.tell(order=peer if "order" in worker.facts else ours)


def _warm_up(result: Race, steps: int) -> float:
    """Run `steps` steps of each, two at least; returns the seconds that one step of all takes, by the last half of
    them."""
    total, early = 0.0, (steps - 1) // 2
    for name, worker in result.workers.items():
        result.first_step[name] = worker.ask(steps=1)["seconds"]
        if early:
            worker.ask(steps=early)
        total += worker.ask(steps=steps - 1 - early)["seconds"] / (steps - 1 - early)
    return total
