"""Low-rank adapters beside the frozen linear layers of a backbone, by peft; after `freeze.py`, before `recipe.py`.

    W x  becomes  W x + (alpha / r) B A x:  A [r, in] starts random, B [out, r] starts at zero, W is not trained

Adapters are injected: the class of the Hugging Face model and the names of its modules stay. A weight `NAME.weight` is
then called `NAME.base_layer.weight`, with `NAME.lora_A.default.weight` and `NAME.lora_B.default.weight` beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.config import Lora
from textune.errors import ConfigError, ModelError
from textune.imports import import_quietly
from textune.model.hugging import FamilyModule, HuggingModel
from textune.wording import listing, nearest

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER = "default"
"""What peft calls the one adapter of a model."""
ALL_LINEAR = "all-linear"
_BASE = ".base_layer."
"""Stands in the names of what was there before an adapter was put beside it."""

_BESIDE = {
    "A": f"lora_A.{ADAPTER}.weight",
    "B": f"lora_B.{ADAPTER}.weight",
    "bias": f"lora_B.{ADAPTER}.bias",
    "magnitude": f"lora_magnitude_vector.{ADAPTER}.weight",
}
"""What may stand beside a weight."""
_OF_SECTION = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "bias": "bias", "target_modules": "targets"}
"""Keys of `LoraConfig` that are keys of `model.lora`."""
_OPTIONS = ("use_rslora", "use_dora", "init_lora_weights", "rank_pattern", "alpha_pattern", "lora_bias")
"""Keys of `LoraConfig` that may be set: the others choose layers or parameters in their own way, need data, or change
the frozen weights."""
_STARTS = (True, "gaussian", "orthogonal")
"""Ways for adapters to start that leave the frozen weights alone."""


@dataclass(frozen=True)
class Adapters:
    """What stands beside the frozen weights of a model."""

    lora: Lora
    config: LoraConfig
    layers: tuple[str, ...]
    """Names of the adapted layers."""


def require_adapters(lora: Lora) -> None:
    """Raise early what `adapt` finds wrong whatever the model: ModelError without peft, ConfigError for options."""
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            "model.lora is set, but peft is not installed.",
            hint='Run `pip install "textune[lora]"`, or leave model.lora out.',
            key="model.lora",
        )
    _config(lora, [])


def adapt(hf: HuggingModel, lora: Lora, *, whole: Collection[str], frozen: Collection[str], seed: int) -> Adapters:
    """Put adapters beside the layers that `lora` names; afterwards only they, the weights `whole` and the biases that
    `lora.bias` names are trained.

    `whole` are the names of weights that are trained as they are (the head, and what starts new), `frozen` those that
    `model.freeze` takes out: their layers get no adapter. Adapters start by `seed` alone. ConfigError where `targets`
    match no layer or one of the head, or where nothing is left to adapt.
    """
    import_quietly("peft")  # which imports bitsandbytes where it is installed
    from peft import inject_adapter_in_model

    layers = [name for name in targeted(hf, lora.targets, whole=whole) if f"{name}.weight" not in frozen]
    if not layers:
        raise ConfigError(
            "model.freeze takes every layer that model.lora would adapt.",
            hint="Leave model.freeze out: with model.lora the backbone's own weights are not trained anyway.",
            key="model.freeze",
            value=sorted(frozen)[:3],
        )
    config = _config(lora, layers)
    _require_biases(hf, lora, layers)
    config.fan_in_fan_out = all(isinstance(hf.get_submodule(name), Conv1D) for name in layers)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, cast(nn.Module, hf), ADAPTER)
    except ValueError as error:
        raise _refused(lora, error) from error
    for name, parameter in hf.named_parameters():
        if name in whole:
            parameter.requires_grad_(True)
    return Adapters(lora, config, tuple(layers))


def linears(hf: HuggingModel) -> dict[str, FamilyModule]:
    """The linear layers of a model by name, each once, whatever their weights are made of."""
    return {
        name: module
        for name, module in hf.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        # PyTorch's own attention reads the weight of such a layer without calling it.
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    }


def targeted(hf: HuggingModel, targets: Sequence[str], *, whole: Collection[str]) -> list[str]:
    """The names of the layers that `model.lora.targets` match, in the order of the model; errors as of `adapt`."""
    known = list(linears(hf))
    of_head = {name for name in known if f"{name}.weight" in whole}
    chosen: set[str] = set()
    for target in targets:
        if target == ALL_LINEAR:
            found = {name for name in known if name not in of_head}
        else:
            found = {name for name in known if _matches(name, target)}
        if not found:
            raise _no_layer(hf, target, [name for name in known if name not in of_head])
        if hit := sorted(found & of_head):
            raise ConfigError(
                f'model.lora.targets: "{target}" matches {hit[0]}, which belongs to the head: it is trained as a whole'
                " anyway.",
                hint=f'Use "{ALL_LINEAR}", or a pattern that leaves the head out, such as'
                f' "{hf.base_model_prefix}.*.{target.strip("*.") or "query"}".',
                key="model.lora.targets",
                value=target,
            )
        chosen |= found
    return [name for name in known if name in chosen]


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


def _matches(name: str, target: str) -> bool:
    if any(sign in target for sign in "*?["):
        return fnmatchcase(name, target)
    return name == target or name.endswith(f".{target}")


def _no_layer(hf: HuggingModel, target: str, names: Sequence[str]) -> ConfigError:
    """Nothing matches: the last parts of the names that are there."""
    lasts = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    if not names:
        return ConfigError(
            f"model.lora: {hf.config.model_type} has no linear layers of its own to adapt.",
            hint="Leave model.lora out.",
            key="model.lora.targets",
            value=target,
        )
    other = any(_matches(name, target) for name, _ in hf.named_modules())
    near = nearest(target.rpartition(".")[2], lasts)
    return ConfigError(
        f'model.lora.targets: "{target}" matches no linear layer of this {hf.config.model_type}'
        + (", but a part of another kind." if other else "."),
        hint=(f'Did you mean "{near}"? ' if near else "") + f"Its linear layers are called {listing(lasts)}.",
        key="model.lora.targets",
        value=target,
    )


def _config(lora: Lora, layers: Sequence[str]) -> LoraConfig:
    """peft's own configuration; ConfigError for `model.lora.options`."""
    import_quietly("peft")  # which imports bitsandbytes where it is installed
    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    for name, value in lora.options.items():
        if name in _OF_SECTION:
            raise _option(name, value, "is a key of its own", f"Set model.lora.{_OF_SECTION[name]}.")
        if name not in known:
            near = nearest(name, _OPTIONS)
            hint = f"Did you mean {near}?" if near else f"Keys that may be set: {', '.join(_OPTIONS)}."
            raise _option(name, value, "is not a key of peft's LoraConfig", hint)
        if name not in _OPTIONS:
            hint = f"Leave it out. Keys that may be set: {', '.join(_OPTIONS)}."
            raise _option(name, value, "is not supported", hint)
    if lora.options.get("use_dora") and lora.options.get("lora_bias"):
        raise _option("lora_bias", True, "cannot be put into the weights together with use_dora", "Leave one out.")
    start = lora.options.get("init_lora_weights", True)
    if start not in _STARTS:
        hint = (
            f"Use {', '.join(repr(one).lower() if one is True else chr(34) + str(one) + chr(34) for one in _STARTS)}."
        )
        raise _option("init_lora_weights", start, "would change the frozen weights, or start away from them", hint)
    try:
        return LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a number; peft divides it by r
            lora_dropout=lora.dropout,
            bias=lora.bias,
            target_modules=list(layers),
            **lora.options,
        )
    except (ValueError, TypeError) as error:
        raise _refused(lora, error) from error


def _refused(lora: Lora, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.lora.options: peft refuses them: {str(error).rstrip('.')}.",
        hint="See peft's LoraConfig for what a key may be.",
        key="model.lora.options",
        value=dict(lora.options),
        reason=str(error),
    )


def _require_biases(hf: HuggingModel, lora: Lora, layers: Sequence[str]) -> None:
    """ConfigError where an adapter would have a bias that no bias of its layer could take up."""
    if not lora.options.get("lora_bias"):
        return
    for name in layers:
        layer: FamilyModule = hf.get_submodule(name)
        if layer.bias is None:
            raise _option(
                "lora_bias",
                True,
                f"needs layers with a bias, and {name} has none",
                "Leave it out, or set model.lora.targets to layers that have one.",
            )


def _option(name: str, value: Any, why: str, hint: str) -> ConfigError:
    return ConfigError(f"model.lora.options.{name} {why}.", hint=hint, key=f"model.lora.options.{name}", value=value)
