"""`predict_proba`: an array of the probabilities that `predict` names, by the decision of the model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused

import textune
from textune.errors import ModelError
from textune.prediction.card import read_card, write_card
from textune.tasks.decision import Decision

TEXTS = ["a fine film", "what a bore", "movie", ""]


def test_probabilities_are_those_that_predict_names(home: Path, trained: Any) -> None:
    model = textune.load(home / "runs" / "first", device="cpu")
    found: Any = model.predict_proba(TEXTS)
    assert found.dtype == np.float64 and found.shape == (4, 2) and np.allclose(found.sum(axis=1), 1)
    named: Any = [prediction.scores for prediction in model.predict(TEXTS)]  # type: ignore[union-attr]
    assert named == [dict(zip(model.card.names, row, strict=True)) for row in found.tolist()]
    assert model.predict_proba([]).shape == (0, 2)  # type: ignore[union-attr]


def test_probabilities_are_calibrated_by_the_decision_of_the_card(home: Path, trained: Any, tmp_path: Path) -> None:
    shutil.copytree(home / "runs" / "first" / "best", tmp_path / "model")
    decision = Decision(temperature=2.5, thresholds=(0.9,), abstain_below=0.6)
    write_card(read_card(tmp_path / "model").with_decisions({"label": decision}), tmp_path / "model")
    usual: Any = textune.load(tmp_path / "model", device="cpu", decision=False).predict_proba(TEXTS)
    found: Any = textune.load(tmp_path / "model", device="cpu").predict_proba(TEXTS)
    softened = np.exp(np.log(usual) / 2.5)
    assert np.allclose(found, softened / softened.sum(axis=1, keepdims=True), rtol=1e-12)
    assert not np.allclose(found, usual, atol=1e-3)


def test_numbers_and_documents_have_none(home: Path, tmp_path: Path) -> None:
    overrides = {
        "model.pretrained": str(home / "backbone"),
        "train.duration": "1 steps",
        "train.schedule.kind": "constant",
        "train.precision": "fp32",
        "tokens.max_length": 24,
        "tokens.cache": str(home / "cache"),
        "data.validation.kind": "none",
    }
    rows = (["a film", "no film", "film film"] * 8, [0.5, 1.5, 2.25] * 8)
    textune.train(overrides=overrides, run=tmp_path / "run", train=rows)
    model = textune.load(tmp_path / "run", device="cpu")
    with refused(ModelError, key="predict_proba", value="regression"):
        model.predict_proba(TEXTS)
    numbers: Any = model.score(TEXTS)
    assert numbers.shape == (4,)


@pytest.mark.parametrize("texts", [None, "a film", [1]])
def test_what_cannot_be_texts_is_said(home: Path, trained: Any, texts: Any) -> None:
    with pytest.raises(ValueError, match="text"):
        textune.load(home / "runs" / "first", device="cpu").predict_proba(texts)
