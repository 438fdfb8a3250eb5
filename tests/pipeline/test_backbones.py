"""A whole run on every kind of backbone: trained, saved, loaded, and the same in plain transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.patience import every_day
from kits.runs import reviews, write_csv
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune

FAMILIES = [
    "bert",
    "xlm-roberta",
    "distilbert",
    "modernbert",
    "gpt2",
    "llama",
    "gemma3",
    "mpnet",
    "deberta-v2",
    "t5",
    "xlnet",
]


GRID = [(family, paired) for family in FAMILIES for paired in (False, True)]


@pytest.mark.parametrize(("family", "paired"), every_day(GRID, GRID[::3]))
def test_a_run_on_this_backbone(home: Path, tmp_path: Path, family: str, paired: bool) -> None:
    tiny_backbone(family, tmp_path / "backbone")
    write_csv(tmp_path / "rows.csv", [{**row, "other": row["text"][::-1][:9]} for row in reviews(40)])
    overrides = [f"data.train.files={tmp_path / 'rows.csv'}", f"model.pretrained={tmp_path / 'backbone'}"]
    overrides += ["data.test.kind=none", "train.duration=3 steps", "train.optimizer.lr=1e-3", "tokens.max_length=32"]
    overrides += ["data.columns.text_pair=other"] if paired else []
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None and result.reports["validation"].num_rows == 8

    texts = [row["text"] for row in reviews(9, seed=4)]
    pairs = [text[:7] for text in texts] if paired else None
    predictor = textune.load(result.run)
    scores = predictor.score(texts, pairs)
    alone = [predictor.score([text], None if pairs is None else [pairs[i]])[0] for i, text in enumerate(texts)]
    np.testing.assert_allclose(scores, np.array(alone), atol=1e-5)

    tokenizer = AutoTokenizer.from_pretrained(result.run / "best")
    model = AutoModelForSequenceClassification.from_pretrained(result.run / "best").eval()
    separator = predictor.card.pair_separator
    for index, text in enumerate(texts):
        inputs = tokenizer(
            text, None if pairs is None else separator + pairs[index], return_tensors="pt", truncation=True
        )
        with torch.inference_mode():
            plain = torch.softmax(model(**inputs).logits.double(), dim=1)[0].numpy()
        np.testing.assert_allclose(scores[index], plain, atol=1e-5)
