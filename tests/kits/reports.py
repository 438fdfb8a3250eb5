"""Reports of every kind on random rows, as pages and tests show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kits.metrics import scored_rows
from kits.severalheads import answered
from textune.data.inspect.findings import Finding
from textune.evaluation.deciding import Fit, LabelThreshold
from textune.evaluation.decisionpart import DecisionPart
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import resolve_metric
from textune.evaluation.render.story import History, Series, SplitRows, Story
from textune.evaluation.report import Report, build_report
from textune.evaluation.slices import LENGTH, Slice
from textune.evaluation.taskreport import build_task_report
from textune.tasks.decision import Decision

ATTACK = "</script><script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
"""A text, or the name of a label, that wants to be markup."""


def report_on(problem: Any, targets: Any, scores: Any, names: tuple[str, ...], **known: Any) -> Report:
    """A report with a text for each row."""
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    scored = scored_rows(problem, targets, scores, names)
    known = {"texts": [f"text {row} {ATTACK}" for row in range(len(targets))], "dataset": "test.csv"} | known
    metric = METRICS[scored.answers.measures.main]
    return build_report(scored, EvaluatedRows(fingerprint="f00d", **known), metric=metric, bootstrap=20)


def probabilities(targets: np.ndarray, num_classes: int, *, strength: float = 4.0, seed: int = 0) -> np.ndarray:
    """Float64 [N, C] the more of the true class, the stronger."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(targets), num_classes))
    logits[np.arange(len(targets)), targets] += strength * random.random(len(targets))
    exponents = np.exp(logits)
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def classes_report(num_classes: int, num_rows: int, *, absent: int = 0, **known: Any) -> Report:
    """On so many classes, of which the last `absent` have no row; the last one's name is an attack."""
    targets = np.random.default_rng(1).integers(0, num_classes - absent, num_rows)
    names = (*(f"class {number}" for number in range(num_classes - 1)), ATTACK)
    problem = "binary" if num_classes == 2 else "multiclass"
    return report_on(problem, targets, probabilities(targets, num_classes), names, **known)


def labels_report(num_labels: int, num_rows: int, **known: Any) -> Report:
    """On so many labels."""
    random = np.random.default_rng(2)
    targets = (random.random((num_rows, num_labels)) < 0.1).astype(np.float32)
    scores = (0.6 * targets * random.random(targets.shape) + 0.4 * random.random(targets.shape)).clip(0, 1)
    return report_on("multilabel", targets, scores, tuple(f"label {number}" for number in range(num_labels)), **known)


def numbers_report(num_rows: int, **known: Any) -> Report:
    """On numbers."""
    random = np.random.default_rng(3)
    targets = random.random(num_rows) * 5
    return report_on("regression", targets, targets + random.normal(size=num_rows), ("score",), **known)


def documents_report(num_documents: int) -> Report:
    """Of a language model."""
    random = np.random.default_rng(4)
    tokens = random.integers(20, 400, num_documents)
    characters = tokens * random.integers(2, 6, num_documents)
    nats = tokens * random.normal(3, 0.5, num_documents)
    return report_on("language", np.stack([tokens, characters, characters], axis=1), nats, ("text",))


def tasks_report(num_rows: int) -> Report:
    """On three tasks."""
    known = answered(num_rows)
    rows = EvaluatedRows(texts=[f"text {row}" for row in range(num_rows)], dataset="test.csv", fingerprint="f00d")
    return build_task_report(known.scored(), rows, main=resolve_metric("auto", known.task.heads), bootstrap=20)


def story() -> Story:
    """A run whose words are attacks."""
    accuracy = Series("validation", (10, 20), (0.5, 0.6))
    return Story(
        name=f"run {ATTACK}",
        status="complete",
        started="2026-11-30T12:00:00+00:00",
        seconds=12.3,
        steps=20,
        best_step=20,
        facts={"task": ATTACK, "model": "tiny"},
        splits=(SplitRows("train", 100, 3, 7), SplitRows(ATTACK, 20, 0, None)),
        history=History(
            Series("training loss", (5, 10, 15, 20), (0.9, 0.7, 0.6, 0.5)),
            Series("learning rate", (5, 10, 15, 20), (1e-4, 9e-5, 8e-5, 0.0)),
            {"accuracy": (accuracy,)},
        ),
        findings=(Finding("warning", "duplicate", f"2 texts {ATTACK}", 2, (ATTACK,)),),
        notices=(ATTACK,),
        command=f"textune train {ATTACK}",
    )


def with_slices(report: Report) -> Report:
    """By length and by two columns, one of whose values is an attack."""
    found = [Slice(LENGTH, f"{low + 1} to {2 * low}", low, 0.5 + low / 200, (0.4, 0.9)) for low in (16, 32, 64)]
    found += [Slice("source", name, 20, 0.6, None, "too few rows") for name in ("web", ATTACK, None)]
    found += [Slice("language", name, 9, float("nan"), None) for name in ("de", "fr")]
    return replace(report, slices=tuple(found))


def with_decision(report: Report) -> Report:
    """Decided by thresholds that were fitted on folds of its rows."""
    labels = tuple(LabelThreshold(name, 0.3, 0.4, 0.55) for name in report.names)
    part = DecisionPart(
        Decision(temperature=1.4, thresholds=(0.3,) * len(labels)),
        cross_fitted=True,
        usual={"ece": 0.08, "log_loss": 1.4, "f1_macro": 0.4},
        decided={"ece": 0.02, "log_loss": 1.2, "f1_macro": 0.5},
        fit=Fit(len(report.names), 5, "f1", labels=labels),
    )
    return replace(report, decision=part)


PAGES: dict[str, Callable[[], Report]] = {
    "labels": lambda: with_decision(labels_report(28, 400)),
    "many": lambda: classes_report(77, 900),
    "binary": lambda: with_slices(classes_report(2, 200)),
    "numbers": lambda: numbers_report(300),
    "absent": lambda: classes_report(6, 120, absent=1),
    "tasks": lambda: tasks_report(200),
    "documents": lambda: documents_report(60),
}
"""One of every kind."""
