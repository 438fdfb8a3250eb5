"""Texts with labels: texts or rows in, what a model says of them out.

texts --TextEncoder--> token store --Scorer--> scores --decision--> labels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from textune.batches import RowTexts, TextEncoder, TokenStore, make_row_store
from textune.data import given_texts, going_without
from textune.errors import Advice, DataError
from textune.prediction.card import ModelCard, no_classifier
from textune.prediction.scorer import Scorer, Scores
from textune.tasks import Head, nth_row, shown

TOO_LONG = 'Shorten or split the text: the model was trained with tokens.truncate = "error".'

T = TypeVar("T")


class Prediction(NamedTuple):
    """The model's word on one text, by one head."""

    label: str | tuple[str, ...] | float | None
    """Label name; all given names for multilabel; the value for regression; None where the answer is withheld."""
    score: float
    """Probability of the label (multilabel: of the most probable one); the value for regression."""
    scores: dict[str, float]
    """Every label's probability."""


class Predictor:
    """Predicts texts with the model of a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        """ModelError for a language model."""
        if scorer.card.is_language_model:
            raise no_classifier()
        self.scorer: Final = scorer
        self.card: Final = scorer.card
        self.encoder: Final = TextEncoder(
            scorer.tokenizer, scorer.card.tokens, prefix=scorer.card.metadata, if_too_long=TOO_LONG
        )
        self._said_without: set[tuple[str, ...]] = set()

    def encode(self, texts: object, pairs: object = None) -> TokenStore:
        """Tokens of texts (or text pairs), for `Scorer.score_store`.

        `texts`: a list of texts or anything like it (a generator, a column of a table), or a table or list of
        dictionaries with the columns that the model was trained on. InputError for what is not a list of texts; errors
        as `encode_texts`.
        """
        given = given_texts(texts, pairs, self.card.columns, self.card.metadata)
        self.note_without(given.fields, len(given.texts))
        return self.encode_texts(given.texts, given.pairs, fields=given.fields, place=given.place)

    def note_without(self, fields: tuple[pa.ChunkedArray, ...], num_rows: int) -> None:
        """Say, once for each set of columns, that rows lack fields that the model was trained with."""
        prefix = self.card.metadata
        if prefix is None:
            return
        without = [field.null_count for field in fields] or [num_rows] * len(prefix.columns)
        lacking = tuple(name for name, num in zip(prefix.columns, without, strict=True) if num)
        if lacking and lacking not in self._said_without:
            self._said_without.add(lacking)
            self.scorer.on_notice(going_without(prefix, without, num_rows))

    def encode_texts(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        fields: tuple[pa.ChunkedArray, ...] = (),
        place: Callable[[int], str] = nth_row,
    ) -> TokenStore:
        """Tokens of texts that are known to be such, with these fields before them (`data.select_fields`), or without
        any. `place` names one of them in messages, by its index.

        Raises DataError for single texts where the model takes pairs or the other way round, and for a text that is
        too long with `tokens.truncate = "error"`.
        """
        require_pairs(self.card, pairs is not None)
        return make_row_store(RowTexts.given(texts, pairs, place, fields), self.encoder).whole()

    def score(self, texts: object, pairs: object = None) -> np.ndarray | Scores:
        """Scores of texts (or text pairs): float64 [N, K] calibrated probabilities, or [N] values for regression; such
        an array by head, where there are several. Errors as `encode`."""
        scores = self.scorer.score_store(self.encode(texts, pairs))
        return _of_one({head.name: head.calibrated(scores[head.name]) for head in self.scorer.task.heads})

    def predict(self, texts: object, pairs: object = None) -> list[Prediction] | dict[str, list[Prediction]]:
        """Predict texts, or text pairs, in order; a list by head, where there are several. What they may be and errors
        as in `encode`."""
        return _of_one(self.name_scores(self.scorer.score_store(self.encode(texts, pairs))))

    def name_scores(self, scores: Scores) -> dict[str, list[Prediction]]:
        """Put label names to scores."""
        return {head.name: _named(head, scores[head.name]) for head in self.scorer.task.heads}


def _of_one(by_head: dict[str, T]) -> T | dict[str, T]:
    """What a single head says, without its name; what several say, by their names."""
    return next(iter(by_head.values())) if len(by_head) == 1 else by_head


def _named(head: Head, scores: np.ndarray) -> list[Prediction]:
    names, (labels, best_N, seen) = head.labels, shown(head, scores)
    rows = seen.reshape(len(scores), len(names)).tolist()
    return [
        Prediction(label, best, dict(zip(names, row, strict=True)))
        for label, best, row in zip(labels, best_N.tolist(), rows, strict=True)
    ]


def require_pairs(
    card: ModelCard,
    given: bool,
    *,
    give: Advice = "Give the second texts too.",
    leave_out: Advice = "Leave the second texts out.",
) -> None:
    """DataError where rows have one text and the model takes pairs, or the other way round; `give`, `leave_out`: the
    advice."""
    second = card.columns.text_pair
    if second is not None and not given:
        raise DataError(
            f"the model was trained on pairs of texts (second column: {second!r}), but there is only one text per"
            f" row.",
            hint=give,
            key="data.columns.text_pair",
        )
    if second is None and given:
        raise DataError(
            "the model was trained on single texts, but there are two texts per row.",
            hint=leave_out,
            key="data.columns.text_pair",
        )
