"""Adapters put beside frozen layers: which layers, what is then trained, how they start, and what is refused."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.adapters import wrapped_by_peft
from kits.errors import refused
from kits.models import Built, build, lay_out, random_rows
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.config.adapters import Lora
from textune.config.load import load_config, require_runnable
from textune.config.updaterules import AdamW
from textune.errors import ConfigError, ModelError
from textune.model.adapters import is_adapter, plain_name, require_adapters
from textune.model.targets import linears, targeted
from textune.training.updates import build_optimizer

LAYER = "bert.encoder.layer.{}."
OF_BERT = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""The linear layers of a layer of BERT; the tiny one has two layers."""


def adapted(built: Built, seed: int = 1, **keys: Any) -> Built:
    """The model with adapters, as `recipe.py` prepares it for training."""
    built.model.adapt(Lora(**keys), seed=seed)
    built.model.freeze()
    return built


def layers_of(built: Built) -> tuple[str, ...]:
    assert built.model.adapters is not None
    return built.model.adapters.layers


def trained(built: Built) -> set[str]:
    return {name for name, parameter in built.hf.named_parameters() if parameter.requires_grad}


# --- which layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all-linear", {LAYER.format(n) + name for n in (0, 1) for name in OF_BERT} | {"bert.pooler.dense"}),
        ("query", {LAYER.format(n) + "attention.self.query" for n in (0, 1)}),
        ("attention.output.dense", {LAYER.format(n) + "attention.output.dense" for n in (0, 1)}),
        (
            ["query", "self.value"],
            {f"{LAYER.format(n)}attention.self.{x}" for n in (0, 1) for x in ("query", "value")},
        ),
        ("bert.encoder.layer.1.attention.self.key", {LAYER.format(1) + "attention.self.key"}),
        ("*.layer.1.*", {LAYER.format(1) + name for name in OF_BERT}),
        ("*.layer.[!1].output.den?e", {LAYER.format(0) + "output.dense"}),
    ],
)
def test_targets_are_all_linear_layers_or_ends_of_names_or_patterns(
    targets: Any, expected: set[str], tmp_path: Path
) -> None:
    built = build("bert", tmp_path)
    before = {name: type(module) for name, module in built.hf.named_modules()}
    kind = type(built.hf)
    adapted(built, targets=targets)
    assert set(layers_of(built)) == expected
    assert type(built.hf) is kind
    changed = {
        name for name, module in built.hf.named_modules() if name in before and type(module) is not before[name]
    }
    assert changed == expected, "names and classes of all others stay"


@pytest.mark.parametrize(
    ("family", "number", "kinds"),
    [
        ("gpt2", 8, {Conv1D}),
        ("albert", 8, {nn.Linear}),  # whose layers share theirs
        ("t5", 32, {nn.Linear}),
        ("mixtral", 8, {nn.Linear}),  # whose experts are tensors without layers
        ("jetmoe", 6, {nn.Linear}),
    ],
)
def test_every_linear_layer_of_a_backbone_is_adapted_once(
    family: str, number: int, kinds: set[type], tmp_path: Path
) -> None:
    built = build(family, tmp_path)
    known = linears(built.hf)
    adapted(built)
    assert len(layers_of(built)) == number
    assert {type(known[name]) for name in layers_of(built)} == kinds
    in_state = {name for name in built.hf.state_dict() if name.endswith("lora_A.default.weight")}
    assert len(in_state) == number


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3", "hunyuan_v1_moe"])
def test_layers_that_peft_takes_for_experts_get_no_adapter(family: str, tmp_path: Path) -> None:
    """Asked for such a name, peft would adapt the tensors of the experts."""
    built = build(family, tmp_path)
    known = linears(built.hf)
    misread = {name for name in known if name.endswith((".gate_proj", ".up_proj", ".down_proj"))}
    assert misread
    with refused(ConfigError, key="model.lora.targets", value="down_proj"):
        targeted(built.hf, ["o_proj", "down_proj"], whole=built.model._whole)
    adapted(built)
    assert set(layers_of(built)) == {name for name in known if name not in misread | {"score"}}
    assert {name for name in trained(built) if "expert" in name} == set()


# --- what is trained -------------------------------------------------------------------------------------------------


def test_adapters_and_the_head_are_trained_and_nothing_else(tmp_path: Path) -> None:
    built = adapted(build("bert", tmp_path), targets="query", r=3)
    ends = ("lora_A.default.weight", "lora_B.default.weight")
    assert trained(built) == {"classifier.weight", "classifier.bias"} | {
        f"{LAYER.format(n)}attention.self.query.{end}" for n in (0, 1) for end in ends
    }
    shapes = {tuple(p.shape) for name, p in built.hf.named_parameters() if is_adapter(name)}
    width = built.hf.config.hidden_size
    assert shapes == {(3, width), (width, 3)}


def test_what_starts_new_is_trained_as_a_whole(tmp_path: Path) -> None:
    """A pooler that the checkpoint lacks is no backbone's: a low-rank update of random numbers would be none."""
    built = adapted(build("gte", tmp_path))
    assert {"gte.pooler.dense.weight", "gte.pooler.dense.bias"} <= trained(built)
    assert "gte.pooler.dense" not in layers_of(built)


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_biases_are_trained_as_peft_trains_them(family: str, bias: str, tmp_path: Path) -> None:
    built = build(family, tmp_path / "backbone")
    wrapped_by_peft(built, Lora(bias=bias, targets="*.0.*"), tmp_path / "plain")  # compares them
    assert any("bias" in plain_name(name) for name in trained(built) - built.model._whole) == (bias != "none")


def test_a_frozen_layer_gets_no_adapter_and_a_frozen_head_is_not_trained(tmp_path: Path) -> None:
    section = {"freeze": ["*.layer.0.*", "classifier.bias", "embeddings"]}
    built = adapted(build("bert", tmp_path, section=section), bias="all")
    assert {name.split(".")[3] for name in layers_of(built) if "layer" in name} == {"1"}
    assert "classifier.weight" in trained(built) and "classifier.bias" not in trained(built)
    assert not [name for name in trained(built) if ".layer.0." in name or "embeddings" in name]
    assert "bert.encoder.layer.1.attention.self.query.base_layer.bias" in trained(built)


def test_rates_by_layer_and_of_the_head_are_those_of_the_layers_that_are_adapted(tmp_path: Path) -> None:
    built = adapted(build("bert", tmp_path))
    optimizer = build_optimizer(built.model, AdamW(lr=1e-3, layer_decay=0.5, head_lr=1e-2))
    names = {id(parameter): name for name, parameter in built.hf.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == trained(built)
    for name, rate in rates.items():
        expected = 1e-3
        if name.startswith("classifier."):
            expected = 1e-2
        elif ".layer." in name:
            expected = {"0": 0.25e-3, "1": 0.5e-3}[name.split(".")[3]]
        assert rate == pytest.approx(expected), name


# --- how they start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [True, "gaussian", "orthogonal"])
def test_a_model_starts_as_the_pretrained_one_and_by_the_seed_alone(tmp_path: Path, start: Any) -> None:
    def numbers(seed: int, **keys: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        built = build("bert", tmp_path / "bert", **keys)
        rows = random_rows(built)
        with torch.no_grad():
            before = built.model(lay_out(built, rows))
            state = torch.get_rng_state()
            adapted(built, seed, r=4, options={"init_lora_weights": start})
            assert torch.equal(torch.get_rng_state(), state), "nothing else of the run depends on it"
            after = built.model(lay_out(built, rows))
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
        return {name: t for name, t in built.hf.state_dict().items() if is_adapter(name)}, after

    first, _ = numbers(5)
    torch.manual_seed(99)
    again, _ = numbers(5)
    other, _ = numbers(6)
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    differ = {name for name, tensor in first.items() if not torch.equal(other[name], tensor)}
    assert differ >= {name for name in first if ".lora_A." in name}
    if start is True:
        assert differ == {name for name in first if ".lora_A." in name}, "B starts at zero"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "targets", "value", "said"),
    [
        ("bert", "qery", "qery", ['Did you mean "query"?', "query, key, value, dense"]),
        ("bert", ["query", "*.layer.7.*"], "*.layer.7.*", ["query, key, value, dense"]),
        ("bert", "word_embeddings", "word_embeddings", ["a part of another kind"]),
        ("mixtral", "experts", "experts", ["a part of another kind", "q_proj"]),
        ("mixtral", "gate_up_proj", "gate_up_proj", ["a part of another kind"]),
        ("gpt2", "query", "query", ["c_attn"]),
        ("bert", "classifier", "classifier", ["classifier", "all-linear"]),
        (
            "bert",
            "*",
            "*",
            ["classifier", "all-linear", 'or "bert.*".'],
        ),
        ("roberta", "dense", "dense", ["classifier.dense", '"roberta.encoder.layer.*dense"']),
    ],
)
def test_targets_that_match_nothing_or_the_head(
    family: str, targets: Any, value: str, said: list[str], tmp_path: Path
) -> None:
    built = build(family, tmp_path)
    with pytest.raises(ConfigError) as caught:
        adapted(built, targets=targets)
    assert (caught.value.key, caught.value.value) == ("model.lora.targets", value)
    assert all(words in str(caught.value) for words in said), caught.value
    assert not any(is_adapter(name) for name, _ in built.hf.named_parameters())


def test_what_a_refusal_proposes_instead_works(tmp_path: Path) -> None:
    built = build("roberta", tmp_path)
    found = targeted(built.hf, ["roberta.encoder.layer.*dense"], whole=built.model._whole)
    assert found and not set(found) & {"classifier.dense"}
    assert len(found) == sum(name.endswith(".dense") for name in linears(built.hf)) - 1


def test_freezing_everything_that_would_be_adapted(tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"freeze": ["*.layer.*"]})
    with refused(ConfigError, key="model.freeze"):
        adapted(built, targets=["query", "value"])


def test_a_model_without_linear_layers(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    every = {f"{name}.weight" for name in linears(built.hf)}
    with refused(ConfigError, key="model.lora.targets", value="all-linear"):
        targeted(built.hf, ["all-linear"], whole=every)


def test_a_model_that_does_not_tell_its_head_from_its_backbone(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    built.model._whole = frozenset()
    with refused(ConfigError, key="model.lora"):
        adapted(built)


def test_a_rank_that_no_layer_has(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    width = built.hf.config.hidden_size
    with refused(ConfigError, key="model.lora.r", value=width + 1):
        adapted(built, r=width + 1, targets="query")
    adapted(built, r=width, targets="query")


@pytest.mark.parametrize(("family", "bias"), [("llama", "all"), ("llama", "lora_only"), ("t5", "all")])
def test_biases_that_are_not_there(family: str, bias: str, tmp_path: Path) -> None:
    with refused(ConfigError, key="model.lora.bias", value=bias):
        adapted(build(family, tmp_path), bias=bias)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"r": 4}, "r"),
        ({"lora_alpha": 4}, "lora_alpha"),
        ({"target_modules": ["query"]}, "target_modules"),
        ({"use_rslorra": True}, "use_rslorra"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save"),
        ({"layers_to_transform": [0]}, "layers_to_transform"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"use_dora": 1}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": False}, "init_lora_weights"),
        ({"rank_pattern": {"query": 0}}, "rank_pattern"),
        ({"rank_pattern": {"query": 2.5}}, "rank_pattern"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern"),
        ({"rank_pattern": 4}, "rank_pattern"),
        ({"alpha_pattern": {"query": -1}}, "alpha_pattern"),
        ({"alpha_pattern": {"query": math.inf}}, "alpha_pattern"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], key: str) -> None:
    with refused(ConfigError, key=f"model.lora.options.{key}", value=options[key]):
        require_adapters(Lora(options=options))


@pytest.mark.parametrize("option", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_of_an_option_that_matches_no_layer(option: str, tmp_path: Path) -> None:
    with refused(ConfigError, key=f"model.lora.options.{option}", value="qery"):
        adapted(build("bert", tmp_path), options={option: {"query": 2, "qery": 4}})


def test_options_that_can_be(tmp_path: Path) -> None:
    options = {"use_rslora": True, "rank_pattern": {"layer.0.*query": 2}, "alpha_pattern": {"key": 32}}
    built = adapted(build("bert", tmp_path), r=4, alpha=8, options=options)
    for name in layers_of(built):
        layer: Any = built.hf.get_submodule(name)
        rank = 2 if name == LAYER.format(0) + "attention.self.query" else 4
        assert layer.lora_A["default"].weight.shape[0] == rank
        assert layer.scaling["default"] == pytest.approx((32 if name.endswith("key") else 8) / rank**0.5)


def test_a_missing_peft_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        require_adapters(Lora())
    assert caught.value.key == "model.lora" and 'pip install "textune[lora]"' in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["model.lora.r=0"], "model.lora.r", "0"),
        (["model.lora.r=-1"], "model.lora.r", "-1"),
        (["model.lora.alpha=0"], "model.lora.alpha", "0"),
        (["model.lora.alpha=1e300"], "model.lora.alpha", "1e300"),
        (["model.lora.dropout=1"], "model.lora.dropout", "1"),
        (["model.lora.bias=some"], "model.lora.bias", "some"),
        (["model.lora.targets=[]"], "model.lora.targets", []),
        (["model.lora.rank=4"], "model.lora.rank", None),
        (["model.lora={}", "model.freeze=backbone"], "model.freeze", ["backbone"]),
        (["model.lora={}", "model.freeze=*.0.*", "model.unfreeze=*query*"], "model.unfreeze", ["*query*"]),
        (["model.kind=python", "model.object=a.b:C", "model.tokenizer=t", "model.lora.r=4"], "model.lora", None),
    ],
)
def test_configurations_that_contradict_themselves(overrides: list[str], key: str, value: Any) -> None:
    with refused(ConfigError, key=key, value=value):
        require_runnable(load_config("preset:tiny", overrides).experiment)
