"""A predictor without a model, for tests of what is read and written around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kits.runs import Listener
from textune.config.sources import Columns, Labels
from textune.config.taskkinds import AutoTask
from textune.data.reading.streamoptions import StreamOptions, stream_format
from textune.data.reading.windows import read_rows
from textune.model.outofmemory import CallerBudget
from textune.pipeline.predict_file import predict_file
from textune.prediction.card import HeadCard, ModelCard
from textune.prediction.predictor import Predictor
from textune.ranks import ALONE


def card_of(**changes: Any) -> ModelCard:
    """A card; `problem`, `names` and the like are those of its head."""
    head: dict[str, Any] = {"problem": "binary", "names": ("neg", "pos"), "task": AutoTask()}
    head |= {name: changes.pop(name) for name in list(changes) if name in HeadCard.model_fields}
    facts: dict[str, Any] = {
        "heads": (HeadCard(**head),),
        "max_length": 24,
        "truncate": "head",
        "columns": Columns(),
        "labels": Labels(),
        "precision": "fp32",
    }
    return ModelCard(**facts | changes)


class Parrot:
    """A predictor, and its own scorer, that keeps the texts it is given, and gives every one the same scores."""

    def __init__(self, scores: Any = (0.123456789, 0.876543211), **card: Any) -> None:
        self.card = card_of(**card)
        self.texts: list[str] = []
        self.pairs: list[str] = []
        self.ranks = ALONE
        self.scorer = self
        self.scores = scores

    def budget(self, on_notice: Callable[[str], None]) -> CallerBudget:
        return CallerBudget(16384, on_notice)

    def encode_texts(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        fields: tuple[Any, ...] = (),
        place: Callable[[int], str],
    ) -> Any:
        assert not fields, "its card names no columns"
        assert all(type(text) is str for text in [*texts, *(pairs or ())])
        assert not texts or place(len(texts) - 1)
        self.texts += texts
        self.pairs += pairs or ()
        return texts

    def score_store(self, store: Any, **_: Any) -> dict[str, np.ndarray]:
        return {"label": np.array([self.scores] * len(store))}


def predict(parrot: Any, source: Path, target: Path, columns: Columns | None = None, **options: Any) -> int:
    columns = columns or Columns()
    if isinstance(parrot, Parrot):  # it was trained on what it is asked
        parrot.card = parrot.card.model_copy(update={"columns": columns})
    return predict_file(
        cast(Predictor, parrot),
        source=str(source),
        source_options=StreamOptions(format=stream_format(str(source), None)),
        target=str(target),
        target_options=StreamOptions(format=stream_format(str(target), None)),
        columns=columns,
        tracker=options.pop("tracker", Listener()),
        **options,
    )


def read(path: Path) -> list[dict[str, Any]]:
    return [
        row
        for _, row in read_rows(str(path), StreamOptions(format=stream_format(str(path), None)), text_column="text")
    ]
