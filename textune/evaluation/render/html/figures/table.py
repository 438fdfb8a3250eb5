"""Every figure of a page, in its order.

To add a figure: write a function of a report and a key (unique on the page) in a file beside this one, which returns a
`Figure` or None where there is nothing to draw, and give it a row in `FIGURES` under the name by which the page and
its tests know it. What it draws must be of bounded size, and stand in the report (`textune/evaluation/drawn.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from textune.evaluation.render.html.figure import Figure
from textune.evaluation.render.html.figures.classes import classes
from textune.evaluation.render.html.figures.confidence import coverage, reliability
from textune.evaluation.render.html.figures.curves import precision_recall, roc, scores
from textune.evaluation.render.html.figures.decision import decision, thresholds
from textune.evaluation.render.html.figures.history import evaluations, loss, rates
from textune.evaluation.render.html.figures.lifts import lifts
from textune.evaluation.render.html.figures.matrix import matrix, pairs
from textune.evaluation.render.html.figures.numbers import distribution, spread
from textune.evaluation.render.html.figures.rows import splits
from textune.evaluation.render.html.figures.score import tasks
from textune.evaluation.render.html.figures.slices import lengths, slices
from textune.evaluation.render.story import Story
from textune.evaluation.report import Report

FIGURES: dict[str, Callable[[Report, str], Figure | None]] = {
    "tasks": tasks,
    "matrix": matrix,
    "pairs": pairs,
    "spread": spread,
    "distribution": distribution,
    "classes": classes,
    "precision-recall": precision_recall,
    "roc": roc,
    "reliability": reliability,
    "coverage": coverage,
    "scores": scores,
    "decision": decision,
    "thresholds": thresholds,
    "lengths": lengths,
    "slices": slices,
    "lifts": lifts,
}
"""Those of a report."""

OF_RUN: dict[str, Callable[[Story, str], list[Figure]]] = {
    "evaluations": evaluations,
    "loss": loss,
    "rates": rates,
    "splits": splits,
}
"""Those of a run."""
