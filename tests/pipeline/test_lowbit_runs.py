"""Runs with weights of few bits: what they save, export and say, and what other tools make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.errors import refused
from kits.runs import Listener, reviews, write_place
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

import textune
from textune.errors import ModelError
from textune.exports.hf import export
from textune.model import change_in_words
from textune.prediction.card import read_card
from textune.prediction.load import load

peft = pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
[model.quantize]
compute = "fp32"
[model.lora]
r = 4
[train]
duration = "6 steps"
evaluate_every = "3 steps"
[train.optimizer]
lr = 1e-2
[train.checkpoint]
every = "6 steps"
"""
TEXTS = ["a good film", "the worst movie of the year", "a dull and boring and poor plot"]


def trained(folder: Path, *overrides: str) -> tuple[Path, Listener]:
    write_place(folder, CONFIG, reviews(60))
    said, run = Listener(), folder / "run"
    textune.train(folder / "config.toml", run=run, overrides=overrides, tracker=said)
    return run, said


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps its adapters apart."""
    run, _ = trained(tmp_path_factory.mktemp("apart"), "model.lora.merge=off")
    return run


def plain_scores(folder: Path) -> np.ndarray:
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits
    return torch.softmax(logits, dim=1).double().numpy()


def test_a_merged_run_says_what_merging_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = trained(tmp_path)
    card = read_card(run / "best")
    assert card.merge_change is not None and card.merge_change < 1e-4
    assert change_in_words(card.merge_change) in said.notices
    assert abs(plain_scores(run / "best") - textune.load(run).score(TEXTS)).max() < 1e-5
    checkpoint = run / "checkpoints" / "step-6"
    done = runner(capsys, monkeypatch, tmp_path)("export", checkpoint, "--out", "merged")
    exported = read_card(tmp_path / "merged").merge_change
    assert exported is not None and change_in_words(exported) in done.err
    assert abs(plain_scores(tmp_path / "merged") - textune.load(tmp_path / "merged").score(TEXTS)).max() < 1e-5


def test_adapters_are_opened_beside_the_same_weights_of_few_bits(adapters: Path, tmp_path: Path) -> None:
    note = read_card(adapters / "best").adapters
    assert note is not None and note.quantize is not None and note.quantize.compute == "fp32"
    report = json.loads((adapters / "report.json").read_text(encoding="utf-8"))
    assert textune.evaluate(adapters).to_dict()["metrics"] == report["metrics"]
    opened = load(adapters)
    assert opened.model.low_bits is not None
    scores = textune.load(adapters).score(TEXTS)
    for source in (adapters, adapters / "checkpoints" / "step-6"):
        done = export(source, tmp_path / source.name, form="merged")
        assert done.change is not None and done.change < 1e-4
    assert abs(plain_scores(tmp_path / adapters.name) - scores).max() < 1e-5


@pytest.mark.filterwarnings("ignore")  # of peft and transformers
def test_peft_opens_adapters_on_a_backbone_of_bitsandbytes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers loads such a backbone with accelerate")
    # Its own layers are right on a processor where widths are whole blocks of 64.
    wide = tiny_backbone("bert", tmp_path / "wide", hidden_size=64, intermediate_size=128)
    run, _ = trained(tmp_path, "model.lora.merge=off", f"model.pretrained={wide}")
    best, known = run / "best", textune.load(run).score(TEXTS)
    four = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["classifier"],
    )
    base = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "wide", num_labels=2, quantization_config=four, dtype=torch.float32
    )
    model = peft.PeftModel.from_pretrained(base, str(best)).train()  # in evaluation its layers round once more
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs = AutoTokenizer.from_pretrained(best)(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        scores = torch.softmax(model(**inputs).logits.float(), dim=1).double().numpy()
    assert abs(scores - known).max() < 1e-5


def test_a_run_with_few_bits_is_quiet(tmp_path: Path) -> None:
    place = write_place(tmp_path, CONFIG, reviews(40))
    command = [sys.executable, "-m", "textune", "train", str(place / "config.toml"), "--run", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "weights of 4 bits beneath" in done.stderr + done.stdout
    assert "gemm" not in done.stderr and "bitsandbytes" not in done.stderr.lower(), done.stderr


def test_files_with_weights_of_few_bits_are_refused(tmp_path: Path) -> None:
    place = write_place(tmp_path, CONFIG, reviews(40))
    path = tmp_path / "backbone" / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for method in ("gptq", "bitsandbytes"):
        path.write_text(json.dumps(config | {"quantization_config": {"quant_method": method, "bits": 4}}))
        with refused(ModelError, key="model.pretrained", value=str(tmp_path / "backbone"), reason=method):
            textune.train(place / "config.toml", run=tmp_path / "run")
