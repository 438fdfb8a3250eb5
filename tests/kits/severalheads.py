"""Rows of several tasks with the scores of a model, and rows without a label for some of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from textune.config.taskkinds import AutoTask
from textune.data.labels.map import LabelMap
from textune.data.labels.values import MISSING, has_label
from textune.evaluation.heads import ScoredRows, TaskReduction
from textune.tasks.task import Task, build_task

TONE, URGENT, TOPIC = ("neg", "mid", "pos"), ("no", "yes"), ("a", "b", "c", "d")
LABEL_MAPS = {
    "tone": LabelMap("multiclass", TONE),
    "urgent": LabelMap("binary", URGENT),
    "topic": LabelMap("multiclass", TOPIC),
}


class Answered(NamedTuple):
    """N rows with labels and scores for each task."""

    task: Task
    targets: dict[str, np.ndarray]
    """int64 [N] by task, MISSING where there is no label."""
    scores: dict[str, np.ndarray]
    """float64 [N, C] by task."""

    @property
    def num_rows(self) -> int:
        return len(self.targets["tone"])

    def of(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Targets and scores of the rows that have a label for the task."""
        has = self.targets[task] != MISSING
        return self.targets[task][has], self.scores[task][has]

    def taken(self, rows: np.ndarray) -> Answered:
        """Some of the rows."""
        return Answered(
            self.task,
            {name: values[rows] for name, values in self.targets.items()},
            {name: values[rows] for name, values in self.scores.items()},
        )

    def reduction(self, **options: Any) -> TaskReduction:
        labelled = {name: has_label(values) for name, values in self.targets.items()}
        return TaskReduction(self.task.heads, labelled, num_rows=self.num_rows, **options)

    def scored(self) -> ScoredRows:
        """All of them at once."""
        reduction = self.reduction()
        reduction.add(np.arange(self.num_rows), self.targets, self.scores)
        return reduction.finish()


def answered(num_rows: int, seed: int = 0, *, missing: float = 0.2, skill: float = 1.5) -> Answered:
    """Rows that are hard or easy for all tasks alike; a share of `missing` has no label for tone, and for urgent."""
    random = np.random.default_rng(seed)
    ease = random.random(num_rows) * skill
    targets: dict[str, np.ndarray] = {}
    scores: dict[str, np.ndarray] = {}
    for name, label_map in LABEL_MAPS.items():
        num_classes = len(label_map.names)
        ids = random.integers(0, num_classes, num_rows)
        logits = random.normal(size=(num_rows, num_classes))
        logits[np.arange(num_rows), ids] += ease
        exponents = np.exp(logits)
        scores[name] = exponents / exponents.sum(axis=1, keepdims=True)
        targets[name] = np.where((random.random(num_rows) < missing) & (name != "topic"), MISSING, ids)
    return Answered(build_task(AutoTask(), LABEL_MAPS), targets, scores)
