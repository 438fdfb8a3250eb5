"""The rows that a model is surest of and wrong about; after `scored.py`, before `report.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from textune.evaluation.scored import Scored
from textune.evaluation.wording import shorten

MAX_TEXT = 300
"""Characters of a text that a report keeps."""


class Texts(Protocol):
    """Texts by row number: a list of strings, or a column of an Arrow table; only the rows that are shown are looked up."""

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Mistake:
    """One row where the answer is wrong."""

    row: int
    """Number of the row among those evaluated, from 0."""
    place: str
    """Where it stands, for a reader: "test.csv, line 17"."""
    text: str
    pair: str | None
    true: str | tuple[str, ...] | float
    predicted: str | tuple[str, ...] | float
    score: float
    """Probability of the predicted class; multilabel: of `label`; regression: predicted minus true."""
    label: str | None = None
    """Multilabel: the label that the model is most wrong about."""


def find_mistakes(
    scored: Scored,
    names: Sequence[str],
    *,
    texts: Texts,
    pairs: Texts | None,
    place: Callable[[int], str],
    limit: int,
) -> tuple[Mistake, ...]:
    """The `limit` most confident mistakes, worst first; regression: the largest errors."""
    size_N = _sizes(scored)
    worst = np.argsort(-size_N, kind="stable")[:limit]
    mistakes = []
    for row in (int(row) for row in worst if size_N[row] > 0):
        true, predicted, score, label = _details(scored, names, row)
        text = shorten(str(texts[row]), MAX_TEXT)
        pair = None if pairs is None else shorten(str(pairs[row]), MAX_TEXT)
        mistakes.append(Mistake(row, place(row), text, pair, true, predicted, score, label))
    return tuple(mistakes)


def _sizes(scored: Scored) -> np.ndarray:
    """float64 [N] how sure and wrong each row is; 0 where right."""
    if scored.problem == "regression":
        errors: np.ndarray = np.abs(scored.scores - scored.targets)
        return errors
    if scored.problem == "multilabel":
        wrong = scored.predictions != (scored.targets > 0.5)
        distance: np.ndarray = np.where(wrong, np.abs(scored.scores - scored.targets), 0.0)
        return np.asarray(distance.max(axis=1))
    confidence = scored.scores[np.arange(len(scored)), scored.predictions]
    return np.where(scored.right, 0.0, confidence)


def _details(
    scored: Scored, names: Sequence[str], row: int
) -> tuple[str | tuple[str, ...] | float, str | tuple[str, ...] | float, float, str | None]:
    scores, target, prediction = scored.scores[row], scored.targets[row], scored.predictions[row]
    if scored.problem == "regression":
        return float(target), float(prediction), float(prediction - target), None
    if scored.problem == "multilabel":
        wrong = prediction != (target > 0.5)
        worst = int(np.where(wrong, np.abs(scores - target), -1.0).argmax())
        true, predicted = (
            tuple(names[int(index)] for index in np.flatnonzero(labels > 0.5)) for labels in (target, prediction)
        )
        return true, predicted, float(scores[worst]), names[worst]
    return names[int(target)], names[int(prediction)], float(scores[prediction]), None
