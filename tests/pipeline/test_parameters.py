"""`textune info --parameters`: what it counts from a configuration is what a run trains."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.errors import refused
from kits.further import FURTHER
from kits.gptq import write_gptq
from kits.languages import build_language, plain_language, tiny_language_model
from kits.models import ALL, COLORS, build, known
from kits.runs import Listener
from safetensors.torch import load_file

import textune
from textune.config.adapters import Lora
from textune.config.load import load_config
from textune.config.schema import ModelSection
from textune.errors import ConfigError, ModelError, RunError
from textune.model.loading import load_model
from textune.model.lowbits import quantize_beneath
from textune.model.outline import outline
from textune.model.tokenizer import load_tokenizer
from textune.pipeline.build import build_parts
from textune.pipeline.parameters import as_tables, parameters
from textune.run.facts import run_facts

LORA = ["model.lora.r=4", "model.lora.targets=['query', '*.layer.1.*']"]


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", [*ALL, *known(*FURTHER)])
def test_an_outline_has_the_names_and_shapes_of_the_model_that_is_trained(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path, section={"compile": "off"})
    drawn = outline(ModelSection(pretrained=str(tmp_path)), num_outputs=3, lora=Lora(r=3))
    built.model.adapt(Lora(r=3), seed=1)
    built.model.freeze()

    def shapes(hf: Any) -> dict[str, Any]:
        return {name: (p.shape, p.requires_grad) for name, p in hf.named_parameters()}

    assert shapes(drawn.model.hf) == shapes(built.hf)
    assert built.model.adapters is not None and drawn.adaptable == built.model.adapters.layers


@pytest.mark.parametrize("overrides", [[], LORA, ["model.freeze=embeddings"]], ids=["full", "lora", "frozen"])
@pytest.mark.parity("TW-25")
def test_the_counts_are_those_of_the_run(home: Path, overrides: list[str]) -> None:
    words = [*overrides, "train.compact_vocabulary=off"]
    found = parameters(home / "config.toml", words)
    parts = build_parts(load_config(home / "config.toml", words).experiment, tracker=Listener(), audit=False)
    facts = run_facts(parts)
    whole, shown = found.whole, {part.name: part for part in found.parts}
    outputs = parts.task.num_outputs
    missing = (2 - outputs) * (parts.model.hf.config.hidden_size + 1)  # of a head that is counted with two outputs
    assert (whole.total - missing, whole.trained - missing) == (facts.parameters, facts.parameters_trained)
    assert list(shown) == ["embeddings", "layer 0", "layer 1", "pooler", "head"]
    assert whole.weight_bytes == 4 * (whole.total + whole.adapters)
    assert whole.optimizer_bytes == 8 * whole.trained
    assert (whole.adapters > 0) == found.adapted == bool(overrides == LORA)
    if found.adapted:
        assert shown["layer 0"].adapters == 4 * 2 * 32 and shown["layer 0"].trained == shown["layer 0"].adapters
        assert shown["layer 1"].adapters > shown["layer 0"].adapters and shown["embeddings"].trained == 0
        assert {layer.name for layer in found.linears if layer.adapted} == set(parts.model.adapters.layers)  # type: ignore[union-attr]


@pytest.mark.every_day(5)
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("quantize", ["{ bits = 8 }", "{ bits = 4 }", "{ bits = 4, double = false }"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_weights_of_few_bits_take_what_is_said(family: str, quantize: str, tmp_path: Path) -> None:
    built = build(family, tmp_path, section={"compile": "off"})
    drawn = parameters(tmp_path, ["model.lora.r=4", f"model.quantize={quantize}"])
    section = load_config({}, ["model.lora.r=4", f"model.quantize={quantize}"]).experiment.model
    plain = parameters(tmp_path, ["model.lora.r=4"])
    assert isinstance(section, ModelSection) and section.quantize is not None
    low = quantize_beneath(built.hf, section.quantize, whole=built.model._whole, dtype=torch.float32)
    assert plain.whole.weight_bytes - drawn.whole.weight_bytes == 4 * low.num_weights - low.num_bytes
    assert (drawn.whole.total, drawn.whole.trained) == (plain.whole.total, plain.whole.trained)


def test_weights_of_few_bits_in_the_files_take_what_is_said(tmp_path: Path) -> None:
    folder = write_gptq(tiny_backbone("gpt2", tmp_path / "plain"), tmp_path / "packed")
    section = ModelSection(pretrained=str(folder), compile="off", lora=Lora(r=4))
    model = load_model(section, load_tokenizer(section), label_maps={"label": COLORS}, num_logits=3, seed=1)
    model.keep_few_bits(torch.float32)
    drawn, plain = parameters(folder, ["model.lora.r=4"]), parameters(tmp_path / "plain", ["model.lora.r=4"])
    low = model.low_bits
    assert low is not None
    assert plain.whole.weight_bytes - drawn.whole.weight_bytes == 4 * low.num_weights - low.num_bytes
    assert (drawn.whole.total, drawn.whole.trained) == (plain.whole.total, plain.whole.trained)


@pytest.mark.parity("TW-25")
def test_the_layers_are_listed_as_targets_may_name_them(home: Path) -> None:
    found = parameters(home / "config.toml")
    assert {layer.name for layer in found.linears if not layer.adapted} == {"classifier"}
    _, table = as_tables(found)
    assert table[0][-1] == '"all-linear"'
    rows = {name: (number, inputs, outputs, adapted) for name, number, inputs, outputs, adapted in table[1:]}
    assert rows["bert.encoder.layer.?.intermediate.dense"] == ("2", "32", "64", "yes")
    assert rows["classifier"][-1] == "no"
    for pattern in rows.keys() - {"classifier"}:
        again = parameters(home / "config.toml", [f"model.lora.targets={pattern}"])
        number = sum(layer.adapted for layer in again.linears)
        assert str(number) == rows[pattern][0], "a line of the table is a target"


def test_gpt2_keeps_its_weights_transposed(tmp_path: Path) -> None:
    tiny_backbone("gpt2", tmp_path)
    found = parameters(tmp_path)
    width = next(layer for layer in found.linears if layer.name.endswith("c_fc"))
    assert (width.inputs, width.outputs) == (32, 128)
    assert {part.name for part in found.parts} == {"embeddings", "layer 0", "layer 1", "after the layers", "head"}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_two_stacks_of_layers_are_told_apart(family: str, tmp_path: Path) -> None:
    tiny_backbone(family, tmp_path)
    names = {part.name for part in parameters(tmp_path).parts}
    assert {"encoder layer 0", "decoder layer 0", "embeddings", "head"} <= names


def test_a_run_a_checkpoint_and_a_model_folder(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    textune.train(home / "config.toml", run=run, overrides=["train.duration=1 steps", *LORA])
    (checkpoint,) = (run / "checkpoints").iterdir()
    of_run, of_checkpoint = parameters(run), parameters(checkpoint)
    assert of_run == of_checkpoint and of_run.adapted and of_run.notes == ()
    saved = sum(tensor.numel() for tensor in load_file(run / "best" / "model.safetensors").values())
    assert of_run.whole.total == saved
    of_folder = parameters(run / "best")
    assert of_folder.whole.total == saved and not of_folder.adapted
    assert any("head" in note for note in parameters(home / "config.toml").notes)


@pytest.mark.parity("TW-25")
def test_the_command_prints_tables_and_json(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(capsys, monkeypatch, home)
    answer = run("info", "config.toml", "--parameters", "model.lora.r=4")
    lines = answer.out.splitlines()
    assert "backbone (bert): " in lines[0]
    assert any(line.startswith("layer 0") for line in lines)
    assert any(line.startswith("bert.encoder.layer.?.output.dense") and line.endswith("yes") for line in lines)
    assert "note: The head has an output for each label" in answer.err
    found = json.loads(run("info", "config.toml", "--parameters", "--json", *LORA).out)
    assert found["whole"]["trained"] == sum(part["trained"] for part in found["parts"])
    assert {"name", "inputs", "outputs", "adapted"} == found["linears"][0].keys()
    assert run("info", "config.toml", "model.lora.r=4").code == 2


@pytest.mark.parametrize(
    ("overrides", "error", "key"),
    [
        (["model.pretrained=nowhere/at/all"], ModelError, "model.pretrained"),
        (["model.pretrained="], ConfigError, ""),
        (["model.lora.targets=qery"], ConfigError, "model.lora.targets"),
        (["model.lora={}", "model.freeze=backbone"], ConfigError, "model.freeze"),
        (["model.freeze=qery"], ConfigError, "model.freeze"),
        (["model.config.no_such_key=1"], ConfigError, "model.config.no_such_key"),
        (["model.kind=python", "model.object=a.b:C"], ConfigError, "model.kind"),
        (["train.lr=1"], ConfigError, "train.lr"),
    ],
)
def test_wrong_input(home: Path, overrides: list[str], error: Any, key: str) -> None:
    with refused(error, key=key):
        parameters(home / "config.toml", overrides)


def test_a_folder_that_is_nothing(tmp_path: Path) -> None:
    with refused(RunError, place=str(tmp_path)):
        parameters(tmp_path)
    with refused(ConfigError):
        parameters(tmp_path / "no.toml")


@pytest.mark.parametrize(
    "family, keys", [("gpt2", {}), ("llama", {"tie_word_embeddings": False}), ("gemma2", {}), ("minicpm3", {})]
)
def test_an_outline_of_a_language_model_is_the_one_that_is_trained(
    family: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    built = build_language(family, tmp_path, section={"compile": "off"}, **keys)
    drawn = outline(ModelSection(pretrained=str(tmp_path)), num_outputs=None, lora=Lora(r=3), language=True)
    built.model.adapt(Lora(r=3), seed=1)
    built.model.freeze()
    ours, theirs = (
        {name: (p.shape, p.requires_grad) for name, p in hf.named_parameters()} for hf in (drawn.model.hf, built.hf)
    )
    assert ours == theirs
    assert built.model.adapters is not None and drawn.adaptable == built.model.adapters.layers


def test_a_language_model_is_counted_without_a_head(tmp_path: Path) -> None:
    tiny_language_model("gpt2", tmp_path / "model")
    (tmp_path / "config.toml").write_text(
        f'task.kind = "conditional_lm"\nmodel.pretrained = "{tmp_path / "model"}"\n'
        'data.train.files = "documents.jsonl"\ndata.columns.text = "text"\ndata.validation.kind = "none"\n'
    )
    found = parameters(tmp_path / "config.toml")
    plain = plain_language(tmp_path / "model")
    assert found.whole.total == found.whole.trained == sum(p.numel() for p in plain.parameters())
    assert found.notes == () and "head" not in {part.name for part in found.parts}
    tiny_backbone("bert", tmp_path / "encoder")
    with refused(ModelError, key="model.pretrained", reason="encoder"):
        parameters(tmp_path / "config.toml", [f"model.pretrained={tmp_path / 'encoder'}"])
