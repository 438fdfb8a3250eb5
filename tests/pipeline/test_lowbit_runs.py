"""Runs with weights of few bits: what they save, export and say, and what other tools make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.errors import refused
from kits.gptq import write_gptq
from kits.resume import end_of
from kits.runs import Listener, reviews, write_place
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

import textune
from textune.config.load import load_config
from textune.config.lowbits import require_beside_few_bits
from textune.errors import ConfigError, ModelError
from textune.exports import export
from textune.model.mergechange import change_in_words
from textune.prediction.card import read_card
from textune.prediction.load import load

peft = pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

BITS = """[model.quantize]
compute = "fp32"
"""
CONFIG = f"""
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
{BITS}[model.lora]
r = 4
[train]
duration = "6 steps"
evaluate_every = "3 steps"
[train.optimizer]
lr = 1e-2
[train.checkpoint]
every = "6 steps"
"""
APART = ("model.lora.merge=off", "train.checkpoint.every=3 steps", "train.checkpoint.keep=all")
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


@pytest.mark.slow
@pytest.mark.parity("TW-18")
def test_adapters_are_opened_beside_the_same_weights_of_few_bits(adapters: Path, tmp_path: Path) -> None:
    note = read_card(adapters / "best").adapters
    assert note is not None and note.quantize is not None and note.quantize.compute == "fp32"
    report = json.loads((adapters / "report.json").read_text(encoding="utf-8"))
    assert textune.evaluate(adapters).to_dict()["metrics"] == report["metrics"]
    opened = load(adapters)
    assert opened.scorer.model.low_bits is not None
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


@pytest.mark.slow
def test_a_run_with_few_bits_is_quiet(tmp_path: Path) -> None:
    place = write_place(tmp_path, CONFIG, reviews(40))
    command = [sys.executable, "-m", "textune", "train", str(place / "config.toml"), "--run", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "weights of 4 bits beneath" in done.stderr + done.stdout
    assert "gemm" not in done.stderr and "bitsandbytes" not in done.stderr.lower(), done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a backbone whose files have few bits, and a run of it that keeps its adapters apart."""
    place = write_place(tmp_path_factory.mktemp("packed"), CONFIG.replace(BITS, ""), reviews(60))
    (place / "backbone").rename(place / "plain")
    write_gptq(place / "plain", place / "backbone", mixed=True)
    textune.train(place / "config.toml", run=place / "run", overrides=APART)
    return place


@pytest.mark.slow
@pytest.mark.parity("TW-18")
def test_a_run_on_files_of_gptq_is_opened_beside_them_and_merged(packed: Path, tmp_path: Path) -> None:
    run = packed / "run"
    note = read_card(run / "best").adapters
    assert note is not None and note.quantize is None
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["facts"]["weight_bits"] == 4
    opened = load(run)
    assert opened.scorer.model.low_bits is not None and opened.scorer.model.low_bits.bits == 4
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert textune.evaluate(run).to_dict()["metrics"] == report["metrics"]
    scores = textune.load(run).score(TEXTS)
    with refused(ModelError, key="precision", value="int8"):
        load(run, precision="int8")
    for source in (run, run / "checkpoints" / "step-6"):
        export(source, tmp_path / source.name, form="merged")
        config = json.loads((tmp_path / source.name / "config.json").read_text(encoding="utf-8"))
        assert "quantization_config" not in config
    assert abs(plain_scores(tmp_path / run.name) - scores).max() < 1e-5


def test_a_run_on_files_of_gptq_is_resumed_bit_for_bit(packed: Path, tmp_path: Path) -> None:
    whole = packed / "run"
    checkpoint = whole / "checkpoints" / "step-3"
    held = sum(path.stat().st_size for path in checkpoint.rglob("*.safetensors"))
    assert held < (packed / "backbone" / "model.safetensors").stat().st_size
    run = tmp_path / "run"
    textune.train(packed / "config.toml", run=run, overrides=APART, resume=str(checkpoint))
    ends = [end_of(of).checkpoint for of in (run, whole)]
    assert ends[0].names == ends[1].names
    mine, theirs = ({name: end.read(name).numpy().tobytes() for name in end.names} for end in ends)
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert not any(name.endswith("base_layer.weight") for name in mine)


def test_what_merging_changes_on_files_of_gptq_is_said_of_the_run_and_its_checkpoint(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.model.processor.has_bf16", lambda: True)
    run = tmp_path / "run"
    overrides = ["train.precision=bf16", "train.duration=3 steps", "train.checkpoint.every=3 steps"]
    textune.train(packed / "config.toml", run=run, overrides=overrides)
    said = read_card(run / "best").merge_change
    done = export(run / "checkpoints" / "step-3", tmp_path / "merged", form="merged")
    for change in (said, done.change):
        assert change is not None and 1e-6 < change < 0.1


def test_files_of_gptq_that_changed_are_refused(packed: Path) -> None:
    path = packed / "backbone" / "model.safetensors"
    before, tensors = path.read_bytes(), load_file(path)
    name = next(name for name in tensors if name.endswith(".qweight"))
    tensors[name][0, 0] += 1
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        with refused(ModelError, key="model.pretrained", place=str(packed / "backbone")):
            load(packed / "run")
    finally:
        path.write_bytes(before)


def test_a_run_on_files_of_gptq_needs_adapters_and_one_engine(packed: Path, tmp_path: Path) -> None:
    for key, value in (("train.distributed.kind", "fsdp"), ("train.engine", "onnxruntime")):
        with refused(ConfigError, key=key, value=value):
            require_beside_few_bits(load_config(packed / "config.toml", [f"{key}={value}"]).experiment)
    with refused(ConfigError, key="model.pretrained", value=str(packed / "backbone")):
        textune.train(packed / "config.toml", run=tmp_path / "run", unset=["model.lora"])
    assert not (tmp_path / "run").exists()
