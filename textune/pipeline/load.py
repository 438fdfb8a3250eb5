"""Opens a trained model in Python: `textune.load(...)`, with what a user needs of what is behind it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa

from textune.config import Columns, DeviceName, PredictionPrecision, Switch
from textune.data import choices_of
from textune.errors import InputError, ModelError
from textune.model import Device
from textune.pipeline.heard import LOG
from textune.pipeline.packed import TemporaryFolder, packed, unpacked
from textune.prediction import (
    Continuation,
    DocumentScore,
    LanguagePredictor,
    ModelCard,
    Prediction,
    Predictor,
    find_model,
    load_scorer,
    no_classifier,
    no_language_model,
    predict_table,
)
from textune.wording import count, listing

_LONGEST_PATH = 256
"""Characters of a text from which on nobody means a file."""


@dataclass(frozen=True)
class Opening:
    """How a model is opened: the options of `load`."""

    device: DeviceName = "auto"
    precision: PredictionPrecision = "auto"
    max_tokens: int | None = None
    compile: Switch = "auto"
    code: tuple[str, ...] = ()
    decision: bool = True

    def open(self, folder: str | Path) -> Predictor | LanguagePredictor:
        """The model of this folder; errors as in `textune.prediction.load_scorer`."""
        scorer = load_scorer(folder, **asdict(self), on_notice=LOG.warning)
        return LanguagePredictor(scorer) if scorer.card.is_language_model else Predictor(scorer)


class TrainedModel:
    """A trained model: a classifier predicts texts, a language model scores documents and goes on with them.

    It is pickled, and copied, by the content of its folder: a pickle is as large as that, and can be opened elsewhere.
    """

    def __init__(self, folder: str | Path, opening: Opening, *, temporary: TemporaryFolder | None = None) -> None:
        """`folder`: as `load` takes it; `temporary`: the same, where nobody else keeps it. Errors as in
        `Opening.open`: options are looked at before the folder is."""
        self._predictor = opening.open(folder)
        self._folder = find_model(folder)
        self._opening = opening
        self._temporary = temporary

    def __getstate__(self) -> tuple[dict[str, bytes], Opening]:
        return packed(self._folder, self._opening.code), self._opening

    def __setstate__(self, state: tuple[dict[str, bytes], Opening]) -> None:
        files, opening = state
        temporary = unpacked(files)
        self.__init__(temporary.path, opening, temporary=temporary)  # type: ignore[misc]

    @property
    def card(self) -> ModelCard:
        """What `textune.json` says of the model: problem, label names, columns, longest text."""
        return self._predictor.card

    @property
    def device(self) -> Device:
        """Where and in which precision it computes."""
        return self._predictor.scorer.device

    @overload
    def predict(self, texts: str, pairs: str | None = None) -> Prediction | dict[str, Prediction]: ...  # type: ignore[overload-overlap]  # a text is an object, too

    @overload
    def predict(self, texts: object, pairs: object = None) -> list[Prediction] | dict[str, list[Prediction]]: ...

    def predict(self, texts: object, pairs: object = None) -> object:
        """Label and scores of each text (or text pair), in order; of a model of several tasks, such a list by task.

        `texts`: a text, whose prediction alone is returned; or texts in a list, a generator, a series or another
        column; or a table or list of dictionaries with the columns that the model was trained on. `pairs`: the second
        texts, where they are not in a table. Raises TextuneError for what cannot be texts, for a table without those
        columns, and where the model is a language model.
        """
        predictor = self._classifier()
        if not isinstance(texts, str):
            return predictor.predict(texts, pairs)
        if len(texts) < _LONGEST_PATH and os.path.isfile(texts):
            LOG.warning(
                "%r is predicted as a text, though there is a file of this name; its rows are predicted by"
                " textune.predict(RUN, FILE, output=...).",
                texts,
            )
        found = predictor.predict([texts], None if pairs is None else [pairs])
        if isinstance(found, list):
            return found[0]
        return {task: one for task, [one] in found.items()}

    def score(self, texts: object, pairs: object = None) -> np.ndarray | dict[str, np.ndarray] | list[DocumentScore]:
        """Scores of texts (or text pairs): float64 [N, K] probabilities, or [N] values for regression; of a model of
        several tasks, such an array by task. Errors as `predict`.

        Of a language model, how likely it finds each document with its metadata and without: `texts` are records with
        the columns of its documents, or plain texts. Raises TextuneError for metadata that cannot be rendered.
        """
        if isinstance(self._predictor, Predictor):
            return self._predictor.score(texts, pairs)
        if pairs is not None:
            raise InputError("a language model scores single texts: leave pairs out", key="pairs")
        return self._predictor.score(texts)

    def predict_proba(self, texts: object, pairs: object = None) -> np.ndarray | dict[str, np.ndarray]:
        """Calibrated probability of every label: float64 [N, K] in the order of `card.names`, whose rows add up to 1
        where a text has one label; of a model of several tasks, such an array by task. Texts and errors as in
        `predict`; ModelError also for a model that predicts numbers."""
        predictor = self._classifier()
        if not choices_of(self.card.label_maps):
            raise ModelError(
                "the model predicts numbers, which have no probabilities.",
                hint="Use predict, or score for the numbers as an array.",
                key="predict_proba",
                value=self.card.problem,
                reason="no labels",
            )
        return predictor.score(texts, pairs)

    def generate(
        self,
        prompt: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        num: int = 1,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Continuation]:
        """What a language model writes after `prompt` in a document with this metadata, such as `{"url": "..."}`.

        `num` texts of at most `max_tokens` tokens (100). `temperature` 0 takes the likeliest token each time; else
        tokens are drawn by `seed`, from the likeliest ones that have `top_p` of the probability together. Raises
        TextuneError for a type of metadata that the model has no prefix for, and for a classifier.
        """
        if isinstance(self._predictor, Predictor):
            raise no_language_model()
        return self._predictor.generate(
            prompt,
            metadata=metadata,
            num=num,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    def predict_table(self, table: object, *, columns: Columns | None = None, all_scores: bool = False) -> pa.Table:
        """Predict each row of a table: the columns that `textune predict` adds, as an Arrow table.

        `table`: of Arrow, pandas or another library, a dictionary of columns, or a list of dictionaries. `columns`:
        which columns have the text, by default as in the training data. `all_scores`: add `score_NAME` for every
        label. Errors as `predict`.
        """
        return predict_table(self._classifier(), table, columns=columns, all_scores=all_scores)

    def _classifier(self) -> Predictor:
        """What predicts texts; ModelError for a language model."""
        if not isinstance(self._predictor, Predictor):
            raise no_classifier()
        return self._predictor

    def __repr__(self) -> str:
        card = self.card
        names = choices_of(card.label_maps)
        labels = f", {count(len(names), 'label')} ({listing(names, 8)})" if names else ""
        kind = "texts" if card.columns.text_pair is None else "pairs of texts"
        kind = kind if card.documents is None else "documents in chunks"
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
    decision: bool = True,
) -> TrainedModel:
    """Open a run folder (its best model) or a model folder that textune saved; options as in
    `textune.prediction.load_scorer`. What is to be said of it goes to the logger `textune`, as a warning."""
    codes = (code,) if isinstance(code, str) else tuple(code)
    opening = Opening(device, precision, max_tokens, compile, codes, decision)
    return TrainedModel(folder, opening)
