"""peft's own configuration of adapters, from `model.lora`; for `adapters.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from textune.config import Lora
from textune.errors import ConfigError
from textune.imports import import_quietly
from textune.model.hugging import FamilyModule, HuggingModel
from textune.model.targets import shape_of
from textune.wording import nearest

if TYPE_CHECKING:
    from peft import LoraConfig

_OF_SECTION = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "bias": "bias", "target_modules": "targets"}
"""Keys of `LoraConfig` that are keys of `model.lora`."""


class _Option(NamedTuple):
    """A key of `LoraConfig` that may be set."""

    fits: Callable[[Any], bool]
    expected: str


def _by_pattern(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values())) and all(map(_is_regex, value))


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6  # as model.lora.alpha


OPTIONS = {
    "use_rslora": _Option(_is_flag, "true or false"),
    "use_dora": _Option(_is_flag, "true or false"),
    # The other ways to start change the frozen weights, or start away from them.
    "init_lora_weights": _Option(
        lambda value: value is True or value in ("gaussian", "orthogonal"), 'true, "gaussian" or "orthogonal"'
    ),
    "rank_pattern": _Option(
        _by_pattern(_is_rank), 'a rank for each regular expression, such as { "layer.0.*query" = 4 }'
    ),
    "alpha_pattern": _Option(
        _by_pattern(_is_scale),
        'a number above 0 and at most 1e6 for each regular expression, such as { "layer.0.*query" = 8 }',
    ),
    "lora_bias": _Option(_is_flag, "true or false"),
}
"""Keys of `LoraConfig` that may be set: the others choose layers or parameters in their own way, need data, or change
the frozen weights."""


def lora_config(lora: Lora, layers: Sequence[str]) -> LoraConfig:
    """peft's own configuration for layers of these names; ConfigError for `model.lora.options`."""
    import_quietly("peft")
    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    for name, value in lora.options.items():
        if name in _OF_SECTION:
            raise _wrong(name, value, "is a key of its own", f"Set model.lora.{_OF_SECTION[name]}.")
        if name not in known:
            near = nearest(name, OPTIONS)
            hint = f"Did you mean {near}?" if near else f"Keys that may be set: {', '.join(OPTIONS)}."
            raise _wrong(name, value, "is not a key of peft's LoraConfig", hint)
        if name not in OPTIONS:
            hint = f"Leave it out. Keys that may be set: {', '.join(OPTIONS)}."
            raise _wrong(name, value, "is not supported", hint)
        if not OPTIONS[name].fits(value):
            raise _wrong(name, value, f"must be {OPTIONS[name].expected}", "Correct it, or leave it out.")
    if lora.options.get("use_dora") and lora.options.get("lora_bias"):
        raise _wrong("lora_bias", True, "cannot be put into the weights together with use_dora", "Leave one out.")
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
        raise refused_by_peft(lora, error) from error


def require_used(hf: HuggingModel, lora: Lora, layers: Sequence[str], *, whole: Collection[str]) -> None:
    """ConfigError where an option or a bias of `model.lora` has nothing to act on, in these layers or in the
    backbone, which has none of the weights `whole`, or where the rank is higher than that of any layer."""
    _require_rank(hf, lora, layers)
    for option in ("rank_pattern", "alpha_pattern"):
        for pattern in lora.options.get(option, {}):
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in layers):  # as peft reads it
                hint = f"It must match the end of a name, such as {layers[0]}."
                raise _wrong(option, pattern, f'has "{pattern}", which matches no adapted layer', hint)
    for name in layers if lora.options.get("lora_bias") else ():
        layer: FamilyModule = hf.get_submodule(name)
        if layer.bias is None:
            hint = "Leave it out, or set model.lora.targets to layers that have one."
            raise _wrong("lora_bias", True, f"needs layers with a bias, and {name} has none", hint)
    biased = [name for name, _ in hf.named_parameters() if name.endswith(".bias") and name not in whole]
    if lora.bias == "lora_only":
        biased = [name for name in layers if getattr(hf.get_submodule(name), "bias", None) is not None]
    if lora.bias != "none" and not biased:
        what = "no adapted layer" if lora.bias == "lora_only" else f"{hf.config.model_type}"
        raise ConfigError(
            f'model.lora.bias = "{lora.bias}", but {what} has {"a" if lora.bias == "lora_only" else "no"} bias.',
            hint='Leave it out, or use "none".',
            key="model.lora.bias",
            value=lora.bias,
        )


def _require_rank(hf: HuggingModel, lora: Lora, layers: Sequence[str]) -> None:
    highest = max(min(shape_of(hf.get_submodule(name))) for name in layers)
    if lora.r > highest:
        raise ConfigError(
            f"model.lora.r = {lora.r}, but no adapted layer has more than {highest} inputs or outputs on its narrower"
            " side: no update of it has a higher rank.",
            hint=f"Use at most {highest}; 8 is usual.",
            key="model.lora.r",
            value=lora.r,
        )


def is_same_kind(one: LoraConfig, other: LoraConfig) -> bool:
    """Whether adapters of the one configuration can go on as those of the other: only dropout and how they start may
    differ."""
    keys = ("r", "lora_alpha", "bias", *(name for name in OPTIONS if name != "init_lora_weights"))
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def refused_by_peft(lora: Lora, error: Exception) -> ConfigError:
    """What peft finds wrong with the options."""
    return ConfigError(
        f"model.lora.options: peft refuses them: {str(error).rstrip('.')}.",
        hint="See peft's LoraConfig for what a key may be.",
        key="model.lora.options",
        value=dict(lora.options),
        reason=str(error),
    )


def _wrong(name: str, value: Any, why: str, hint: str) -> ConfigError:
    return ConfigError(f"model.lora.options.{name} {why}.", hint=hint, key=f"model.lora.options.{name}", value=value)
