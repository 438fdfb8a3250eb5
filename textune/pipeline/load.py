"""Opens a trained model in Python: `textune.load(...)`, with what a user needs of the `Predictor` behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config import Columns, DeviceName, PredictionPrecision, Switch
from textune.data import choices_of
from textune.model import Device
from textune.prediction import ModelCard, Prediction, Predictor, predict_table
from textune.prediction import load as open_predictor
from textune.wording import count, listing


class TrainedModel:
    """A trained model: predicts texts, and knows its labels and columns."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def card(self) -> ModelCard:
        """What `textune.json` says of the model: problem, label names, columns, longest text."""
        return self._predictor.card

    @property
    def device(self) -> Device:
        """Where and in which precision it computes."""
        return self._predictor.scorer.device

    def predict(self, texts: object, pairs: object = None) -> list[Prediction] | dict[str, list[Prediction]]:
        """Label and scores of each text (or text pair), in order; of a model of several tasks, such a list by task.

        `texts`: a list of texts or the like (a generator, a column of a table), or a table or list of dictionaries
        with the columns that the model was trained on. Raises TextuneError for what cannot be texts.
        """
        return self._predictor.predict(texts, pairs)

    def score(self, texts: object, pairs: object = None) -> np.ndarray | dict[str, np.ndarray]:
        """Scores of texts (or text pairs): float64 [N, K] probabilities, or [N] values for regression; of a model of
        several tasks, such an array by task. Errors as `predict`."""
        return self._predictor.score(texts, pairs)

    def predict_table(self, table: object, *, columns: Columns | None = None, all_scores: bool = False) -> pa.Table:
        """Predict each row of a table: the columns that `textune predict` adds, as an Arrow table.

        `table`: of Arrow, pandas or another library, a dictionary of columns, or a list of dictionaries. `columns`:
        which columns have the text, by default as in the training data. `all_scores`: add `score_NAME` for every
        label. Errors as `predict`.
        """
        return predict_table(self._predictor, table, columns=columns, all_scores=all_scores)

    def __repr__(self) -> str:
        card = self.card
        names = choices_of(card.label_maps)
        labels = f", {count(len(names), 'label')} ({listing(names, 8)})" if names else ""
        kind = "texts" if card.columns.text_pair is None else "pairs of texts"
        windows = " in windows" if card.long == "windows" else ""
        limit = f"{kind}{windows} of at most {card.max_length} tokens"
        return f"<TrainedModel: {card.problem}{labels}, {limit}, {self._predictor.scorer.device}>"


def load(
    folder: str | Path,
    *,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
) -> TrainedModel:
    """Open a run folder (its best model) or a model folder that textune saved; options as in
    `textune.prediction.load`."""
    return TrainedModel(
        open_predictor(folder, device=device, precision=precision, max_tokens=max_tokens, compile=compile, code=code)
    )
