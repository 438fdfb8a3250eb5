"""Low-rank adapters beside the frozen linear layers of a backbone, by peft; after `freeze.py`, before `recipe.py`.

    W x  becomes  W x + (alpha / r) B A x:  A [r, in] starts random, B [out, r] starts at zero, W is not trained

Adapters are injected: the class of the Hugging Face model and the names of its modules stay. A weight `NAME.weight` is
then called `NAME.base_layer.weight`, with `NAME.lora_A.default.weight` and `NAME.lora_B.default.weight` beside it.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.config import Lora
from textune.errors import ConfigError, ModelError
from textune.imports import import_quietly
from textune.model.adapteroptions import lora_config, refused_by_peft, require_used
from textune.model.hugging import FamilyModule, HuggingModel
from textune.model.targets import output_layer, targeted

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER = "default"
"""What peft calls the one adapter of a model."""
_BASE = ".base_layer."
"""Stands in the names of what was there before an adapter was put beside it."""

_BESIDE = {
    "A": f"lora_A.{ADAPTER}.weight",
    "B": f"lora_B.{ADAPTER}.weight",
    "bias": f"lora_B.{ADAPTER}.bias",
    "magnitude": f"lora_magnitude_vector.{ADAPTER}.weight",
}
"""What may stand beside a weight."""


@dataclass(frozen=True)
class Adapters:
    """What stands beside the frozen weights of a model."""

    lora: Lora
    config: LoraConfig
    layers: tuple[str, ...]
    """Names of the adapted layers."""


def require_adapters(lora: Lora) -> None:
    """Raise early what `adapt` finds wrong whatever the model: ModelError without peft, ConfigError for options."""
    require_peft("model.lora", "model.lora is set", hint=", or leave model.lora out")
    lora_config(lora, [])


def require_peft(key: str, why: str, *, hint: str = "") -> None:
    """ModelError where peft is not installed: `why` the setting `key` needs it; `hint` ends the advice."""
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"{why}, but peft is not installed.", hint=f'Run `pip install "textune[lora]"`{hint}.', key=key
        )


def adapt(hf: HuggingModel, lora: Lora, *, whole: Collection[str], frozen: Collection[str], seed: int) -> Adapters:
    """Put adapters beside the layers that `lora` names; afterwards only they, the weights `whole` and the biases that
    `lora.bias` names are trained.

    `whole` are the names of weights that are trained as they are (the head of a classifier, and what starts new),
    `frozen` those that `model.freeze` takes out: their layers get no adapter. Adapters start by `seed` alone.
    ConfigError where `targets` match no layer or one of the head, or where nothing is left to adapt.
    """
    if not whole and output_layer(hf) is None:
        raise ConfigError(
            f"model.lora: {type(hf).__name__} does not tell its head from its backbone, and would not train it.",
            hint="Leave model.lora out.",
            key="model.lora",
        )
    layers = chosen_layers(hf, lora, whole=whole, frozen=frozen)
    if not layers:
        raise ConfigError(
            "model.freeze takes every layer that model.lora would adapt.",
            hint="Leave model.freeze out: with model.lora the backbone's own weights are not trained anyway.",
            key="model.freeze",
            value=sorted(frozen)[:3],
        )
    config = lora_config(lora, layers)
    require_used(hf, lora, layers, whole=whole)
    return inject(hf, lora, config, layers, whole=whole, seed=seed)


def chosen_layers(hf: HuggingModel, lora: Lora, *, whole: Collection[str], frozen: Collection[str]) -> tuple[str, ...]:
    """The names of the layers that get an adapter; arguments and errors as of `adapt`."""
    return tuple(name for name in targeted(hf, lora.targets, whole=whole) if f"{name}.weight" not in frozen)


def inject(
    hf: HuggingModel,
    lora: Lora,
    config: LoraConfig,
    layers: Sequence[str],
    *,
    whole: Collection[str],
    seed: int,
) -> Adapters:
    """Put adapters beside `layers`, as `config` says; afterwards only they and what `adapt` names are trained.
    ConfigError where peft refuses."""
    import_quietly("peft")  # which imports bitsandbytes where it is installed
    from peft import inject_adapter_in_model

    config = replace(
        config,
        target_modules=list(layers),
        modules_to_save=None,
        inference_mode=False,
        # Those of other tools, which have chosen the layers already.
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
    )
    config.fan_in_fan_out = all(isinstance(hf.get_submodule(name), Conv1D) for name in layers)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # It shortens the names of the layers in what it is given.
            inject_adapter_in_model(copy.deepcopy(config), cast(nn.Module, hf), ADAPTER)
    except ValueError as error:
        raise refused_by_peft(lora, error) from error
    adapted = {name for name, module in hf.named_modules() if hasattr(module, "lora_A")}
    assert adapted == set(layers), f"peft adapted {sorted(adapted ^ set(layers))}"
    for name, parameter in hf.named_parameters():
        if name in whole:
            parameter.requires_grad_(True)
    return Adapters(lora, config, tuple(layers))


def is_adapter(name: str) -> bool:
    """Whether a weight of that name was put beside another."""
    return ".lora_" in name


def is_adapted(name: str) -> bool:
    """Whether an adapter stands beside the weight of that name."""
    return _BASE in name


def plain_name(name: str) -> str:
    """What a weight was called before adapters were put beside it."""
    return name.replace(_BASE, ".")


def merged(adapters: Adapters, hf: HuggingModel, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of `hf` without adapters: what they change is put into the weights, which have their plain names
    again."""
    found = {plain_name(name): tensor for name, tensor in state.items() if not is_adapter(name)}
    for name in adapters.layers:
        layer: FamilyModule = hf.get_submodule(name)
        beside = {key: state[f"{name}.{of}"].detach() for key, of in _BESIDE.items() if f"{name}.{of}" in state}
        scale = layer.scaling[ADAPTER]
        update = beside["B"] @ beside["A"]
        update = update.t() if layer.fan_in_fan_out else update
        weight = torch.add(found[f"{name}.weight"].detach(), update, alpha=scale)
        if "magnitude" in beside:  # of each output (DoRA)
            inputs = 0 if layer.fan_in_fan_out else 1
            weight = weight * (beside["magnitude"] / torch.linalg.vector_norm(weight, dim=inputs)).unsqueeze(inputs)
        found[f"{name}.weight"] = weight
        if "bias" in beside:
            found[f"{name}.bias"] = torch.add(found[f"{name}.bias"].detach(), beside["bias"], alpha=scale)
    return found
