"""A checkpoint leaves out the weights that stay as the backbone's files have them, and refuses another backbone."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
import transformers
from kits.errors import refused
from kits.resume import end_of, same_end
from kits.runs import signal_after
from safetensors.torch import load_file, save_file

import textune
from textune.atomic import WRITING
from textune.config.adapters import Lora
from textune.config.updaterules import AdamW
from textune.errors import ModelError, Preempted, RunError
from textune.exports import export
from textune.model.backbone import TextModel
from textune.model.depth import head_names
from textune.pipeline.parameters import parameters
from textune.run.state import FROZEN_WEIGHTS
from textune.training.checkpoint import Checkpoint, newest, seal
from textune.training.rules import rule_of, state_bytes
from textune.training.state import held_weights, trained_in
from textune.training.tensorfile import FileFacts, facts_of, write_tensors

SMALL = [
    "train.duration=6 steps",
    "train.batch_size=32",
    "train.log_every=2 steps",
    "train.evaluate_every=3 steps",
    "train.checkpoint.every=1 step",
    "train.checkpoint.keep=all",
    "train.checkpoint.background=false",
    "data.test.kind=none",
    "evaluate.bootstrap=0",
]
STEPS, STOPPED = 6, 4
WAYS = {
    "adapters": ["model.lora.r=4"],
    "adapters with biases": ["model.lora.r=4", "model.lora.bias=all"],
    "adapters of some layers": ["model.lora.targets=query", "model.lora.bias=lora_only"],
    "frozen": ["model.freeze=backbone"],
    "partly frozen": ["model.freeze=embeddings"],
    "new head frozen": ['model.freeze=["classifier.*", "*.layer.0.*"]'],
}


OWN_CLASS = "transformers:BertForSequenceClassification"


def train(home: Path, run: Path, way: str, *words: str, stop: int = 0) -> None:
    overrides = [*SMALL, *WAYS[way], *words]
    if not stop:
        textune.train(home / "config.toml", run=run, overrides=overrides)
        return
    with pytest.raises(Preempted):
        after_step = signal_after({stop: [signal.SIGTERM]})
        textune.train(home / "config.toml", run=run, overrides=overrides, after_step=after_step)


def in_run(backbone: Path) -> dict[str, torch.Tensor]:
    """The weights in the files of a backbone, by what a classifier calls them."""
    return {f"bert.{name}": tensor for name, tensor in load_file(backbone / "model.safetensors").items()}


def plain_name(name: str) -> str:
    return name.replace(".base_layer.", ".").replace(".rows.", ".")


def last(run: Path) -> Checkpoint:
    found, passed = newest(run / "checkpoints")
    assert found is not None and not passed
    return found


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(way: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    run: Path = tmp_path_factory.mktemp("whole") / "run"
    train(home, run, way)
    return run


@pytest.mark.every_day(1)
def test_it_holds_what_is_trained_and_the_head_alone(whole: Path, way: str, home: Path) -> None:
    held = {name.removeprefix("model/hf.") for name in last(whole).names if name.startswith("model/")}
    trained = {
        name.removeprefix("optimizer/hf.").removesuffix("/exp_avg")
        for name in last(whole).names
        if name.endswith("/exp_avg")
    }
    head = {"classifier.weight", "classifier.bias"}
    assert held == trained | head
    if "adapters" in way:
        assert not any(name.endswith(".base_layer.weight") for name in held)
        assert "bert.encoder.layer.0.attention.self.query.lora_A.default.weight" in held
    files = in_run(home / "backbone")
    parts = {plain_name(name) for name in held} & files.keys()
    all_biases = {name for name in files if name.endswith(".bias") and name.startswith("bert.")}
    expected = {
        "adapters": set(),
        "adapters of some layers": {name for name in all_biases if name.endswith("query.bias")},
        "adapters with biases": all_biases,
        "frozen": set(),
        "partly frozen": {name for name in files if name.startswith("bert.") and ".embeddings." not in name},
        "new head frozen": {name for name in files if name.startswith("bert.") and ".layer.0." not in name},
    }
    assert parts == expected[way]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("stop", [1, STOPPED])
def test_it_goes_on_bit_for_bit(whole: Path, way: str, home: Path, tmp_path: Path, stop: int) -> None:
    train(home, tmp_path / "run", way, stop=stop)
    train(home, tmp_path / "run", way)
    same_end(end_of(tmp_path / "run"), end_of(whole))


@pytest.mark.every_day(1)
def test_its_model_is_the_best_one_of_its_step(whole: Path, tmp_path: Path) -> None:
    export(whole / "checkpoints" / f"step-{STEPS}", tmp_path / "model")
    card = json.loads((whole / "best" / "textune.json").read_text())
    if card["step"] != STEPS:
        export(whole / "checkpoints" / f"step-{card['step']}", tmp_path / "best")
    made = load_file((tmp_path / ("model" if card["step"] == STEPS else "best")) / "model.safetensors")
    best = load_file(whole / "best" / "model.safetensors")
    assert made.keys() == best.keys() and all(torch.equal(made[name], best[name]) for name in best)
    assert textune.load(tmp_path / "model").predict(["a film"])


OTHERS: dict[str, tuple[list[str], str]] = {
    "windows": (
        [
            "model.lora.r=4",
            "tokens.long=windows",
            "tokens.max_length=8",
            "tokens.stride=2",
            "tokens.pooling=attention",
        ],
        "",
    ),
    "adapters of a folder": (["model.lora.r=4", "model.lora.merge=off"], ""),
    "magnitudes": (["model.lora.r=4", "model.lora.options.use_dora=true", "model.lora.targets=dense"], ""),
    "class of transformers": (
        ["model.kind=python", f"model.object={OWN_CLASS}", "model.freeze=backbone", "model.pretrained=backbone"],
        OWN_CLASS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_every_kind_go_on_and_are_exported(home: Path, tmp_path: Path, kind: str) -> None:
    words, code = OTHERS[kind]
    overrides = [*SMALL, *(word.replace("pretrained=", f"pretrained={home}/") for word in words)]
    run = tmp_path / "run"
    with pytest.raises(Preempted):
        after_step = signal_after({STOPPED: [signal.SIGTERM]})
        textune.train(home / "config.toml", run=run, overrides=overrides, after_step=after_step)
    assert not any(name.endswith(("query.weight", "query.base_layer.weight")) for name in last(run).names)
    textune.train(home / "config.toml", run=run, overrides=overrides)
    textune.train(home / "config.toml", run=tmp_path / "whole", overrides=overrides)
    same_end(end_of(run), end_of(tmp_path / "whole"))
    step = json.loads((run / "best" / "textune.json").read_text())["step"]
    export(run / "checkpoints" / f"step-{step}", tmp_path / "model", code=code)
    texts = ["a good film", "the worst movie of them all and a long one"]
    made, best = (textune.load(folder, code=code).score(texts) for folder in (tmp_path / "model", run))
    assert (made == best).all()


def test_all_weights_of_code_of_the_users_own_are_held(home: Path, tmp_path: Path) -> None:
    """They may start new, and only that code knows what it makes of its files."""
    words = ["model.kind=python", "model.object=kits.ownmodels:PackedBag", f"model.tokenizer={home / 'backbone'}"]
    overrides = [*SMALL, *words, 'model.freeze=["*.embeddings.*", "*.hidden.*"]']
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    checkpoint = last(tmp_path / "run")
    held = {name.partition("model/")[2] for name in checkpoint.names if name.startswith("model/")}
    trained = {name for name in checkpoint.names if name.endswith("/exp_avg")}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in held} == {"embeddings", "hidden", "out"}
    assert len(trained) == 2 and checkpoint.state["content"][FROZEN_WEIGHTS] == ""


def as_earlier(checkpoint: Checkpoint, files: Path) -> None:
    """Rewrite a checkpoint as an earlier version wrote it: every weight is held, and no hash names the frozen ones."""
    tensors = {name: checkpoint.read(name) for name in checkpoint.places if name.startswith(("model/", "optimizer/"))}
    others = {name: checkpoint.read(name) for name in checkpoint.names - tensors.keys() if name != "vocabulary/kept"}
    adapted = {name.partition(".lora_A")[0] for name in tensors if ".lora_A." in name and name.startswith("model/")}
    for plain, tensor in in_run(files).items():
        layer, _, kind = f"model/hf.{plain}".rpartition(".")
        name = f"{layer}.base_layer.{kind}" if layer in adapted else f"model/hf.{plain}"
        if name not in tensors and not plain.startswith("classifier."):
            tensors[name] = tensor
    state = dict(checkpoint.state)
    state["content"] = {name: value for name, value in state["content"].items() if name != FROZEN_WEIGHTS}
    writing = checkpoint.folder.with_name(checkpoint.folder.name + WRITING)
    shutil.copytree(checkpoint.folder, writing)
    (writing / "state.json").write_text(json.dumps(state))
    facts: dict[str, FileFacts] = {
        "state-1-of-1.safetensors": write_tensors(writing / "state-1-of-1.safetensors", tensors | others)
    }
    facts |= {name: facts_of(writing / name) for name in checkpoint.files - facts.keys()}
    shutil.rmtree(checkpoint.folder)
    seal(writing, facts, kind="state")


def copy_of(backbone: Path, folder: Path, *, shift: str = "") -> Path:
    """A backbone in another place, with one weight changed."""
    shutil.copytree(backbone, folder, dirs_exist_ok=True)
    if shift:
        tensors = load_file(backbone / "model.safetensors")
        changed = tensors | {shift: tensors[shift] + 1}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


FROZEN_THEN = "encoder.layer.0.attention.self.query.weight"
FROZEN_ALWAYS = ["adapters", "frozen"]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("chosen", FROZEN_ALWAYS)
def test_one_of_an_earlier_version_that_holds_everything_goes_on_and_is_exported(
    home: Path, tmp_path: Path, chosen: str
) -> None:
    backbone = copy_of(home / "backbone", tmp_path / "backbone")
    there = f"model.pretrained={backbone}"
    train(home, tmp_path / "run", chosen, there, stop=STOPPED)
    expected = export(tmp_path / "run" / "checkpoints" / f"step-{STOPPED}", tmp_path / "expected").folder
    as_earlier(last(tmp_path / "run"), backbone)
    earlier = last(tmp_path / "run")
    assert any(name.endswith(("query.weight", "query.base_layer.weight")) for name in earlier.names)

    copy_of(home / "backbone", backbone, shift=FROZEN_THEN)  # an export takes what the checkpoint holds
    made = export(earlier.folder, tmp_path / "made").folder
    one, other = (load_file(folder / "model.safetensors") for folder in (expected, made))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    with refused(RunError, key="model.pretrained", place=str(tmp_path / "run")):  # a run would need both
        train(home, tmp_path / "run", chosen, there)

    copy_of(home / "backbone", backbone)
    train(home, tmp_path / "run", chosen, there)
    train(home, tmp_path / "whole", chosen, there)
    same_end(end_of(tmp_path / "run"), end_of(tmp_path / "whole"))
    assert not any(name.endswith(("query.weight", "query.base_layer.weight")) for name in last(tmp_path / "run").names)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("chosen", FROZEN_ALWAYS)
def test_a_backbone_that_changed_is_refused_with_both_hashes(home: Path, tmp_path: Path, chosen: str) -> None:
    backbone = copy_of(home / "backbone", tmp_path / "backbone")
    there = f"model.pretrained={backbone}"
    train(home, tmp_path / "run", chosen, there, stop=STOPPED)
    known = last(tmp_path / "run").state["content"][FROZEN_WEIGHTS]
    copy_of(home / "backbone", backbone, shift=FROZEN_THEN)
    with pytest.raises(RunError) as resumed:
        train(home, tmp_path / "run", chosen, there)
    with pytest.raises(ModelError) as exported:
        export(last(tmp_path / "run").folder, tmp_path / "model")
    for caught in (resumed.value, exported.value):
        assert caught.key == "model.pretrained" and caught.value != known
        assert known in caught.reason and str(caught.value) in caught.reason and caught.hint
    assert resumed.value.value == exported.value.value and not (tmp_path / "model").exists()

    shutil.rmtree(backbone)
    with pytest.raises(RunError, match="are read from its backbone"):
        export(last(tmp_path / "run").folder, tmp_path / "model")
    backbone.symlink_to(home / "backbone")
    assert export(last(tmp_path / "run").folder, tmp_path / "linked").step == STOPPED
    backbone.unlink()
    copy_of(home / "backbone", backbone)
    train(home, tmp_path / "run", chosen, there)
    assert last(tmp_path / "run").step == STEPS


def test_a_backbone_may_stand_elsewhere(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "run", "adapters", stop=STOPPED)
    elsewhere = copy_of(home / "backbone", tmp_path / "moved")
    train(home, tmp_path / "run", "adapters", f"model.pretrained={elsewhere}")
    assert last(tmp_path / "run").step == STEPS


@pytest.mark.every_day(1)
@pytest.mark.parametrize("chosen", FROZEN_ALWAYS)
def test_a_backbone_that_moved_together_with_the_run_is_found_again(home: Path, tmp_path: Path, chosen: str) -> None:
    """For an export, and refused where it is another one; one that is where it was comes first."""
    old, new = tmp_path / "old" / "place", tmp_path / "new"
    there = f"model.pretrained={copy_of(home / 'backbone', old / 'models' / 'backbone')}"
    train(home, old / "runs" / "x", chosen, there, stop=STOPPED)
    shutil.copytree(old, new)
    copy_of(home / "backbone", new / "models" / "backbone", shift=FROZEN_THEN)
    known = export(last(new / "runs" / "x").folder, tmp_path / "known").folder
    old.rename(tmp_path / "gone")
    with refused(ModelError, key="model.pretrained", place=str(last(new / "runs" / "x").folder)):
        export(last(new / "runs" / "x").folder, tmp_path / "other")
    copy_of(home / "backbone", new / "models" / "backbone")
    found = export(last(new / "runs" / "x").folder, tmp_path / "found").folder
    one, other = (load_file(folder / "model.safetensors") for folder in (known, found))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    shutil.rmtree(new / "models")
    with refused(RunError, key="model.pretrained", value=str(old / "models" / "backbone")):
        export(last(new / "runs" / "x").folder, tmp_path / "nowhere")


def test_code_beside_a_backbone_is_not_run_for_a_folder_that_says_so(home: Path, tmp_path: Path) -> None:
    """A run may come from anybody: what its configuration trusted is trusted by whoever trains with it, and by no
    other command."""
    backbone, mark = copy_of(home / "backbone", tmp_path / "backbone"), tmp_path / "mark"
    run, words = tmp_path / "run", [f"model.pretrained={backbone}", "model.trust_remote_code=true"]
    train(home, run, "adapters", *words, stop=STOPPED)
    checkpoint = last(run).folder
    export(checkpoint, tmp_path / "model")  # whoever trusts needlessly is not kept from his model
    config = json.loads((backbone / "config.json").read_text())
    names = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"}
    (backbone / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": names}))
    (backbone / "code.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    with refused(RunError, key="model.pretrained", value=str(backbone), place=str(checkpoint)):
        export(checkpoint, tmp_path / "other")
    with refused(ModelError):
        parameters(run)
    assert not mark.exists() and not (tmp_path / "other").exists()


def test_a_checkpoint_that_lacks_a_trained_weight_is_refused(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "run", "adapters", stop=STOPPED)
    checkpoint = last(tmp_path / "run")
    state = dict(checkpoint.state)
    state["content"] = state["content"] | {FROZEN_WEIGHTS: ""}
    writing = checkpoint.folder.with_name(checkpoint.folder.name + WRITING)
    shutil.copytree(checkpoint.folder, writing)
    (writing / "state.json").write_text(json.dumps(state))
    shutil.rmtree(checkpoint.folder)
    seal(writing, {name: facts_of(writing / name) for name in checkpoint.files}, kind="state")
    with refused(ModelError, key="model.pretrained"):
        export(checkpoint.folder, tmp_path / "model")


def test_a_checkpoint_of_adapters_is_a_twentieth_of_one_of_a_full_training() -> None:
    """The shape of XLM-R base. The full training gets off lightly: none of its 250,002 token embeddings occurs."""
    config = transformers.XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        hf = transformers.XLMRobertaForSequenceClassification(config)
    model = TextModel(hf, pad_id=1, attention="padded", compile="off", whole=frozenset(head_names(hf)))

    def checkpoint_bytes(left_out: int = 0) -> int:
        held = sum(tensor.nbytes for tensor in held_weights(model).values()) - 4 * left_out
        state_of_left_out = rule_of(AdamW()).state_bytes(AdamW()) * left_out
        return held + state_bytes(AdamW(), trained_in(model)) - state_of_left_out

    full = checkpoint_bytes(left_out=hf.get_input_embeddings().weight.numel())
    model.adapt(Lora(), seed=0)
    assert 10_000_000 < checkpoint_bytes() < 0.05 * full
