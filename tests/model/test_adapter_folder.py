"""Adapter folders: every family's head and adapters are saved, found again, and opened by peft itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.further import FURTHER
from kits.models import COLORS, PACKED, PADDED, Built, build, close, known, lay_out, plain_inputs, random_rows
from safetensors.torch import load_file, save_file
from test_adapters_merged import OPTIONS, adapted
from transformers import AutoConfig, AutoModelForSequenceClassification

from textune.config.adapters import Lora
from textune.config.schema import ModelSection
from textune.data.labels.map import LabelMap
from textune.errors import ModelError
from textune.model import reading
from textune.model.adapters import is_adapter
from textune.model.backbone import TextModel
from textune.model.device import resolve_device
from textune.model.loading import CLASSIFIER, load_model
from textune.model.pretrained import find_pretrained, read_config
from textune.model.recipe import Adapting, Recipe, prepare
from textune.model.tokenizer import load_tokenizer

peft = pytest.importorskip("peft", reason="peft is not installed")

# Of peft, on transformers.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

EVERY = known(*FURTHER, *PACKED, *PADDED)


def with_adapters(family: str, folder: Path, **keys: Any) -> Built:
    lora = {"r": 4, "merge": "off", **keys}
    return adapted(build(family, folder / "backbone", section={"lora": lora}), **lora)


def saved(built: Built, folder: Path) -> Path:
    """The folder, with the model's adapters and all that stands beside them."""
    folder.mkdir(parents=True)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    note = built.model.adapter_note(folder)
    assert note is not None
    (folder / "textune.json").write_text('{"adapters": ' + note.model_dump_json() + "}", encoding="utf-8")
    return folder


def opened(folder: Path) -> TextModel:
    """As `textune.load` opens it."""
    section = ModelSection(pretrained=str(folder))
    model = load_model(
        section, load_tokenizer(section), label_maps={"label": COLORS}, num_logits=3, seed=9, as_saved=True
    )
    assert model.files.saved is not None
    prepare(model, Recipe(resolve_device("cpu", "fp32"), adapting=Adapting(model.files.saved.lora, 0), compiled=False))
    return model


def logits(built: Built, model: TextModel) -> torch.Tensor:
    with torch.no_grad():
        return model(lay_out(built, random_rows(built))) if model.layout == "packed" else padded(built, model)


def padded(built: Built, model: TextModel) -> torch.Tensor:
    return torch.cat([model(lay_out(built, [row])) for row in random_rows(built)])


def by_peft(built: Built, folder: Path, **options: Any) -> torch.Tensor:
    """Logits of peft's own wrapper around plain transformers, row by row: not every family pads."""
    plain = AutoModelForSequenceClassification.from_pretrained(built.folder, **options)
    model = peft.PeftModel.from_pretrained(plain, str(folder)).eval()
    with torch.no_grad():
        return torch.cat([model(**plain_inputs(built, [row])).logits for row in random_rows(built)])


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", EVERY)
def test_a_saved_adapter_gives_the_same_logits_here_and_in_peft(family: str, tmp_path: Path) -> None:
    built = with_adapters(family, tmp_path)
    folder = saved(built, tmp_path / "adapter")
    live = logits(built, built.model)
    assert torch.equal(logits(built, opened(folder)), live)
    close(by_peft(built, folder, config=AutoConfig.from_pretrained(folder)), live)
    (tmp_path / "merged").mkdir()
    built.model.save(tmp_path / "merged", merge=True)
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert not any(is_adapter(name) for name in whole.state_dict())
    with torch.no_grad():
        rows = [whole(**plain_inputs(built, [row])).logits for row in random_rows(built)]
    close(torch.cat(rows), live)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("options", [*OPTIONS, "all biases", "biases of adapted layers"])
def test_every_option_is_saved(options: str, family: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"options": OPTIONS.get(options, {}), "alpha": 6.0}
    if options not in OPTIONS:
        target = {"bert": "query", "gpt2": "c_attn"}[family]
        keys = {"bias": "all" if options == "all biases" else "lora_only", "targets": [target]}
    built = with_adapters(family, tmp_path, **keys)
    folder = saved(built, tmp_path / "adapter")
    live = logits(built, built.model)
    assert torch.equal(logits(built, opened(folder)), live)
    close(by_peft(built, folder, config=AutoConfig.from_pretrained(folder)), live)


def test_what_a_checkpoint_lacks_is_saved_whole(tmp_path: Path) -> None:
    """A pooler that starts new is no part of the backbone that is known by its hash."""
    tiny = build("bert", tmp_path / "backbone")
    path = tmp_path / "backbone" / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if "pooler" not in name}
    save_file(tensors, path, metadata={"format": "pt"})
    section = ModelSection(pretrained=str(tmp_path / "backbone"), lora={"r": 2, "merge": "off"})
    model = load_model(section, tiny.tokenizer, label_maps={"label": COLORS}, num_logits=3, seed=1).eval()
    built = adapted(Built("bert", tmp_path / "backbone", tiny.tokenizer, model), r=2, merge="off")
    folder = saved(built, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert set(config["modules_to_save"]) == {"classifier", "bert.pooler.dense"}
    assert config["task_type"] == "SEQ_CLS" and config["base_model_name_or_path"] == str(tmp_path / "backbone")
    live = logits(built, model)
    assert torch.equal(logits(built, opened(folder)), live)
    close(by_peft(built, folder, num_labels=3), live)


def test_tied_embeddings_and_a_classifier_with_other_labels_beneath(tmp_path: Path) -> None:
    """The backbone has a head of its own, which is not that of the adapters."""
    tiny = build("modernbert", tmp_path / "first", num_logits=3, tie_word_embeddings=True)
    tiny.model.save(tmp_path / "first")
    section = ModelSection(
        pretrained=str(tmp_path / "first"), ignore_mismatched_sizes=True, lora={"r": 2, "merge": "off"}
    )
    labels = {"label": LabelMap("multiclass", ("a", "b"))}
    model = load_model(section, tiny.tokenizer, label_maps=labels, num_logits=2, seed=1).eval()
    built = adapted(Built("modernbert", tmp_path / "first", tiny.tokenizer, model), r=2, merge="off")
    folder = saved(built, tmp_path / "adapter")
    found = load_model(
        ModelSection(pretrained=str(folder)), tiny.tokenizer, label_maps=labels, num_logits=2, seed=9, as_saved=True
    ).eval()
    assert found.files.saved is not None
    found.adapt(found.files.saved.lora, seed=0)
    assert torch.equal(logits(built, found), logits(built, model))


# --- what is wrong with a folder -------------------------------------------------------------------------------------


def _config(change: Mapping[str, Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")

    return spoil


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return spoil


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_text(text, encoding="utf-8"))


def void(_: object) -> None:
    return None


_QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"
_WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "config that is no JSON": (_written("adapter_config.json", "{"), "adapter_config.json"),
    "config that is no object": (_written("adapter_config.json", "[]"), "adapter_config.json"),
    "another method": (_config({"peft_type": "IA3"}), "adapter_config.json"),
    "options of another method": (_config({"use_qalora": True}), "adapter_config.json"),
    "a start that changed the backbone": (_config({"init_lora_weights": "pissa"}), "adapter_config.json"),
    "a rank that is none": (_config({"r": -1}), "adapter_config.json"),
    "another rank": (_config({"r": 3}), "adapter_model.safetensors"),
    "no B": (_tensors(lambda found: found.pop(f"{_QUERY}.lora_B.weight")), "adapter_model.safetensors"),
    "no head": (_tensors(lambda found: found.pop("base_model.model.classifier.bias")), "adapter_model.safetensors"),
    "a head of another size": (
        _tensors(lambda found: found.update({"base_model.model.classifier.bias": torch.zeros(7)})),
        "adapter_model.safetensors",
    ),
    "a layer that is not there": (
        _tensors(lambda found: found.update({"base_model.model.bert.none.lora_A.weight": torch.zeros(4, 32)})),
        "adapter_model.safetensors",
    ),
    "no adapters at all": (
        _tensors(lambda found: [found.pop(name) for name in list(found) if ".lora_" in name]),
        "adapter_model.safetensors",
    ),
    "weights cut short": (_written("adapter_model.safetensors", "short"), "adapter_model.safetensors"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
    "a card without a backbone": (_written("textune.json", "{}"), "textune.json"),
    "a card with half a backbone": (_written("textune.json", '{"adapters": {"backbone": {}}}'), "textune.json"),
    "whole weights beside them": (_written("model.safetensors", ""), "adapter"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("good")
    saved(with_adapters("bert", place), place / "adapter")
    return place


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_damaged_folder_is_refused(wrong: str, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    spoil, place = _WRONG[wrong]
    spoil(tmp_path / "copy" / "adapter")
    with refused(ModelError, key="model.pretrained", place=place):
        opened(tmp_path / "copy" / "adapter")


def test_a_pickle_is_not_read(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    folder = tmp_path / "copy" / "adapter"
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        opened(folder)


def test_peft_is_needed(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with refused(ModelError, key="model.pretrained"):
        opened(good / "adapter")


def test_adapters_that_transformers_injects_are_no_backbone(good: Path, tmp_path: Path) -> None:
    """A name on the hub is left to transformers, which puts adapters beside the backbone that they name."""
    shutil.copytree(good, tmp_path / "copy")
    folder = tmp_path / "copy" / "adapter"
    section = ModelSection(pretrained=str(folder))
    as_hub = replace(find_pretrained(str(folder), section, key="model.pretrained"), folder=None)
    config = read_config(as_hub)
    (folder / "config.json").unlink()
    with refused(ModelError, key="model.pretrained", value=str(folder), reason="adapters"):
        reading._read_weights(as_hub, config, CLASSIFIER, seed=1)


def test_a_folder_that_peft_wrote_is_gone_on_from(tmp_path: Path) -> None:
    """Without a card: the backbone is where peft's own file says, and its labels are in config.json."""
    tiny_backbone("bert", tmp_path / "backbone")
    names = {"id2label": dict(enumerate(COLORS.names)), "label2id": {name: i for i, name in enumerate(COLORS.names)}}
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "backbone", **names)
    theirs = peft.get_peft_model(
        plain, peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    ).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    theirs.save_pretrained(str(tmp_path / "adapter"))
    section = ModelSection(pretrained=str(tmp_path / "adapter"), tokenizer=str(tmp_path / "backbone"))
    tokenizer = load_tokenizer(section)
    load = partial(load_model, tokenizer=tokenizer, label_maps={"label": COLORS}, num_logits=3, seed=9)
    with refused(ModelError, reason="no config.json"):
        load(section)
    plain.config.save_pretrained(tmp_path / "adapter")
    built = Built("bert", tmp_path / "backbone", tokenizer, load(section).eval())
    with torch.no_grad():
        known = torch.cat([theirs(**plain_inputs(built, [row])).logits for row in random_rows(built)])
    assert built.model.files.saved is None and not any(map(is_adapter, built.hf.state_dict()))
    close(logits(built, built.model), known)
    lora = {"r": 4, "alpha": 8, "targets": ["query", "value"], "merge": "off"}
    on = load(section.model_copy(update={"lora": Lora(**lora)})).eval()
    assert on.files.saved is not None
    on.adapt(Lora(**lora), seed=1)
    close(logits(built, on), known)
    assert on.adapter_note(tmp_path) is not None
