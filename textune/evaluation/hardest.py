"""What of texts was scored, and which a language model finds hardest; after `scored.py`, before `report.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from textune.evaluation.mistakes import MAX_TEXT, EvaluatedRows
from textune.evaluation.scored import Scored
from textune.evaluation.wording import shorten
from textune.tasks import BYTES, CHARACTERS, TOKENS

MIN_CHARACTERS = 20
"""Fewer scored characters than these say little about a document: it is not listed."""


@dataclass(frozen=True)
class Amounts:
    """How much was scored of all documents together."""

    tokens: int
    characters: int
    bytes: int
    """Of the text in UTF-8."""


@dataclass(frozen=True)
class HardDocument:
    """One document for which a model needs many bits."""

    row: int
    """Number of the document among those evaluated, from 0."""
    place: str
    """Where it stands, for a reader: "pages.jsonl, line 17"."""
    text: str
    bits_per_character: float
    characters: int
    """How many were scored."""


def amounts_of(scored: Scored) -> Amounts | None:
    """What was scored; None where the rows are not texts."""
    if not scored.answers.measures.of_texts:
        return None
    return Amounts(*(int(scored.targets[:, column].sum()) for column in (TOKENS, CHARACTERS, BYTES)))


def find_hardest(scored: Scored, rows: EvaluatedRows, *, limit: int) -> tuple[HardDocument, ...]:
    """The `limit` documents with the most bits per character, the worst first; none where the rows are not texts."""
    if not scored.answers.measures.of_texts:
        return ()
    characters_N = scored.targets[:, CHARACTERS]
    bits_N = scored.predictions / np.maximum(characters_N, 1) / math.log(2)
    numbers = np.arange(len(scored)) if scored.rows is None else scored.rows
    worst = np.argsort(-bits_N, kind="stable")
    worst = worst[characters_N[worst] >= MIN_CHARACTERS][:limit]
    return tuple(
        HardDocument(
            row=int(numbers[one]),
            place=rows.place(int(numbers[one])),
            text=shorten(str(rows.texts[int(numbers[one])]), MAX_TEXT),
            bits_per_character=float(bits_N[one]),
            characters=int(characters_N[one]),
        )
        for one in worst.tolist()
    )
