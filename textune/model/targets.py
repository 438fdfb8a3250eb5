"""Which linear layers `model.lora.targets` names; for `adapters.py`, and to be shown to whoever writes targets."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.errors import ConfigError
from textune.imports import import_quietly
from textune.model.hugging import FamilyModule, HuggingModel
from textune.wording import closest, listing

ALL_LINEAR = "all-linear"
_KEY = "model.lora.targets"


def linears(hf: HuggingModel) -> dict[str, FamilyModule]:
    """The linear layers of a model by name, each once, whatever their weights are made of."""
    return {
        name: module
        for name, module in hf.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        # PyTorch's own attention reads the weight of such a layer without calling it.
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    }


def output_layer(hf: HuggingModel) -> FamilyModule | None:
    """The layer of a language model that makes words of states; None of a classifier."""
    find = getattr(hf, "get_output_embeddings", None)
    return None if find is None else find()


def shape_of(layer: FamilyModule) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    return layer.in_features, layer.out_features


def targeted(hf: HuggingModel, targets: Sequence[str], *, whole: Collection[str]) -> list[str]:
    """The names of the layers that `targets` match, in the order of the model.

    `whole` are the names of the weights that are trained as they are. "all-linear" leaves out the layer of a
    language model that makes words of states, as peft does. ConfigError where a target matches nothing, a layer of the
    head, or that layer where its weights are those of the token embeddings.
    """
    layers = linears(hf)
    known, output = list(layers), output_layer(hf)
    words = next((name for name in known if layers[name] is output), "")
    of_head = {name for name in known if f"{name}.weight" in whole}
    misread = _read_as_experts(hf, _last_parts(known))
    experts = {name for name in known if name.rpartition(".")[2] in misread}
    backbone = [name for name in known if name not in of_head | experts]
    chosen: set[str] = set()
    for target in targets:
        found = {name for name in (backbone if target == ALL_LINEAR else known) if _matches(name, target)}
        found -= {words} if target == ALL_LINEAR else set()
        if not found:
            raise _no_layer(hf, target, backbone)
        if hit := sorted(found & of_head):
            raise _hits_head(target, hit[0], sorted(found - of_head))
        if found <= experts:
            raise ConfigError(
                f'{_KEY}: "{target}" matches {min(found)}, whose name peft reads as that of the experts of'
                f" {hf.config.model_type}, which are no linear layers.",
                hint=f"The layers that can be adapted are called {listing(_last_parts(backbone))}.",
                key=_KEY,
                value=target,
            )
        if words in found and _is_tied(hf, words):
            raise _is_embedding(target, words)
        chosen |= found - experts
    return [name for name in known if name in chosen]


def _is_tied(hf: HuggingModel, words: str) -> bool:
    return hf.get_submodule(words).weight is hf.get_input_embeddings().weight


def _is_embedding(target: str, words: str) -> ConfigError:
    """A target matches an output embedding that is the table of token embeddings, too."""
    return ConfigError(
        f'{_KEY}: "{target}" matches {words}, whose weights are those of the token embeddings: an adapter would change'
        " one of the two, and no model folder could hold both.",
        hint=f'Use "{ALL_LINEAR}", which leaves it out.',
        key=_KEY,
        value=target,
        reason=words,
    )


def _matches(name: str, target: str) -> bool:
    if target == ALL_LINEAR:
        return True
    if any(sign in target for sign in "*?["):
        return fnmatchcase(name, target)
    return name == target or name.endswith(f".{target}")


def _read_as_experts(hf: HuggingModel, lasts: Sequence[str]) -> set[str]:
    """Those last parts of names that peft takes for experts of a mixture, which are tensors in this release of
    transformers and were layers in earlier ones: it would adapt those tensors instead, here and where it opens an
    adapter folder. Empty without peft."""
    try:
        import_quietly("peft")
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:
        return set()
    found = set()
    for last in lasts:
        config = LoraConfig(target_modules=[last])
        try:
            convert_peft_config_for_transformers(config, model=cast(nn.Module, hf), conversions=None)
        except ValueError:  # it wants the other names of the same tensor, too
            found.add(last)
        if last not in (config.target_modules or ()):
            found.add(last)
    return found


def _hits_head(target: str, name: str, others: Sequence[str]) -> ConfigError:
    """A target matches a layer of the head: what would match the others alone."""
    inside, last = _holder(others), target.strip("*.")
    better = f', or "{inside}.*{last}"' if inside and not name.startswith(f"{inside}.") else ""
    hint = f'Use "{ALL_LINEAR}", which leaves it out{better}.' if others else f'Leave it out, as "{ALL_LINEAR}" does.'
    return ConfigError(
        f'{_KEY}: "{target}" matches {name}, which is trained whole anyway: it belongs to the head or starts new.',
        hint=hint,
        key=_KEY,
        value=target,
    )


def _holder(names: Sequence[str]) -> str:
    """The innermost module that all of these are in; empty if there is none."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(same[0] for same in itertools.takewhile(lambda same: len(set(same)) == 1, parts))


def _no_layer(hf: HuggingModel, target: str, names: Sequence[str]) -> ConfigError:
    """Nothing matches: the last parts of the names that are there."""
    if not names:
        return ConfigError(
            f"model.lora: {hf.config.model_type} has no linear layers of its own to adapt.",
            hint="Leave model.lora out.",
            key=_KEY,
            value=target,
        )
    lasts = _last_parts(names)
    other = any(_matches(name, target) for name, _ in (*hf.named_modules(), *hf.named_parameters()))
    near = closest(target.rpartition(".")[2], lasts, num=1)
    return ConfigError(
        f'{_KEY}: "{target}" matches no linear layer of this {hf.config.model_type}'
        + (", but a part of another kind." if other else "."),
        hint=(f'Did you mean "{near[0]}"? ' if near else "") + f"Its linear layers are called {listing(lasts)}.",
        key=_KEY,
        value=target,
    )


def _last_parts(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))
