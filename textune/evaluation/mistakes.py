"""The rows on which the model is most confidently wrong; after `scored.py`, before `report.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from textune.evaluation.evaluated import RowFacts
from textune.evaluation.scored import Scored
from textune.evaluation.wording import shorten
from textune.tasks import Answer, nth_row

MAX_TEXT = 300
"""Characters of a text that a report keeps."""


class Texts(Protocol):
    """Texts by row number: a list of strings or a column of an Arrow table; only rows that are shown are looked up."""

    def __getitem__(self, index: int, /) -> object: ...


@dataclass(frozen=True)
class EvaluatedRows:
    """The rows behind the scores, as a reader knows them."""

    texts: Texts
    pairs: Texts | None = None
    """The second texts, if the model takes pairs."""
    place: Callable[[int], str] = nth_row
    """Where a row stands, by its number."""
    dataset: str = ""
    """What was evaluated, for a reader."""
    fingerprint: str = ""
    num_left_out: int = 0
    """Rows that should have been scored but could not be used, or were too long."""
    warnings: tuple[str, ...] = ()
    """What else the reader should be warned of."""
    facts: RowFacts | None = None
    """Where they stand, how long they are, and by which columns they are sliced; None: there are no slices."""


@dataclass(frozen=True)
class Mistake:
    """One row where the answer is wrong."""

    row: int
    """Number of the row among those evaluated, from 0."""
    place: str
    """Where it stands, for a reader: "test.csv, line 17"."""
    text: str
    pair: str | None
    true: Answer
    predicted: Answer
    score: float
    """Probability of the predicted class; multilabel: of `label`; regression: predicted minus true."""
    label: str | None = None
    """Multilabel: the label that the model is most wrong about."""


def find_mistakes(scored: Scored, rows: EvaluatedRows, *, limit: int) -> tuple[Mistake, ...]:
    """The `limit` most confident mistakes, worst first; regression: the largest errors."""
    size_N = scored.answers.mistake_sizes(scored.targets, scored.predictions, scored.sureness, scored.suspect)
    worst = np.argsort(-size_N, kind="stable")[:limit]
    return tuple(_mistake(scored, rows, row) for row in (int(row) for row in worst) if size_N[row] > 0)


def _mistake(scored: Scored, rows: EvaluatedRows, row: int) -> Mistake:
    target, prediction = scored.targets[row], scored.predictions[row]
    number = row if scored.rows is None else int(scored.rows[row])
    return Mistake(
        row=number,
        place=rows.place(number),
        text=shorten(str(rows.texts[number]), MAX_TEXT),
        pair=None if rows.pairs is None else shorten(str(rows.pairs[number]), MAX_TEXT),
        true=scored.answers.named(target),
        predicted=scored.answers.named(prediction),
        score=float(prediction - target if scored.sureness is None else scored.sureness[row]),
        label=None if scored.suspect is None else scored.head.labels[int(scored.suspect[row])],
    )
