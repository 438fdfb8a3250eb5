"""What each row is meant to reach, by level; a bound of its ratio. `met / not met` on the page comes from here.

A goal is either one for every level, or one for each level that it was set for: what has bf16 products has other limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bench.speed.rows import Answer


@dataclass(frozen=True)
class Goal:
    """A bound of a row's ratio."""

    by_level: dict[str, float]
    """Level, or `any`, to the bound."""
    goal_is: Literal["at least", "at most"] = "at least"


def _cpu(fp32: float, bf16: float) -> Goal:
    return Goal({"avx2": fp32, "avx512": fp32, "avx512bf16": bf16, "amx": bf16})


GOALS = {
    "train-best": _cpu(1.7, 2.0),
    "train-best-long": _cpu(1.5, 2.0),
    "limit-short": _cpu(0.8, 0.7),
    "limit-long": _cpu(0.8, 0.8),
    "train-padded-bf16": Goal({"avx512bf16": 12.0}),
    "train-padded-fp32": Goal({"avx512bf16": 30.0}),
    "bert-base": _cpu(1.3, 1.6),
    "xlmr-base": _cpu(2.0, 2.5),
    "xlmr-base-memory": Goal({"any": 0.45}, "at most"),
    "modernbert-base": _cpu(1.5, 2.0),
    "deberta-small": _cpu(1.5, 2.0),
    "predict-pipeline": _cpu(2.0, 3.0),
    "predict-onnx-runtime": _cpu(1.4, 3.0),
    "predict-int8": _cpu(1.8, 1.2),
    "attention": Goal({"any": 1.0}),
    "attention-dropout": Goal({"any": 1.0}),
    "epoch": Goal({"any": 1.1}, "at most"),
    "loop": Goal({"any": 1.02}, "at most"),
    "startup-help": Goal({"any": 1.0}, "at most"),
    "startup-step": Goal({"any": 1.0}, "at most"),
    "gpu-train": Goal({"any": 3.0}),
    "gpu-limit-32": Goal({"any": 0.25}),
    "gpu-limit-256": Goal({"any": 0.45}),
}
"""Id of a row to its goal; rows that are not here have none."""


def with_goal(answer: Answer, level: str) -> Answer:
    """The answer with the goal of its row at this level; without one where there is none."""
    goal = GOALS.get(answer.id)
    if goal is None:
        return answer
    return replace(answer, goal=goal.by_level.get(level, goal.by_level.get("any")), goal_is=goal.goal_is)
