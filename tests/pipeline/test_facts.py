"""What the header of a run says about rates and checkpoints, held against what the run does."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from kits.runs import Listener

import textune
from textune.config.load import load_config
from textune.pipeline.build import build_parts
from textune.ranks import ALONE
from textune.run.facts import run_facts
from textune.run.header import describe, disk_warning
from textune.run.manifest import read_manifest
from textune.run.parts import Parts, batches_of
from textune.training.learner import build_learner
from textune.training.loop import steps

Usage = namedtuple("Usage", "total used free")


def gathered(home: Path, *overrides: str) -> Parts:
    return build_parts(load_config(home / "config.toml", overrides).experiment, tracker=Listener(), audit=False)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("warmup", ["3 steps", "37.5 %"])
@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "inverse_sqrt"])
def test_the_rates_of_the_header_are_those_of_the_optimizer(home: Path, kind: str, warmup: str) -> None:
    parts = gathered(home, f"train.schedule.kind={kind}", f"train.schedule.warmup={warmup}", "train.duration=8 steps")
    section = parts.settings.train
    learner = build_learner(parts.model, section, parts.device, ALONE)
    rates = []
    run = steps(learner, parts.task, batches_of(parts), section, total_steps=8, warmup_steps=3)
    for result in run:
        assert learner.update.learning_rate == result.lr
        rates.append(learner.update.learning_rate)
    expected = (
        f"0 at step 1 (first step), {rates[3]:.3g} at step 4 (end of warm-up), {rates[7]:.3g} at step 8 (last step)"
    )
    facts = run_facts(parts)
    assert facts.rates == {1: rates[0], 4: rates[3], 8: rates[7]} and facts.warmup_steps == 3
    assert describe(facts)["rates"] == f"{kind}: {expected}"
    assert rates[0] == 0 and rates[3] == section.optimizer.lr


@pytest.mark.every_day(2)
@pytest.mark.parametrize("trained", ["model.freeze=[]", "model.lora.r=2", "model.freeze=backbone"])
def test_a_checkpoint_is_as_large_as_the_header_says(home: Path, tmp_path: Path, trained: str) -> None:
    overrides = ["train.duration=1 steps", "data.test.kind=none", trained]
    predicted = run_facts(gathered(home, *overrides)).checkpoint_bytes
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    shard = tmp_path / "run" / "checkpoints" / "step-1" / "state-1-of-1.safetensors"
    # Beside the tensors stand their names, the optimizer's step counts and the random states.
    assert predicted < shard.stat().st_size < predicted + 40_000


def test_memory_is_that_of_all_weights_and_of_the_state_of_the_trained_ones(home: Path) -> None:
    parts = gathered(home, "model.lora.r=2")
    weights = sum(parameter.numel() for parameter in parts.model.parameters())
    trained = sum(parameter.numel() for parameter in parts.model.parameters() if parameter.requires_grad)
    assert weights > parts.model.num_parameters > 5 * trained
    few = textune.check(home / "config.toml", overrides=["model.lora.r=2"], timing=False).costs
    assert few is not None and few.memory_bytes == 4 * weights + 12 * trained
    whole = textune.check(home / "config.toml", overrides=["train.compact_vocabulary=off"], timing=False).costs
    assert whole is not None and whole.memory_bytes == 16 * parts.model.num_parameters > 2 * few.memory_bytes


@pytest.mark.every_day(1)
@pytest.mark.parametrize("saved", ["model.lora.merge=end", "model.lora.merge=off"])
def test_a_model_alone_is_as_large_as_the_header_says(home: Path, tmp_path: Path, saved: str) -> None:
    overrides = ["train.duration=1 steps", "data.test.kind=none", "train.checkpoint.save_only_model=true", saved]
    predicted = run_facts(gathered(home, *overrides)).checkpoint_bytes
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    step = tmp_path / "run" / "checkpoints" / "step-1"
    assert predicted < sum(path.stat().st_size for path in step.rglob("*.safetensors")) < predicted + 20_000


def test_a_small_disk_is_said_before_the_first_step(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = run_facts(gathered(home))
    assert disk_warning(facts, tmp_path / "run") == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1000))
    assert "has 0.0 GB free and this run may take" in disk_warning(facts, tmp_path / "not" / "there" / "run")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "every 9 steps and at the end, SIZE each, the last one kept"),
        (["every=5 steps", "keep=3"], "every 5 steps and at the end, SIZE each, the last 3 kept"),
        (
            ["every=1 step", "keep=all", "keep_best=2"],
            "every 1 step and at the end, SIZE each, all kept and the 2 with",
        ),
        (["every=never", "save_only_model=true"], "at the end, SIZE each, models only"),
    ],
)
def test_what_is_saved_is_said(home: Path, overrides: list[str], says: str) -> None:
    facts = run_facts(gathered(home, *(f"train.checkpoint.{override}" for override in overrides)))
    assert says.replace("SIZE", f"{facts.checkpoint_bytes / 1e6:,.1f} MB") in describe(facts)["saved"]


def test_the_values_are_in_the_manifest_and_in_json(home: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = textune.train(
        home / "config.toml", run=tmp_path / "run", overrides=["train.duration=2 steps"], tracker=listener
    )
    assert result.facts is not None and listener.facts == result.facts
    as_json = json.loads(json.dumps(result.facts.to_dict(), allow_nan=False))
    manifest = read_manifest(result.run)
    assert manifest.facts == as_json == result.to_dict()["numbers"]
    assert manifest.resolved == describe(result.facts)
    [(config, state)] = listener.started
    assert config["train"]["duration"] == "2 steps" and state == {}
    [(status, files)] = listener.finished
    assert status == "complete" and files["report-test.json"] == result.run / "report-test.json"


def test_what_adapters_train_is_said(home: Path) -> None:
    parts = gathered(home, "model.lora.r=4")
    facts = run_facts(parts)
    width, inner = 32, 64
    beside = 2 * (4 * 4 * (width + width) + 2 * 4 * (width + inner)) + 4 * (width + width)  # the last is the pooler's
    assert parts.model.hf.config.hidden_size == width and parts.model.hf.config.intermediate_size == inner
    head = sum(p.numel() for name, p in parts.model.hf.named_parameters() if name.startswith("classifier."))
    assert facts.parameters_trained == beside + head
    assert (facts.adapter_rank, facts.adapted_layers) == (4, 13)
    assert describe(facts)["model"].endswith(f" trained (LoRA r 4 on {facts.adapted_layers} layers)")
    plain = run_facts(gathered(home))
    assert plain.parameters == facts.parameters, "adapters are no part of the saved model"
    assert (plain.adapter_rank, plain.adapted_layers) == (None, 0) and "LoRA" not in describe(plain)["model"]
