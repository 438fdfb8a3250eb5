"""A checkpoint, whatever its form, becomes a plain Hugging Face folder with the model of its step."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.forking import Module
from kits.patience import wait_until
from kits.runs import signal_after
from safetensors.torch import load_file, save_file
from test_resume import SMALL
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import ModelError, Preempted, RunError
from textune.exports import export

LAST = [*SMALL, "train.evaluate_every=3 epochs"]
"""One evaluation, at the end: the last checkpoint and the best model are of the same step."""


WAYS = {
    "compact": ["train.compact_vocabulary=on"],
    "full": ["train.compact_vocabulary=off"],
    # Whose checkpoints hold other weights than those that are evaluated and saved.
    "schedule free": ["train.optimizer.kind=schedule_free", "train.optimizer.lr=1e-3", "train.schedule.kind=constant"],
}


@pytest.fixture(scope="module", params=WAYS)
def run(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("exported") / "run"
    overrides = [*LAST, *WAYS[request.param]]
    textune.train(home / "config.toml", run=folder, overrides=overrides)
    return folder


@pytest.mark.every_day(1)
def test_the_last_checkpoint_is_the_best_model_of_its_step(run: Path, tmp_path: Path) -> None:
    done = export(run / "checkpoints" / "step-15", tmp_path / "model")
    assert done.step == 15
    ours, best = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", run / "best"))
    assert ours.keys() == best.keys() and all(torch.equal(ours[name], best[name]) for name in best)
    texts = ["a good film", "the worst movie"]
    assert (textune.load(tmp_path / "model").score(texts) == textune.load(run).score(texts)).all()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "model")(texts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        plain = torch.softmax(model(**inputs).logits, dim=1).double().numpy()
    assert abs(plain - textune.load(run).score(texts)).max() < 1e-5


@pytest.mark.every_day(1)
def test_a_run_gives_its_best_model_and_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    done = export(run, tmp_path / "model")
    assert done.source == run / "best"
    assert textune.load(tmp_path / "model").predict(["a film"]) == textune.load(run).predict(["a film"])
    with refused(RunError, key="out", value=str(tmp_path / "model")):
        export(run, tmp_path / "model")


@pytest.mark.slow
def test_a_run_without_an_evaluation_gives_its_newest_checkpoint(home: Path, tmp_path: Path) -> None:
    stop = signal_after({3: [signal.SIGTERM]})
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=LAST, after_step=stop)
    with refused(RunError, reason="no model yet"):
        textune.load(tmp_path / "run")
    assert export(tmp_path / "run", tmp_path / "model").step == 3
    assert textune.load(tmp_path / "model").predict(["a film"])


def test_what_cannot_be_exported_is_said(home: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        export(tmp_path / "nothing", tmp_path / "model")
    with pytest.raises(RunError, match=r"not a complete checkpoint: it has no manifest\.json"):
        export(home, tmp_path / "model")
    shutil.copytree(run / "checkpoints" / "step-15", tmp_path / "torn")
    shard = tmp_path / "torn" / "state-1-of-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with refused(RunError, value="state-1-of-1.safetensors"):
        export(tmp_path / "torn", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_another_backbone_behind_a_compact_checkpoint_is_noticed(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "backbone", tmp_path / "backbone")
    overrides = [*LAST, "train.compact_vocabulary=on", f"model.pretrained={tmp_path / 'backbone'}"]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    weights = tmp_path / "backbone" / "model.safetensors"

    tensors = load_file(home / "backbone" / "model.safetensors")
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    save_file(tensors | {name: tensors[name] + 1}, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"token embeddings of .*backbone changed since"):
        export(tmp_path / "run" / "checkpoints" / "step-15", tmp_path / "model")


def test_a_signal_leaves_nothing_of_an_export(trained: Any, tmp_path: Path) -> None:
    """SIGTERM would else end the process without a chance to remove what is written aside."""
    process = Module("textune", ["export", str(trained[0].run), "--to", "onnx", "--out", "model"], tmp_path)
    wait_until(
        lambda: process.poll() is not None or any(path.name.endswith(".writing") for path in tmp_path.iterdir())
    )
    os.kill(process.pid, signal.SIGTERM)
    code, said = process.wait()
    assert code == 128 + signal.SIGTERM and "stopped by SIGTERM: nothing was written" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["err", "out"]
