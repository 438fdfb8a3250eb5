"""From scores to decisions; one function, so that tuned thresholds have one place to go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from textune.data import Problem
from textune.errors import ModelError

MULTILABEL_THRESHOLD = 0.5


def nth_row(index: int) -> str:
    """How a row is named where nobody knows its place in a file."""
    return f"row {index + 1:,}"


def require_numbers(scores: np.ndarray, rows: np.ndarray, *, num_rows: int, place: Callable[[int], str] = nth_row) -> None:
    """ModelError where scores [N] or [N, K] are NaN or infinite.

    rows: int64 [N] which of all `num_rows` rows these are. place: names one of them.
    """
    usable = np.isfinite(scores)
    if usable.all():
        return
    bad = ~usable if scores.ndim == 1 else ~usable.all(axis=1)
    together = "" if len(rows) == num_rows else " scored together"
    raise ModelError(
        f"the model's scores are not numbers (NaN or infinite) for {int(bad.sum()):,} of {len(rows):,} rows{together}, "
        f"the first of them {place(int(rows[bad].min()))}.",
        hint="Either the training has diverged (lower train.optimizer.lr), or the weights are damaged, or they exceed what fp16"
        " holds (use precision fp32).",
    )


def decide(scores: np.ndarray, problem: Problem) -> np.ndarray:
    """What the scores say.

    Binary and multiclass: int64 [N], the class of the highest score (the first of equals). Multilabel: int64 [N, K] of 0 and
    1, one where the score is at least 0.5. Regression: the values [N] themselves.
    """
    if problem == "regression":
        return scores
    if problem == "multilabel":
        return (scores >= MULTILABEL_THRESHOLD).astype(np.int64)
    return np.asarray(scores.argmax(axis=1))
