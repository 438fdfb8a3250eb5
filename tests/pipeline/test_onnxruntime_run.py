"""Whole runs whose passes are ONNX Runtime's: header, resume, other engines, models in plain transformers."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.engines import needs_onnxruntime
from kits.errors import refused
from kits.resume import end_of, same_end
from kits.runs import Listener, signal_after
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import ModelError, Preempted

pytestmark = needs_onnxruntime

SMALL = [
    "train.engine=onnxruntime",
    "train.duration=6 steps",
    "train.batch_size=32",
    "train.max_tokens=200",
    "train.log_every=2 steps",
    "train.evaluate_every=3 steps",
    "train.checkpoint.every=1 step",
    "train.checkpoint.background=false",
    "data.test.kind=none",
    "evaluate.bootstrap=0",
]
STEPS, STOPPED = 6, 4
NO_DROPOUT = "model.config={ hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0 }"


def train(home: Path, run: Path, *words: str, stop: int = 0) -> Listener:
    listener = Listener()
    overrides = [*SMALL, *words]
    if stop:
        with pytest.raises(Preempted):
            after_step = signal_after({stop: [signal.SIGTERM]})
            textune.train(home / "config.toml", run=run, overrides=overrides, after_step=after_step)
    else:
        result = textune.train(home / "config.toml", run=run, overrides=overrides, tracker=listener)
        assert result is not None and result.steps == STEPS
    return listener


@pytest.mark.parametrize(
    "words", [[], [NO_DROPOUT, "train.compact_vocabulary=on"]], ids=["dropout", "no dropout, compact vocabulary"]
)
def test_a_run_that_resumes_is_the_run_that_was_never_stopped(home: Path, tmp_path: Path, words: list[str]) -> None:
    """Bit for bit, with ONNX Runtime's own masks of dropout, too: they follow from the seed of the step."""
    whole = train(home, tmp_path / "whole", *words)
    train(home, tmp_path / "run", *words, stop=STOPPED)
    train(home, tmp_path / "run", *words)
    same_end(end_of(tmp_path / "run"), end_of(tmp_path / "whole"))
    assert whole.facts is not None and whole.facts.engine == "onnxruntime" and whole.facts.layout == "padded"
    assert whole.facts.precision == "fp32" and "ONNX Runtime" in whole.words["engine"]
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["facts"]["engine"] == "onnxruntime"


def test_each_engine_goes_on_from_the_others_checkpoint(home: Path, tmp_path: Path) -> None:
    """Without dropout with the same losses; and the user is told."""
    alone = ["train.engine=torch", "model.attention=padded", "train.precision=fp32", NO_DROPOUT]
    train(home, tmp_path / "whole", *alone)
    for name, first, second in (("a", alone, [NO_DROPOUT]), ("b", [NO_DROPOUT], alone)):
        both = ["model.attention=padded", "train.precision=fp32"]
        train(home, tmp_path / name, *first, *both, stop=STOPPED)
        told = train(home, tmp_path / name, *second, *both)
        assert any("train.engine" in notice for notice in told.notices)
        losses, expected = (_losses(tmp_path / run) for run in (name, "whole"))
        assert losses == pytest.approx(expected, abs=1e-5)


def _losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def test_the_saved_model_is_one_of_plain_transformers(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "run")
    best = tmp_path / "run" / "best"
    texts = ["the film is good", "a dull and boring movie"]
    tokenizer, model = AutoTokenizer.from_pretrained(best), AutoModelForSequenceClassification.from_pretrained(best)
    with torch.no_grad():
        plain = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits.softmax(dim=1)
    found = [prediction.score for prediction in textune.load(tmp_path / "run").predict(texts)]
    assert found == pytest.approx(plain.max(dim=1).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("verb", ["check", "train", "train --dry-run"])
def test_a_family_that_does_not_export_is_refused_before_anything_is_shown_or_written(
    home: Path, tmp_path: Path, verb: str
) -> None:
    tiny_backbone("t5", tmp_path / "backbone")
    words = [*SMALL, f"model.pretrained={tmp_path / 'backbone'}"]
    shown, run, listener = [], tmp_path / "runs" / "x", Listener()
    with refused(ModelError, key="train.engine", value="onnxruntime", reason="operator Where"):
        if verb == "check":
            textune.check(home / "config.toml", overrides=words, timing=False, audited=shown.append)
        else:
            dry_run = verb != "train"
            textune.train(home / "config.toml", run=run, overrides=words, tracker=listener, dry_run=dry_run)
    assert not shown and listener.facts is None
    assert not run.parent.exists()
