"""Reports of every kind on random rows, as pages and tests show them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kits.metrics import scored_rows
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.report import Report, build_report

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
