"""The metric that chooses the best model, and all metrics of a task with one head or several; after `heads.py`.

Of several heads every metric is given for each head (`tone/accuracy`), and those that all heads have also as their
mean under the plain name and as their standard deviation (`accuracy_std`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from textune.evaluation.heads import ScoredRows
from textune.evaluation.metrics import METRICS, Metric, compute_metrics
from textune.evaluation.undefined import UNDEFINED, mean_of_defined

STD = "_std"
"""Ends the name of a standard deviation over the heads."""


@dataclass(frozen=True)
class MainMetric:
    """What chooses the best model: a metric of one head, or the mean of those of several."""

    name: str
    by_head: Mapping[str, Metric]
    """What is measured of each head that counts in it."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better; the same of every head."""
        return next(iter(self.by_head.values())).higher_is_better

    @property
    def bounded(self) -> bool:
        """As `Metric.bounded`."""
        return all(metric.bounded for metric in self.by_head.values())

    @property
    def needs_losses(self) -> bool:
        """Whether it needs the task's own losses."""
        return any(metric.needs_losses for metric in self.by_head.values())

    @property
    def is_own(self) -> bool:
        """Whether a formula of the user's own task is in it, which only that code can compute."""
        parts = [part for metric in self.by_head.values() for part in metric.parts or (metric,)]
        return any(part.name not in METRICS for part in parts)

    def of(self, scored: ScoredRows) -> float:
        """Its value: the mean over the heads that have one; NaN where none has."""
        values = [metric.of(scored.by_head[head]) for head, metric in self.by_head.items() if head in scored.by_head]
        return mean_of_defined(np.array(values, dtype=np.float64))


def all_metrics(scored: ScoredRows, main: MainMetric) -> dict[str, float]:
    """Every metric of the rows by name, the main one among them; NaN where undefined.

    Of several heads: means and deviations first, then those of each head. A head without a labelled row has none.
    """
    by_head = {name: compute_metrics(rows, main.by_head.get(name)) for name, rows in scored.by_head.items()}
    if len(scored.heads) == 1:
        return next(iter(by_head.values()))
    values: dict[str, float] = {}
    for name in shared_metrics(scored, main):
        each = np.array([of_head[name] for of_head in by_head.values()])
        values[name], values[name + STD] = mean_of_defined(each), _deviation(each)
    for head, of_head in by_head.items():
        values |= {f"{head}/{name}": value for name, value in of_head.items()}
    return values if main.name in values else {**values, main.name: main.of(scored)}


def shared_metrics(scored: ScoredRows, main: MainMetric) -> list[str]:
    """The metrics that all heads of the task have; the main one among them, where it is that of every head."""
    measured = [head.answers.measures.names for head in scored.heads]
    shared = [name for name in METRICS if all(name in names for names in measured)]
    of_every_head = {metric.name for metric in main.by_head.values()} == {main.name}
    return [*shared, main.name] if of_every_head and main.name not in shared else shared


def by_metric(metrics: Mapping[str, float], tasks: Iterable[str]) -> dict[str, dict[str, float]]:
    """The metrics of several heads as metric -> column -> value, where the columns are `mean`, `std` and the heads;
    metrics that not all of them have come last, without a mean."""
    heads = list(tasks)
    table: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        head, slash, metric = name.rpartition("/")
        if slash and head in heads:
            table.setdefault(metric, {})[head] = value
        elif name.removesuffix(STD) in table:
            table[name.removesuffix(STD)]["std"] = value
        else:
            table[name] = {"mean": value}
    return {metric: columns for metric, columns in table.items() if columns.keys() & set(heads)}


def _deviation(values: np.ndarray) -> float:
    """Population standard deviation of the defined ones of float64 [H]; undefined if none is."""
    return UNDEFINED if np.isnan(values).all() else float(np.nanstd(values))
