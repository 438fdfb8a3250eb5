"""Simulated coverage: of many data sets drawn from a known population, how many 95 % intervals hold the
population's value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kits.metrics import scored_rows
from kits.severalheads import answered

from textune.evaluation.intervals import confidence_interval
from textune.evaluation.joint import main_interval
from textune.evaluation.metrics import METRICS
from textune.evaluation.naming import resolve_metric
from textune.evaluation.scored import Scored

Draw = Callable[[np.random.Generator, int], Scored]


def decisions(prevalence: float, right: float) -> Draw:
    """Binary answers that are right with one probability in both classes."""

    def draw(random: np.random.Generator, num_rows: int) -> Scored:
        targets = (random.random(num_rows) < prevalence).astype(np.int64)
        predicted = np.where(random.random(num_rows) < right, targets, 1 - targets)
        return scored_rows("binary", targets, np.eye(2)[predicted])

    return draw


def ranked(prevalence: float, distance: float) -> Draw:
    """Scores of two normal distributions; the area under their ROC curve is Phi(distance / sqrt 2)."""

    def draw(random: np.random.Generator, num_rows: int) -> Scored:
        targets = (random.random(num_rows) < prevalence).astype(np.int64)
        scores = 1 / (1 + np.exp(-random.normal(size=num_rows) - distance * targets))
        return scored_rows("binary", targets, np.stack([1 - scores, scores], axis=1))

    return draw


def numbers(correlation: float) -> Draw:
    def draw(random: np.random.Generator, num_rows: int) -> Scored:
        targets = random.normal(size=num_rows)
        rest = math.sqrt(1 - correlation**2) * random.normal(size=num_rows)
        return scored_rows("regression", targets, correlation * targets + rest)

    return draw


def classes(right: float, num_classes: int = 5) -> Draw:
    def draw(random: np.random.Generator, num_rows: int) -> Scored:
        targets = random.integers(0, num_classes, num_rows)
        other = (targets + random.integers(1, num_classes, num_rows)) % num_classes
        predicted = np.where(random.random(num_rows) < right, targets, other)
        return scored_rows("multiclass", targets, np.eye(num_classes)[predicted])

    return draw


def label_sets(agree: float, num_labels: int = 6) -> Draw:
    def draw(random: np.random.Generator, num_rows: int) -> Scored:
        labels = random.random((num_rows, num_labels)) < 0.25
        return scored_rows(
            "multilabel", labels.astype(np.float32), np.where(random.random(labels.shape) < agree, labels, ~labels)
        )

    return draw


def coverage(name: str, draw: Draw, num_rows: int, trials: int, samples: int = 300) -> tuple[float, int]:
    """The share of intervals that hold the population's value, and how many trials had one."""
    truth = METRICS[name].of(draw(np.random.default_rng(10_000), 400_000))
    found = []
    for seed in range(trials):
        limits = confidence_interval(
            METRICS[name], draw(np.random.default_rng(seed), num_rows), samples=samples
        ).limits
        if limits is not None:
            found.append(limits[0] <= truth <= limits[1])
    return float(np.mean(found)), len(found)


# name, population, rows, share of intervals that must hold (Wilson's oscillates around 0.95: Brown, Cai, DasGupta
# 2001)
FAST: list[tuple[str, Draw, int, float]] = [
    ("accuracy", decisions(0.5, 0.99), 50, 0.88),
    ("f1", decisions(0.5, 0.99), 50, 0.88),
    ("f1", decisions(0.1, 0.9), 50, 0.90),
    ("mcc", decisions(0.5, 0.99), 50, 0.86),
    ("mcc", decisions(0.1, 0.9), 200, 0.90),
    ("f1_macro", classes(0.97), 50, 0.87),
    ("f1_micro", label_sets(0.95), 100, 0.90),
    ("roc_auc", ranked(0.5, 1.5), 50, 0.90),
    ("pearson", numbers(0.8), 50, 0.88),
]


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("name", "draw", "num_rows", "least"), FAST)
def test_intervals_hold_the_value_as_often_as_they_say(name: str, draw: Draw, num_rows: int, least: float) -> None:
    share, given = coverage(
        name, draw, num_rows, trials=100, samples=100 if METRICS[name].uses != "decisions" else 300
    )
    assert given > 70
    assert least <= share <= 1


def coverage_of_means(name: str, num_rows: int, trials: int, skill: float) -> tuple[float, int]:
    """The same for the mean over three tasks of rows that are hard or easy for all of them."""
    main = resolve_metric(name, answered(4).task.heads)
    truth = main.of(answered(100_000, 10_000, skill=skill).scored())
    found = []
    for seed in range(trials):
        limits = main_interval(main, answered(num_rows, seed, skill=skill).scored(), samples=100).limits
        if limits is not None:
            found.append(limits[0] <= truth <= limits[1])
    return float(np.mean(found)), len(found)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("skill", [1.5, 8.0])
def test_intervals_of_means_over_tasks_hold_the_value_as_often_as_they_say(skill: float) -> None:
    share, given = coverage_of_means("accuracy", 50, trials=60, skill=skill)
    assert given > 50
    assert 0.87 <= share <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "log_loss", "roc_auc"])
@pytest.mark.parametrize("num_rows", [50, 200])
def test_intervals_of_means_over_tasks_in_many_trials(name: str, num_rows: int) -> None:
    share, given = coverage_of_means(name, num_rows, trials=200, skill=1.5)
    assert given == 200 and 0.89 <= share <= 0.99


def grid() -> list[Any]:
    cases: list[tuple[str, str, Draw, int]] = []
    for num_rows in (50, 200, 1000):
        for prevalence in (0.5, 0.1):
            for right in (0.6, 0.8, 0.9, 0.97, 0.99):
                for name in ("accuracy", "f1", "mcc"):
                    case = f"{name}-{num_rows}-{prevalence}-{right}"
                    cases.append((case, name, decisions(prevalence, right), num_rows))
            for distance in (0.5, 1.5, 3.0):
                if num_rows * prevalence >= 20:  # with fewer positives there often is no interval
                    case = f"roc_auc-{num_rows}-{prevalence}-{distance}"
                    cases.append((case, "roc_auc", ranked(prevalence, distance), num_rows))
        for right in (0.8, 0.97):
            cases.append((f"f1_macro-{num_rows}-{right}", "f1_macro", classes(right), num_rows))
            if num_rows > 50:  # of 50 label sets there often are too few wrong ones
                cases.append((f"f1_micro-{num_rows}-{right}", "f1_micro", label_sets(right), num_rows))
        for correlation in (0.0, 0.3, 0.8, 0.97):
            cases.append((f"pearson-{num_rows}-{correlation}", "pearson", numbers(correlation), num_rows))
    return [pytest.param(*rest, id=case) for case, *rest in cases]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "draw", "num_rows"), grid())
def test_intervals_hold_over_the_whole_grid(name: str, draw: Draw, num_rows: int) -> None:
    share, given = coverage(name, draw, num_rows, trials=400, samples=500)
    assert given > 200
    assert share >= 0.86  # the percentile bootstrap held 0.37 at 50 rows with 99 % right
