"""Opens a trained model for whoever writes Python: `textune.load(...)`, with what a user needs of the `Predictor` behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from textune.data.rows import count, listing
from textune.errors import DataError
from textune.model.device import Device
from textune.prediction import ModelCard, Prediction, Predictor
from textune.prediction import load as open_predictor


class TrainedModel:
    """A trained model: predicts texts, and knows what it was made for."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def card(self) -> ModelCard:
        """What `textune.json` says of the model: problem, label names, columns, longest text."""
        return self._predictor.card

    @property
    def device(self) -> Device:
        """Where and in which precision it computes."""
        return self._predictor.device

    def predict(self, texts: Any, pairs: Any = None) -> list[Prediction]:
        """Label and scores of each text (or text pair), in order.

        `texts` is a list (array, series, generator) of texts, or a table with the columns that the model was trained on: a
        DataFrame, an Arrow table, a dictionary of columns. Raises DataError for anything else, TypeError for what is no text.
        """
        return self._predictor.predict(*self._texts(texts, pairs))

    def score(self, texts: Any, pairs: Any = None) -> np.ndarray:
        """Scores of what `predict` takes: float64 [N, K] probabilities, or [N] values for regression; errors as `predict`."""
        return self._predictor.score(*self._texts(texts, pairs))

    def _texts(self, texts: Any, pairs: Any) -> tuple[list[Any], list[Any] | None]:
        names = _column_names(texts)
        if names is None:
            return _listed("texts", texts), None if pairs is None else _listed("pairs", pairs)
        columns = self.card.columns
        if columns.template is not None:
            raise DataError(
                f"the model reads texts made of several columns ({columns.template!r}); a table is not turned into such here.",
                hint="Give the finished texts as a list, or use `textune predict` with a file.",
            )
        if pairs is not None:
            raise DataError(
                "texts is a table, and pairs are given too.", hint="Leave pairs out: the table has the second texts."
            )
        wanted = [columns.text] if columns.text_pair is None else [columns.text, columns.text_pair]
        for name in wanted:
            if name not in names:
                raise DataError(
                    f"texts is a table without the column {name!r}, which the model was trained on; it has"
                    f" {listing(map(repr, names))}.",
                    hint="Rename its column, or give the texts as a list.",
                )
        first, *second = ([*_listed(name, texts[name])] for name in wanted)
        return first, second[0] if second else None

    def __repr__(self) -> str:
        card = self.card
        labels = "" if card.problem == "regression" else f", {count(len(card.names), 'label')} ({listing(card.names, 8)})"
        kind = "texts" if card.columns.text_pair is None else "pairs of texts"
        return f"<TrainedModel: {card.problem}{labels}, {kind} of at most {card.max_length} tokens, {self._predictor.device}>"


def load(
    folder: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto",
    max_tokens: int | None = None,
    compile: Literal["auto", "on", "off"] = "auto",
) -> TrainedModel:
    """Open a run folder (its best model) or a model folder that textune saved; options as in `textune.prediction.load`."""
    return TrainedModel(open_predictor(folder, device=device, precision=precision, max_tokens=max_tokens, compile=compile))


def _column_names(value: Any) -> list[str] | None:
    """The columns of a table, whatever library it is of; None for what is no table."""
    if isinstance(value, Mapping):
        return list(value)
    names = getattr(value, "column_names", None) or getattr(value, "columns", None)
    return None if names is None else list(names)


def _listed(name: str, values: Any) -> list[Any]:
    """The values as a list; DataError for one text, or for what holds no row of values."""
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one text; a list of texts is needed.", hint="Put it in a list: [text].")
    convert = getattr(values, "to_pylist", None) or getattr(values, "tolist", None)
    if convert is not None:
        values = convert()
    if not isinstance(values, Iterable):
        raise DataError(f"{name} is {type(values).__name__}; a list of texts is needed.")
    return list(values)
