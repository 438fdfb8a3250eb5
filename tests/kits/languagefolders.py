"""Folders of tiny language models as a run saves them, with the card that says how documents are rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kits.languages import tiny_language_model
from textune.config.documents import MetadataSection
from textune.config.schema import ModelSection
from textune.config.sources import Columns, Labels
from textune.config.taskkinds import ConditionalLmTask
from textune.data.labels.map import LANGUAGE
from textune.model.device import resolve_device
from textune.model.language import load_language_model
from textune.model.tokenizer import load_tokenizer
from textune.prediction.card import HeadCard, ModelCard
from textune.prediction.scorer import Scorer

TYPES = ("title", "url", "timestamp", "html")


def language_card(max_length: int = 64, columns: dict[str, str] | None = None, **metadata: Any) -> ModelCard:
    """The card of a language model; `metadata` are keys of that section."""
    return ModelCard(
        heads=(HeadCard(problem="language", names=LANGUAGE.names, task=ConditionalLmTask()),),
        max_length=max_length,
        truncate="head",
        columns=Columns(**columns or {}),
        documents=MetadataSection(**{"types": TYPES, **metadata}),
        labels=Labels(),
        precision="fp32",
    )


def saved_language_model(
    folder: Path, family: str = "gpt2", *, card: ModelCard | None = None, model: dict[str, Any] | None = None
) -> Path:
    """Write a model folder as a run's `best`; `model` are keys of that section."""
    section = ModelSection(pretrained=str(tiny_language_model(family, folder / "backbone")), **model or {})
    tokenizer, card = load_tokenizer(section), card or language_card()
    scorer = Scorer(
        load_language_model(section, tokenizer, seed=1),
        tokenizer,
        card.build_task(),
        card,
        device=resolve_device("cpu", "fp32"),
        max_tokens=2048,
    )
    saved = folder / "best"
    saved.mkdir()
    scorer.save(saved)
    return saved
