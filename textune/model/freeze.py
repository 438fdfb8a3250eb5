"""Which weights of a backbone are not trained; selected after the weights are read, frozen by `recipe.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from textune.config import Model
from textune.errors import ConfigError
from textune.model.hugging import HuggingModel
from textune.wording import closest, nearest


def frozen_names(hf: HuggingModel, section: Model, *, new_tensors: Collection[str]) -> frozenset[str]:
    """The parameters that the patterns of `model.freeze` match and those of `model.unfreeze` do not.

    `backbone` is everything that was pretrained, `embeddings` the embedding tables and their norms, anything else a
    pattern (`*`, `?`, `[...]`) of full parameter names. `new_tensors` start random and are never part of `backbone`.
    ConfigError if a pattern matches nothing, if `unfreeze` gives nothing back, or if nothing is left to train.
    """
    names = [name for name, _ in hf.named_parameters()]
    frozen: set[str] = set()
    for pattern in section.freeze:
        frozen |= _matching(hf, names, pattern, new_tensors, key="model.freeze")
    taken = frozenset(frozen)
    for pattern in section.unfreeze:
        back = _matching(hf, names, pattern, new_tensors, key="model.unfreeze")
        if not back & taken:
            raise ConfigError(
                f'model.unfreeze: "{pattern}" matches nothing that model.freeze takes: what it names is trained'
                " anyway.",
                hint='Set model.freeze to what is not trained, such as "backbone", or remove the pattern.',
                key="model.unfreeze",
                value=pattern,
            )
        frozen -= back
    if len(frozen) == len(names):
        raise ConfigError(
            "model.freeze leaves nothing to train.",
            hint="Remove a pattern, so that at least the head is trained.",
            key="model.freeze",
            value=list(section.freeze),
        )
    return frozenset(frozen)


def _matching(
    hf: HuggingModel, names: Sequence[str], pattern: str, new_tensors: Collection[str], *, key: str
) -> set[str]:
    found = _found(hf, names, pattern, new_tensors)
    if not found and pattern == "backbone":
        raise ConfigError(
            f'{key}: "backbone" is what was pretrained, and all weights of this model are new.',
            hint=f'Name parameters by patterns, such as "{names[0]}".',
            key=key,
            value=pattern,
        )
    if not found:
        raise ConfigError(
            f'{key}: "{pattern}" matches no parameter of this backbone.',
            hint=_near(pattern, names),
            key=key,
            value=pattern,
        )
    return found


def _found(hf: HuggingModel, names: Sequence[str], pattern: str, new_tensors: Collection[str]) -> set[str]:
    if pattern == "backbone":
        prefix = hf.base_model_prefix + "."
        return {name for name in names if name.startswith(prefix) and name not in new_tensors}
    if pattern == "embeddings":
        return _embeddings(hf, names)
    return {name for name in names if fnmatchcase(name, pattern)}


def _embeddings(hf: HuggingModel, names: Sequence[str]) -> set[str]:
    """Everything inside a module called `embeddings`, and every embedding table except those of relative positions."""
    inside = {name for name in names if "embeddings" in name.split(".")[:-1]}
    tables = {f"{path}.weight" for path, module in hf.named_modules() if isinstance(module, nn.Embedding)}
    relative = {name for name in tables if "relative" in name or "rel_embeddings" in name}
    return inside | (tables - relative) & set(names)


def _near(pattern: str, names: Sequence[str]) -> str:
    """The words and parameter names most similar to `pattern`."""
    if word := nearest(pattern, ["backbone", "embeddings"]):
        return f'Did you mean "{word}"?'
    part = pattern.strip("*.")
    near = _with(part, names) or _with(nearest(part, _pieces(names, part.count("."))), names)
    near = near or closest(part, names, cutoff=0.3) or list(names[:3])
    others = ", ".join(near[1:])
    return f'Patterns match whole names, such as "{near[0]}" (others: {others}); begin with * to match a part.'


def _with(part: str | None, names: Sequence[str]) -> list[str]:
    """Some of the names that contain `part`."""
    return [name for name in names if part in name][:3] if part else []


def _pieces(names: Sequence[str], num_dots: int) -> list[str]:
    """The pieces of names that have so many dots, such as `layer.0`, each once."""
    parts = [name.split(".") for name in names]
    found = [of[place : place + num_dots + 1] for of in parts for place in range(len(of) - num_dots)]
    return list(dict.fromkeys(map(".".join, found)))
