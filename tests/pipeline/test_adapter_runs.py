"""Runs whose best model is an adapter folder: opened in a new process, moved, exported, and gone on from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.runs import Listener, reviews, write_place
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import ConfigError, ModelError, RunError
from textune.exports import export
from textune.pipeline.info import in_words, info
from textune.prediction.card import read_card

peft = pytest.importorskip("peft", reason="peft is not installed")

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
[model.lora]
r = 4
merge = "off"
[train]
duration = "6 steps"
evaluate_every = "3 steps"
[train.checkpoint]
every = "3 steps"
"""
TEXTS = ["a good film", "the worst movie of the year", "a dull and boring and poor plot"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{**row, "third": "" if row["id"] % 4 == 3 else "abc"[row["id"] % 3]} for row in reviews(60)]
    folder = write_place(tmp_path_factory.mktemp("adapters"), CONFIG, rows)
    textune.train(folder / "config.toml", run=folder / "runs" / "lora")
    return folder


@pytest.fixture
def moved(place: Path, tmp_path: Path) -> Path:
    """A copy of everything in another place; where it was, nothing can be found."""
    shutil.copytree(place, tmp_path / "moved" / "here")
    return tmp_path / "moved" / "here"


def scores_elsewhere(run: Path) -> np.ndarray:
    """The scores that a new process computes."""
    code = f"import json, textune; print(json.dumps(textune.load({str(run)!r}).score({TEXTS!r}).tolist()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


def changed(folder: Path) -> None:
    """Change one weight of a model folder."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("query.weight"))
    save_file(tensors | {name: tensors[name] + 0.5}, path, metadata={"format": "pt"})


def of_another_shape(folder: Path) -> None:
    """Make one weight of a model folder longer."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("query.weight"))
    save_file(tensors | {name: tensors[name].repeat(2, 1)}, path, metadata={"format": "pt"})


def hidden(place: Path, moved: Path) -> None:
    """Make the noted absolute path of the backbone lead nowhere, as if the first place were gone."""
    path = moved / "runs" / "lora" / "best" / "textune.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(str(place), str(place) + "-gone"), encoding="utf-8")


@pytest.mark.parity("TW-17", "AZ-08")
def test_best_is_an_adapter_folder_with_the_scores_of_its_report(place: Path) -> None:
    best = place / "runs" / "lora" / "best"
    names = {path.name for path in best.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "textune.json"} <= names
    assert "model.safetensors" not in names
    report = json.loads((place / "runs" / "lora" / "report.json").read_text(encoding="utf-8"))
    again = textune.evaluate(place / "runs" / "lora").to_dict()
    assert again["metrics"] == report["metrics"]


def test_info_names_the_backbone(place: Path) -> None:
    run = place / "runs" / "lora"
    found = info(run)
    note = read_card(run / "best").adapters
    assert note is not None and found["adapters"] == note.model_dump(mode="json", exclude_none=True)
    words = in_words(found)["adapters"]
    assert str(place / "backbone") in words and note.backbone.fingerprint in words


@pytest.mark.slow
def test_both_folders_move_together(place: Path, moved: Path) -> None:
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    hidden(place, moved)
    assert (scores_elsewhere(moved / "runs" / "lora") == known).all()
    shutil.rmtree(moved / "backbone")
    with refused(ModelError, place=str(moved / "runs" / "lora" / "best"), reason="does not exist"):
        textune.load(moved / "runs" / "lora")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("spoil", [changed, of_another_shape])
def test_the_backbone_is_the_one_with_the_right_weights(
    place: Path, moved: Path, spoil: Callable[[Path], None]
) -> None:
    """Where another one lies nearer than the one that was noted."""
    spoil(moved / "backbone")
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    assert (textune.load(moved / "runs" / "lora").score(TEXTS) == known).all()
    hidden(place, moved)
    card = read_card(moved / "runs" / "lora" / "best").adapters
    assert card is not None
    with refused(ModelError, key="model.pretrained", place=str(moved / "backbone"), reason=card.backbone.fingerprint):
        textune.load(moved / "runs" / "lora")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of peft, on transformers
def test_peft_and_plain_transformers(place: Path, tmp_path: Path) -> None:
    best = place / "runs" / "lora" / "best"
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    inputs = AutoTokenizer.from_pretrained(best)(TEXTS, return_tensors="pt", padding=True)
    base = AutoModelForSequenceClassification.from_pretrained(place / "backbone", num_labels=2)
    by_peft = peft.PeftModel.from_pretrained(base, str(best)).eval()
    export(place / "runs" / "lora", tmp_path / "merged", form="merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    for model in (by_peft, merged):
        with torch.inference_mode():
            scores = torch.softmax(model(**inputs).logits, dim=1).double().numpy()
        assert abs(scores - known).max() < 1e-5
    assert AutoConfig.from_pretrained(best).label2id == merged.config.label2id
    # Never a model with some other head: transformers looks for whole weights beside config.json.
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(best)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of peft, on transformers
def test_peft_opens_what_the_command_exports(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the backbone that the folder itself names."""
    call = runner(capsys, monkeypatch, tmp_path)
    assert call("export", place / "runs" / "lora", "--adapter", "--out", "out").code == 0
    named = peft.PeftConfig.from_pretrained(str(tmp_path / "out")).base_model_name_or_path
    base = AutoModelForSequenceClassification.from_pretrained(named, num_labels=2)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        scores = torch.softmax(model(**inputs).logits, dim=1).double().numpy()
    assert abs(scores - textune.load(tmp_path / "out").score(TEXTS)).max() < 1e-5


def test_int8_wants_whole_weights(place: Path, tmp_path: Path) -> None:
    with refused(ModelError, key="precision", value="int8", place=str(place / "runs" / "lora" / "best")):
        textune.load(place / "runs" / "lora", precision="int8")
    export(place / "runs" / "lora", tmp_path / "merged", form="merged")
    exact, rough = (textune.load(tmp_path / "merged", precision=kind).score(TEXTS) for kind in ("fp32", "int8"))
    assert abs(exact - rough).max() < 0.05


@pytest.mark.slow
@pytest.mark.parity("TW-17")
def test_forms_of_an_export(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, tmp_path)
    run = place / "runs" / "lora"
    known = textune.load(run).score(TEXTS)
    assert export(run, tmp_path / "a").form == "adapter"
    assert (textune.load(tmp_path / "a").score(TEXTS) == known).all()
    note = read_card(tmp_path / "a").adapters
    assert note is not None and note.backbone.relative is not None
    assert (tmp_path / "a" / note.backbone.relative).resolve() == place / "backbone"
    assert json.loads(call("export", "a", "--merge", "--out", "b", "--json").out)["form"] == "merged"
    assert abs(textune.load(tmp_path / "b").score(TEXTS) - known).max() < 1e-5
    checkpoint = run / "checkpoints" / "step-6"
    for form in ("adapter", "merged"):
        assert export(checkpoint, tmp_path / f"of-{form}", form=form).step == 6
    same = read_card(run / "best").step == 6
    for ours, theirs in (("of-adapter", "a"), ("of-merged", "b")):
        name = "adapter_model.safetensors" if ours == "of-adapter" else "model.safetensors"
        one, other = (load_file(tmp_path / folder / name) for folder in (ours, theirs))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one) == same
    assert textune.load(tmp_path / "of-adapter").card.adapters is not None
    with pytest.raises(RunError) as caught:
        export(tmp_path / "b", tmp_path / "c", form="adapter")
    found = caught.value
    assert (found.key, found.value, found.reason) == ("form", "adapter", "no adapters")
    assert "model.lora.merge" in found.hint and "textune export" not in found.hint
    assert export(tmp_path / "b", tmp_path / "c", form="merged").form == "merged"
    assert call("export", run, "--merge", "--adapter", "--out", "d").code == 2
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
@pytest.mark.parity("TW-17", "AZ-08")
def test_a_merged_best_model_points_to_its_checkpoints(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    textune.train(place / "config.toml", run=run, overrides=["model.lora.merge=end"])
    assert (run / "best" / "model.safetensors").is_file() and read_card(run / "best").adapters is None
    with pytest.raises(RunError) as caught:
        export(run, tmp_path / "a", form="adapter")
    assert (caught.value.key, caught.value.place) == ("form", str(run / "best"))
    assert f"`textune export {run / 'checkpoints' / 'step-6'} --adapter --out FOLDER`" in caught.value.hint
    export(run / "checkpoints" / "step-6", tmp_path / "a", form="adapter")
    known = export(place / "runs" / "lora" / "checkpoints" / "step-6", tmp_path / "b").folder
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "a", known))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_where_adapters_are_is_said_only_of_a_run_that_had_some(place: Path, tmp_path: Path) -> None:
    alone = ["model.lora.merge=end", "train.checkpoint.save_only_model=true"]
    for name, overrides, unset in (("without", [], ["model.lora"]), ("models alone", alone, [])):
        textune.train(place / "config.toml", run=tmp_path / name, overrides=overrides, unset=unset)
        with pytest.raises(RunError) as caught:
            export(tmp_path / name, tmp_path / "a", form="adapter")
        assert (caught.value.key, caught.value.place) == ("form", str(tmp_path / name / "best"))
        assert ("without model.lora" in caught.value.hint) == (name == "without")
        assert ("model.lora.merge" in caught.value.hint) == (name == "models alone")
        assert "textune export" not in caught.value.hint
    with pytest.raises(RunError) as caught:
        export(tmp_path / "without" / "checkpoints" / "step-6", tmp_path / "a", form="adapter")
    assert "without model.lora" in caught.value.hint


def goes_on(place: Path, run: Path, *overrides: str) -> list[str]:
    """The notices of a run that starts from the first one's model, before its first step changes anything."""
    listener = Listener()
    start = [f"model.pretrained={place / 'runs' / 'lora'}", "train.optimizer.lr=1e-9", *overrides]
    textune.train(place / "config.toml", run=run, overrides=start, tracker=listener)
    return listener.notices


def test_a_run_goes_on_with_the_very_adapters(place: Path, tmp_path: Path) -> None:
    notices = goes_on(place, tmp_path / "run", "model.lora.dropout=0.1")
    assert any("goes on with them" in notice for notice in notices)
    names = ("adapter_model.safetensors", "textune.json")
    before, after = (place / "runs" / "lora" / "best" / names[0], tmp_path / "run" / "best" / names[0])
    one, other = load_file(before), load_file(after)
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    notes = [read_card(folder / "best").adapters for folder in (place / "runs" / "lora", tmp_path / "run")]
    assert notes[0] is not None and notes[1] is not None
    assert notes[0].backbone.fingerprint == notes[1].backbone.fingerprint
    assert notes[1].backbone.folder == str(place / "backbone")
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    assert abs(textune.load(tmp_path / "run").score(TEXTS) - known).max() < 1e-5


def test_a_run_without_adapters_trains_the_merged_weights(place: Path, tmp_path: Path) -> None:
    listener = Listener()
    config = place / "plain.toml"
    config.write_text((place / "config.toml").read_text().replace('[model.lora]\nr = 4\nmerge = "off"\n', ""))
    start = [f"model.pretrained={place / 'runs' / 'lora'}", "train.optimizer.lr=1e-9"]
    textune.train(config, run=tmp_path / "run", overrides=start, tracker=listener)
    assert any("put into its weights" in notice for notice in listener.notices)
    assert listener.facts is not None
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    assert read_card(tmp_path / "run" / "best").adapters is None
    assert abs(textune.load(tmp_path / "run").score(TEXTS) - known).max() < 1e-5


def test_other_adapters_stand_beside_merged_weights(place: Path, tmp_path: Path) -> None:
    with refused(ConfigError, key="model.lora.merge", value="off"):
        goes_on(place, tmp_path / "refused", "model.lora.r=2")
    assert not (tmp_path / "refused").exists()
    notices = goes_on(place, tmp_path / "run", "model.lora.r=2", "model.lora.merge=end")
    assert any("new ones beside" in notice for notice in notices)
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    assert abs(textune.load(tmp_path / "run").score(TEXTS) - known).max() < 1e-5
    with refused(ModelError, key="merge", value=False):
        export(tmp_path / "run" / "checkpoints" / "step-6", tmp_path / "a", form="adapter")


HEADS = {
    "one output": ["task.kind=binary", "task.num_logits=1"],
    "a number": ["task.kind=regression", "data.columns.label=number"],
    "several tasks": [
        "task.kind=multitask",
        'task.groups={ label = ["neg", "pos"], third = ["a", "b", "c"] }',
        'data.columns.labels=["label", "third"]',
    ],
    "windows": ["tokens.max_length=10", "tokens.long=windows", "tokens.stride=2", "tokens.pooling=attention"],
    "weights cut over ranks": ["train.distributed.kind=fsdp"],
    "averaged weights": ["train.optimizer.kind=schedule_free", "train.schedule.kind=constant"],
    "models alone": ["train.checkpoint.save_only_model=true"],
}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_and_every_learner(kind: str, place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    textune.train(place / "config.toml", run=run, overrides=[*HEADS[kind], "model.lora.dropout=0.1"])
    assert (run / "best" / "adapter_model.safetensors").is_file()
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert textune.evaluate(run).to_dict()["metrics"] == report["metrics"]
    export(run, tmp_path / "merged", form="merged")
    flat = [np.hstack(list(found.values())) if isinstance(found, dict) else found for found in _scores(run, tmp_path)]
    assert abs(flat[0] - flat[1]).max() < 1e-5
    export(run / "checkpoints" / "step-6", tmp_path / "of-checkpoint", form="adapter")
    textune.load(tmp_path / "of-checkpoint").score(TEXTS)


def _scores(run: Path, folder: Path) -> list[Any]:
    return [textune.load(place).score(TEXTS) for place in (run, folder / "merged")]


def test_the_head_follows_its_labels(place: Path, tmp_path: Path) -> None:
    """A new run whose labels stand in another order, from an adapter folder."""
    known = textune.load(place / "runs" / "lora").score(TEXTS)
    assert isinstance(known, np.ndarray)
    for name, merge in (("same", "off"), ("merged", "end")):
        labels = ["model.lora.merge=" + merge, *(["model.lora.r=2"] if name == "merged" else [])]
        notices = goes_on(place, tmp_path / name, 'data.labels.names=["pos", "neg"]', *labels)
        assert any("in the order of the labels here" in notice for notice in notices)
        scores = textune.load(tmp_path / name).score(TEXTS)
        assert isinstance(scores, np.ndarray)
        assert abs(scores[:, ::-1] - known).max() < 1e-5


def test_a_branch_brings_the_best_model_along(place: Path, tmp_path: Path) -> None:
    """The copy says where the backbone is as seen from itself."""
    run = tmp_path / "deeper" / "than" / "before"
    textune.train(place / "config.toml", run=run, resume=str(place / "runs" / "lora"))
    note = read_card(run / "best").adapters
    assert note is not None and note.backbone.relative is not None
    assert (run / "best" / note.backbone.relative).resolve() == place / "backbone"


@pytest.mark.slow
def test_adapters_beside_few_bits(place: Path, tmp_path: Path) -> None:
    """The folder says which bits its backbone had; merged, these are read back."""
    pytest.importorskip("bitsandbytes")
    run, bits = tmp_path / "run", ["model.quantize.bits=4", "model.quantize.compute=fp32"]
    textune.train(place / "config.toml", run=run, overrides=bits)
    card = read_card(run / "best").adapters
    assert card is not None and card.quantize is not None and card.quantize.bits == 4
    other = read_card(place / "runs" / "lora" / "best").adapters
    assert other is not None and card.backbone.fingerprint == other.backbone.fingerprint
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert textune.evaluate(run).to_dict()["metrics"] == report["metrics"]
    known = textune.load(run).score(TEXTS)
    export(run, tmp_path / "merged", form="merged")
    merged = textune.load(tmp_path / "merged").score(TEXTS)
    assert isinstance(known, np.ndarray) and isinstance(merged, np.ndarray)
    assert abs(merged - known).max() < 1e-5
    start = [f"model.pretrained={run}", "train.optimizer.lr=1e-9"]
    for key, words in (
        ("model.quantize", []),
        ("model.quantize", ["model.quantize.bits=8"]),
        ("model.pretrained", ["model.lora.r=2", "model.lora.merge=end", *bits]),
    ):
        with refused(ConfigError, key=key, reason="model.quantize"):
            textune.train(place / "config.toml", run=tmp_path / "refused", overrides=[*start, *words])
    textune.train(place / "config.toml", run=tmp_path / "on", overrides=[*start, *bits])
    scores = textune.load(tmp_path / "on").score(TEXTS)
    assert isinstance(scores, np.ndarray)
    assert abs(scores - known).max() < 1e-5
