"""Ranks under DeepSpeed train what one process trains, and each kind goes on from the other's state (fp32, dropout
off)."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import FAMILIES, tiny_backbone
from kits.batches import loader_of, rows_of
from safetensors.torch import load_file

pytest.importorskip("deepspeed")

from kits import zero_ranks
from kits.rankscripts import run_ranks
from kits.zero_ranks import (
    MODEL_KEYS,
    NO_DROPOUT,
    TASK,
    TOO_LARGE,
    Work,
    evaluate,
    load_state,
    save_state,
    train_section,
    without_dropout,
)

from textune.config.schema import TrainSection
from textune.config.sharing import DeepSpeed
from textune.config.updaterules import AdamW8bit
from textune.errors import ConfigError, ModelError, RunError
from textune.model.device import Device
from textune.ranks import ALONE, join, leave
from textune.training.learner import build_learner, learner_alone
from textune.training.microbatch import gradients_in_memory
from textune.training.sharing.zero.lossscale import LossScale

CPU = Device(torch.device("cpu"), "fp32")
SCRIPT = Path(zero_ranks.__file__)


FEW: dict[str, dict[str, Any]] = {
    "adapters": {"lora": {"r": 4, "bias": "lora_only"}},
    "magnitudes": {"lora": {"r": 4, "options": {"use_dora": True}}},
    "frozen": {"freeze": ["embeddings", "*.layer.0.*"]},
}
"""Models of which few numbers are trained."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, files for DeepSpeed, and the states of one process after four and eight steps."""
    return prepared(tmp_path_factory.mktemp("zero"))


def prepared(folder: Path, **model: Any) -> Path:
    """As `folder`, with these keys of `model`."""
    (folder / MODEL_KEYS).write_text(json.dumps(model))
    (folder / "backbone").mkdir()
    tiny_backbone("bert", folder / "backbone")
    for stage in (1, 2, 3):
        # Small weights would stay whole on every rank, and the test would show nothing.
        parted = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
        (folder / f"{stage}.json").write_text(json.dumps({"zero_optimization": {"stage": stage} | parted}))
    work = Work(folder)
    learner = learner_alone(work.model(), train_section(), CPU)
    save_state(learner, folder, "alone-4", steps=work.steps(learner, 0, 4))
    save_state(learner, folder, "alone-8", steps=work.steps(learner, 4, 8))
    return folder


def difference(folder: Path, one: str, other: str) -> tuple[float, str]:
    first, second = (load_file(folder / f"{name}.safetensors") for name in (one, other))
    assert first.keys() == second.keys()
    return max((float((first[name] - second[name]).abs().max()), name) for name in first)


def facts(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def compare(folder: Path, kinds: dict[str, dict[str, Any]], *, world: int) -> None:
    (folder / "kinds.json").write_text(json.dumps(kinds))
    said = run_ranks(SCRIPT, "compare", str(folder), world=world)
    assert said == [""] * world, "DeepSpeed prints nothing"
    alone = facts(folder, "alone-4")["steps"]
    for name in kinds:
        assert difference(folder, f"{name}-4", "alone-4") <= (1e-5, "~"), name
        assert difference(folder, f"{name}-8", "alone-8") <= (1e-5, "~"), name
        source = facts(folder, f"{name}-restored")["source"]
        assert difference(folder, f"{name}-restored", f"{source}-4")[0] == 0.0, name
        assert difference(folder, f"{name}-went-on", "alone-8") <= (1e-5, "~"), name
        shares = [
            facts(folder, f"{name}-4")["steps"],
            *(facts(folder, f"{name}-4.{rank}")["steps"] for rank in range(1, world)),
        ]
        for step, one in enumerate(alone):
            assert sum(share[step]["loss"] for share in shares) == pytest.approx(one["loss"], rel=1e-5)
            for share in shares:
                assert share[step]["norm"] == pytest.approx(one["norm"], rel=1e-5)
                assert share[step]["lr"] == one["lr"]


@pytest.mark.slow
@pytest.mark.parity("AZ-19")
def test_two_ranks_in_each_stage_train_as_one_process_and_go_on_from_each_other(folder: Path) -> None:
    """Stage 1 with unequal numbers of micro-batches; each stage takes over the state of the one before."""
    three = {"stage": 3, "config": str(folder / "3.json")}
    compare(folder, {"one": {"stage": 1, "at_once": 1}, "two": {"stage": 2}, "three": three}, world=2)
    assert [facts(folder, f"{name}-4")["lockstep"] for name in ("one", "two", "three")] == [False, True, True]

    work = Work(folder)
    learner = learner_alone(work.model(), train_section(), CPU)
    load_state(learner, folder, "three-4")
    work.steps(learner, 4, 8)
    save_state(learner, folder, "alone-from-three")
    assert difference(folder, "alone-from-three", "alone-8") <= (1e-5, "~")

    require_saved(folder)


def require_saved(folder: Path) -> None:
    """What stage 3 gathers for saving a model: what its checkpoint holds, and the frozen weights of the backbone."""
    model = Work(folder).model()
    frozen = {f"model/{name}": weight.detach() for name, weight in model.frozen_weights.by_name().items()}
    saved, held = load_file(folder / "three-model.safetensors"), load_file(folder / "three-8.safetensors")
    assert saved.keys() == model.hf.state_dict().keys() and not frozen.keys() & held.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, (held | frozen)[f"model/hf.{name}"]), name


@pytest.mark.slow
@pytest.mark.parametrize("few", FEW)
def test_two_ranks_train_few_numbers_as_one_process_and_go_on_from_each_other(few: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path, **FEW[few])
    three = {"stage": 3, "config": str(folder / "3.json")}
    compare(folder, {"one": {"stage": 1, "at_once": 1}, "two": {"stage": 2}, "three": three}, world=2)
    require_saved(folder)


@pytest.mark.slow
def test_offloaded_state_and_recomputed_layers_change_nothing(folder: Path) -> None:
    offload = {"cpu_offload": True}
    three = {"stage": 3, "config": str(folder / "3.json")}
    kinds = {
        "one": {"stage": 1, "at_once": 1} | offload,
        "two": {"stage": 2} | offload,
        "three": three | offload,
        "again": three | {"checkpointing": True},
        "kept": {"stage": 3},
    }
    compare(folder, kinds, world=2)


@pytest.mark.slow
def test_three_ranks_that_divide_nothing_evenly(folder: Path) -> None:
    kinds = {
        "three": {"stage": 3, "config": str(folder / "3.json")},
        "two": {"stage": 2},
        "one": {"stage": 1, "at_once": 1},
    }
    compare(folder, kinds, world=3)


@pytest.mark.slow
def test_lower_precision_and_loss_scale_are_those_of_one_process(folder: Path) -> None:
    work = Work(folder)
    for precision in ("bf16", "fp16"):
        device = Device(torch.device("cpu"), precision)  # type: ignore[arg-type]
        learner = learner_alone(work.model(), train_section(), device)
        steps = work.steps(learner, 0, 4)
        logits = evaluate(work, learner)
        if learner.update.scaler is not None:
            learner.update.scaler.update(TOO_LARGE)
        steps += work.steps(learner, 4, 6)
        if learner.update.scaler is not None:
            learner.update.scaler.update(2.0**16)
        steps += work.steps(learner, 6, 8)
        save_state(learner, folder, f"{precision}-alone", steps=steps, logits=logits.tolist())
    assert run_ranks(SCRIPT, "precisions", str(folder), world=2) == ["", ""]
    for precision in ("bf16", "fp16"):
        alone = facts(folder, f"{precision}-alone")
        for stage in (1, 2, 3):
            other = facts(folder, f"{precision}-{stage}")
            # Rows computed in other company are rounded otherwise.
            assert difference(folder, f"{precision}-{stage}", f"{precision}-alone")[0] < 2e-3
            assert np.abs(np.array(other["logits"]) - alone["logits"]).max() < 0.05
            assert other["numbers"]["scaler"] == alone["numbers"]["scaler"]
            overflowed = [not np.isfinite(step["norm"]) for step in other["steps"]]
            assert overflowed == [precision == "fp16" and number in (4, 5) for number in range(8)]
    assert alone["numbers"]["scaler"]["_growth_tracker"] == 2, "good steps since the last that was left out"


@pytest.mark.slow
def test_stage_3_brings_the_weights_of_every_family(folder: Path) -> None:
    (folder / "families").mkdir()
    # XLNet has weights that no row uses; they decay under DeepSpeed, whose partitions are updated as a whole.
    for family in sorted(set(FAMILIES) - {"xlnet"}):
        path = folder / "families" / family
        path.mkdir()
        tiny_backbone(family, path)
        work = Work(folder, pretrained=str(path), config=NO_DROPOUT.get(family, {}))
        learner = learner_alone(without_dropout(work.model()), train_section(), CPU)
        save_state(learner, folder, f"alone-{family}", steps=work.steps(learner, 0, 2))
    run_ranks(SCRIPT, "families", str(folder), world=2)
    for path in sorted((folder / "families").iterdir()):
        assert difference(folder, f"family-{path.name}", f"alone-{path.name}") <= (1e-5, "~"), path.name


# --- one process alone -----------------------------------------------------------------------------------------------


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A group of one, as `textune train` makes it without a launcher; one after the other in the same process."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    ranks = join(group_needed=True)
    yield ranks
    leave()
    monkeypatch.setenv("LOCAL_RANK", "0")  # so that the learner's is taken back


@pytest.mark.parametrize("stage", [1, 3])
def test_a_process_alone_makes_a_group_for_itself(folder: Path, group: Any, stage: int) -> None:
    work = Work(folder)
    learner = build_learner(work.model(), train_section(DeepSpeed(stage=stage)), CPU, group)  # type: ignore[arg-type]
    work.steps(learner, 0, 4)
    save_state(learner, folder, f"group-{stage}")
    assert difference(folder, f"group-{stage}", "alone-4") <= (1e-5, "~")


def out_of_memory(*_: Any) -> None:
    raise torch.OutOfMemoryError("out of memory")


def test_a_step_that_cannot_be_made_is_a_sentence(folder: Path, group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(folder)
    learner = build_learner(work.model(), train_section(DeepSpeed(stage=2)), CPU, group)
    rows = rows_of(work.store, work.targets.numpy(), work.weights.numpy())
    loader = loader_of(rows, train_section(), layout=learner.model.layout, pad_id=learner.model.pad_id)
    with monkeypatch.context() as patch, pytest.raises(ModelError, match=r"step 1 on rank 0.*train\.max_tokens"):
        patch.setattr(learner.model, "forward", out_of_memory)
        gradients_in_memory(learner, TASK, loader, next(iter(loader)), seed=0)
    with torch.no_grad():
        learner.model.hf.classifier.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match="not finite"):
        work.steps(learner, 0, 1)


def test_states_that_do_not_fit_are_refused(folder: Path, group: Any) -> None:
    learner = build_learner(Work(folder).model(), train_section(DeepSpeed(stage=2)), CPU, group)
    tensors = load_file(folder / "alone-4.safetensors")
    numbers = facts(folder, "alone-4")["numbers"]
    tensors["optimizer/hf.classifier.bias/step"] = torch.tensor(3.0)
    with pytest.raises(RunError, match="between 3 and 4 steps"):
        learner.restore(set(tensors), tensors.__getitem__, numbers)
    del tensors["model/hf.classifier.bias"]
    with pytest.raises(KeyError):
        learner.restore(set(tensors), tensors.__getitem__, numbers)


def test_weights_without_a_state_begin_with_moments_of_zero(folder: Path, group: Any) -> None:
    learner = build_learner(Work(folder).model(), train_section(DeepSpeed(stage=2)), CPU, group)
    tensors = load_file(folder / "alone-4.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer/hf.classifier.bias")}
    learner.restore(set(kept), kept.__getitem__, facts(folder, "alone-4")["numbers"])
    state = {name: tensor.clone() for name, tensor in learner.tensors()}
    assert state.keys() == tensors.keys()
    assert not state["optimizer/hf.classifier.bias/exp_avg"].any()
    assert all(torch.equal(state[name], tensor) for name, tensor in kept.items())
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model/")}
    learner.restore(set(weights), weights.__getitem__, {"optimizer": {}})
    assert {name for name, _ in learner.tensors()} == set(weights)


def test_values_that_deepspeed_itself_refuses_are_a_sentence(folder: Path, group: Any) -> None:
    path = folder / "refused.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2, "reduce_bucket_size": -1}}))
    with pytest.raises(ConfigError, match=r"does not accept.*reduce_bucket_size.*refused\.json"):
        build_learner(Work(folder).model(), train_section(DeepSpeed(stage=2, config=str(path))), CPU, group)


def test_an_optimizer_in_eight_bits_is_refused(folder: Path) -> None:
    section = TrainSection(optimizer=AdamW8bit(), distributed=DeepSpeed())
    with pytest.raises(ConfigError, match="adamw_8bit"):
        build_learner(Work(folder).model(), section, CPU, ALONE)


def test_a_library_that_is_missing_or_old_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Work(folder).model()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.19.7")
    with pytest.raises(ModelError, match=r"DeepSpeed 0\.19\.7.*pip install --upgrade"):
        build_learner(model, train_section(DeepSpeed()), CPU, ALONE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "textune\[deepspeed\]"'):
        build_learner(model, train_section(DeepSpeed()), CPU, ALONE)


def test_the_loss_scale_follows_the_rule_of_torch() -> None:
    ours = LossScale(interval=3)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for bad in (False, False, True, False, False, False, False, True, True, False):
        theirs.scale(weight.sum() * (torch.inf if bad else 1.0)).backward()
        theirs.step(optimizer)
        theirs.update()
        optimizer.zero_grad()
        ours.update(overflow=bad)
        assert ours.state_dict() == theirs.state_dict()
    other = LossScale()
    other.load_state_dict(theirs.state_dict())
    assert other == ours
    least = LossScale(value=4.0, least=3.0)
    least.update(overflow=True)
    assert least.value == 3.0
