"""The rows that a model is surest of and wrong about; after `scored.py`, before `report.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from textune.evaluation.render import shorten
from textune.evaluation.scored import Scored, unpack_labels

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
        errors: np.ndarray = np.abs(scored.predictions - scored.targets)
        return errors
    assert scored.sureness is not None
    if scored.problem == "multilabel":
        # A label that is wrongly given is as far off as it is probable, one that is wrongly left out as it is improbable.
        return np.where(scored.right, 0.0, np.maximum(scored.sureness, 1 - scored.sureness))
    return np.where(scored.right, 0.0, scored.sureness)


def _details(
    scored: Scored, names: Sequence[str], row: int
) -> tuple[str | tuple[str, ...] | float, str | tuple[str, ...] | float, float, str | None]:
    target, prediction = scored.targets[row], scored.predictions[row]
    if scored.problem == "regression":
        return float(target), float(prediction), float(prediction - target), None
    assert scored.sureness is not None
    sureness = float(scored.sureness[row])
    if scored.problem == "multilabel":
        assert scored.suspect is not None
        true, predicted = (
            tuple(names[int(index)] for index in np.flatnonzero(unpack_labels(bits, len(names))))
            for bits in (target, prediction)
        )
        return true, predicted, sureness, names[int(scored.suspect[row])]
    return names[int(target)], names[int(prediction)], sureness, None
