"""From scores to decisions; one function, so that tuned thresholds have one place to go."""

from __future__ import annotations

import numpy as np

from textune.data.labels import Problem

MULTILABEL_THRESHOLD = 0.5


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
