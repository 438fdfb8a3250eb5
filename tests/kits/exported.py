"""Tiny random models as whole model folders, for tests of what is made of them; and texts of every length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kits.backbones import WORDS
from kits.models import build
from kits.predictions import card_of
from textune.data.labels.map import LabelMap
from textune.model.device import Device
from textune.prediction import Predictor, Scorer, Scores

LONGEST = 24
"""The longest row of such a model, in tokens."""


def saved_model(family: str, folder: Path, *, section: dict[str, Any] | None = None, **card: Any) -> Path:
    """Write a model of `family` with random weights and its card, and return its folder; by default it tells three
    colors apart. `card`: changes of the card."""
    told = card_of(**{"problem": "multiclass", "names": ("red", "green", "blue"), "max_length": LONGEST} | card)
    task = told.build_task()
    labels = next(iter(task.label_maps.values())) if len(task.heads) == 1 else LabelMap("multiclass", told.names)
    built = build(family, folder / "backbone", labels=labels, num_logits=task.num_outputs, section=section)
    cpu = Device(torch.device("cpu"), "fp32")
    scorer = Scorer(built.model, built.tokenizer, task, told, device=cpu, max_tokens=512)
    (folder / "model").mkdir()
    scorer.save(folder / "model", step=7)
    return folder / "model"


def texts_of_all_lengths(*, seed: int = 0) -> list[str]:
    """Texts of 1 to more words than such a model reads, in no order."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(WORDS, length)) for length in range(1, LONGEST + 4)]
    return [texts[place] for place in draw.permutation(len(texts))]


def scores(predictor: Predictor, texts: list[str], pairs: list[str] | None = None, *, alone: bool = False) -> Scores:
    """Scores of texts in batches, or of each by itself."""
    store = predictor.encode(texts, pairs)
    if not alone:
        return predictor.scorer.score_store(store)
    parts = [predictor.scorer.score_store(store, np.array([number])) for number in range(len(texts))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
