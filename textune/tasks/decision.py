"""From scores to answers: the rule of a head, and a check that the scores are numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from textune.errors import ModelError


@dataclass(frozen=True)
class Decision:
    """The rule by which scores become answers."""

    threshold: float = 0.5
    """For labels that are decided one by one: the lowest score at which a label is given."""

    def best(self, scores_NK: np.ndarray) -> np.ndarray:
        """int64 [N] the class of the highest score, the first of equals."""
        return np.asarray(scores_NK.argmax(axis=1))

    def given(self, scores_NK: np.ndarray) -> np.ndarray:
        """int64 [N, K] 1 for each label that is given, 0 for the others."""
        return (scores_NK >= self.threshold).astype(np.int64)


USUAL = Decision()
"""The default, used unless a rule has been tuned."""


def nth_row(index: int) -> str:
    """What to call a row whose place in a file is not known."""
    return f"row {index + 1:,}"


def require_numbers(
    scores: np.ndarray, rows: np.ndarray, *, num_rows: int, place: Callable[[int], str] = nth_row
) -> None:
    """ModelError where scores [N] or [N, K] are NaN or infinite.

    `rows`: int64 [N] the numbers of these rows among all `num_rows`; `place`: what to call one of them.
    """
    usable = np.isfinite(scores)
    if usable.all():
        return
    bad = ~usable if scores.ndim == 1 else ~usable.all(axis=1)
    together = "" if len(rows) == num_rows else " scored together"
    raise ModelError(
        f"the model's scores are not numbers (NaN or infinite) for {int(bad.sum()):,} of {len(rows):,}"
        f" rows{together}, "
        f"the first of them {place(int(rows[bad].min()))}.",
        hint="Either the training has diverged (lower train.optimizer.lr), or the weights are damaged, or they exceed"
        " what fp16"
        " holds (use precision fp32).",
    )
