"""Adapters put into the weights: every option that may be set, beside peft's own merge."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from kits.errors import refused
from kits.models import Built, build, lay_out, random_rows

from textune.config.adapters import Lora
from textune.errors import ConfigError
from textune.model.adapters import merged
from textune.model.content import content_hash

pytest.importorskip("peft", reason="peft is not installed")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"query|c_attn": 2}, "alpha_pattern": {"query|c_attn": 3}},
    "bias of the adapter": {"lora_bias": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "rslora and dora": {"use_rslora": True, "use_dora": True},
}


def adapted(built: Built, **keys: Any) -> Built:
    """The model with adapters that have learned something."""
    built.model.adapt(Lora(**keys), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return built


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parity("TW-17")
def test_what_is_merged_is_what_peft_merges(options: str, family: str, tmp_path: Path) -> None:
    built = adapted(build(family, tmp_path / "backbone"), r=4, alpha=6.0, options=OPTIONS[options])
    assert built.model.adapters is not None
    rows = random_rows(built)
    with torch.no_grad():
        live = built.model(lay_out(built, rows))
    ours = merged(built.model.adapters, built.hf, built.hf.state_dict())
    plain = copy.deepcopy(built.hf)
    for name in built.model.adapters.layers:
        layer = cast(Any, plain.get_submodule(name))
        layer.merge(safe_merge=True)
        plain.set_submodule(name, layer.get_base_layer())
    theirs = plain.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6)
    built.model.save(tmp_path)
    again = build(family, tmp_path / "again")
    again.hf.load_state_dict(ours)
    with torch.no_grad():
        torch.testing.assert_close(again.model(lay_out(again, rows)), live, atol=1e-5, rtol=1e-5)


def test_options_that_could_not_be_merged_are_refused(tmp_path: Path) -> None:
    no_biases = build("llama", tmp_path / "llama")
    with refused(ConfigError, key="model.lora.options.lora_bias", value=True):
        no_biases.model.adapt(Lora(options={"lora_bias": True}), seed=1)
    built = build("bert", tmp_path / "bert")
    with refused(ConfigError, key="model.lora.options.lora_bias", value=True):
        built.model.adapt(Lora(options={"lora_bias": True, "use_dora": True}), seed=1)
    with refused(ConfigError, key="model.lora.options.rank_pattern", value="quarry"):
        built.model.adapt(Lora(options={"rank_pattern": {"quarry": 2}}), seed=1)
    with refused(ConfigError, key="model.lora.options", reason="even"):
        built.model.adapt(Lora(r=3, options={"init_lora_weights": "orthogonal"}), seed=1)


def test_a_hash_knows_names_shapes_and_numbers_and_no_order() -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1), "c": torch.zeros(0)}
    known = content_hash(tensors)
    assert content_hash(dict(reversed(tensors.items()))) == known
    assert content_hash({name: tensor.clone() for name, tensor in tensors.items()}) == known
    transposed = tensors | {"a": tensors["a"].t().contiguous().t()}
    assert content_hash(transposed) == known
    for changed in (
        tensors | {"a": tensors["a"].view(3, 2)},
        tensors | {"a": tensors["a"] + 1},
        tensors | {"a": tensors["a"].half()},
        {**{name: tensors[name] for name in "bc"}, "d": tensors["a"]},
    ):
        assert content_hash(changed) != known
