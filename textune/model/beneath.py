"""The backbone beneath saved adapters: found, recognised, and what a new run makes of both; used by `loading.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from textune.config import Lora, Model, ModelSection, Quantize
from textune.errors import ConfigError, ModelError
from textune.model.adapterfolder import (
    SavedAdapters,
    is_adapter_folder,
    modules_trained,
    read_adapters,
    write_adapters,
)
from textune.model.adapteroptions import is_same_kind, lora_config
from textune.model.adapters import Adapters, chosen_layers
from textune.model.content import content_hash
from textune.model.depth import head_names
from textune.model.gptq import has_few_bits
from textune.model.hugging import HuggingModel
from textune.model.origin import AdapterNote, BackboneNote
from textune.model.pretrained import Pretrained, find_pretrained, read_config, require_weights


class AdapterFiles:
    """Where the adapters of a model come from, and what the folder says that they are saved in."""

    def __init__(self, saved: SavedAdapters | None = None, backbone: BackboneNote | None = None) -> None:
        """`saved` were read with the model, which goes on with them. `backbone` says where what adapters stand beside
        is as files; None where it is nowhere."""
        self.saved = saved
        self._backbone = backbone

    def note_backbone(self, hf: HuggingModel, whole: Collection[str]) -> None:
        """Note the hash of a plain model, before anything changes its weights or names; the first time counts.
        `whole` are those that are trained as they are."""
        if self._backbone is not None and not self._backbone.fingerprint:
            self._backbone = self._backbone.model_copy(update={"fingerprint": frozen_hash(hf, whole)})

    def note(self, lora: Lora, folder: Path, quantize: Quantize | None) -> AdapterNote:
        """What the card beside adapters in `folder` says of them, and of the few bits of weights beneath."""
        merge: Literal["command", "off"] = "command" if lora.merge == "command" else "off"
        return AdapterNote(merge=merge, backbone=self._required().seen_from(folder), quantize=quantize)

    def write(
        self,
        adapters: Adapters,
        hf: HuggingModel,
        state: Mapping[str, torch.Tensor],
        folder: Path,
        *,
        whole: Collection[str],
    ) -> None:
        """As `write_adapters`; ModelError where the backbone is nowhere as files."""
        write_adapters(adapters, hf, state, folder, whole=whole, backbone=self._required())

    def _required(self) -> BackboneNote:
        if self._backbone is None:
            raise ModelError(
                "these adapters stand beside weights that are nowhere as files: those of a model whose own adapters"
                " were put into them.",
                hint="Save the whole model: with --merge.",
                key="merge",
                value=False,
                reason="no backbone as files",
            )
        return self._backbone


def trained_whole(hf: HuggingModel, new_tensors: Iterable[str]) -> frozenset[str]:
    """The weights of a plain model that are trained as they are beside adapters: every module of the head, and every
    one that starts new."""
    modules = modules_trained(hf, head_names(hf) | set(new_tensors))
    return frozenset(name for name in hf.state_dict() if any(name.startswith(f"{module}.") for module in modules))


def frozen_hash(hf: HuggingModel, whole: Collection[str]) -> str:
    """Hash of the weights of a plain model, without those that are trained as a whole."""
    return content_hash({name: weight for name, weight in hf.named_parameters() if name not in whole})


def bases(saved: SavedAdapters, section: Model) -> list[Pretrained]:
    """Where the backbone of saved adapters may be, the likeliest first; ModelError where it is nowhere."""
    note = saved.backbone
    found: list[Pretrained] = []
    tried: list[str] = []
    there = section.model_copy(update={"revision": note.revision})
    for place in note.places(saved.folder):
        if note.folder is not None and not Path(place).expanduser().is_dir():
            tried.append(f"{place} does not exist")
            continue
        try:
            base = find_pretrained(place, there, key=saved.key)
            require_weights(base)
        except ModelError as error:
            tried.append(error.message.rstrip("."))
            continue
        if base.folder is not None and is_adapter_folder(base.folder):
            tried.append(f"{base.folder} holds adapters itself")
        elif all(base.name != other.name for other in found):
            found.append(base)
    if not found:
        raise ModelError(
            f"{saved.key}: the backbone of the adapters in {saved.folder} was not found ({'; '.join(tried)}).",
            hint="Put it back where it was, or move both folders together.",
            key=saved.key,
            value=note.name,
            place=str(saved.folder),
            reason="; ".join(tried),
        )
    return found


def starts_from_few_bits(section: Model) -> bool:
    """Whether `model.pretrained` names files that hold weights of few bits, or adapters beside such files; errors are
    those of `load_model`."""
    if not section.pretrained:
        return False
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    saved = read_adapters(found)
    return has_few_bits(read_config(found if saved is None else bases(saved, section)[0]))


def another_backbone(saved: SavedAdapters, found: Pretrained, others: Mapping[str, str]) -> ModelError:
    """The error for a backbone that is there, but has other weights; `others`: their hashes, or why they do not fit,
    by the places where it was looked for."""
    expected = saved.backbone.fingerprint
    there = "; ".join(f"{place} has {fingerprint}" for place, fingerprint in others.items())
    return ModelError(
        f"{found.key}: the adapters in {saved.folder} belong to weights of {saved.backbone.name} with the hash"
        f" {expected}, but {there}.",
        hint="Restore the backbone as it was, or train again.",
        key=found.key,
        value=saved.backbone.name,
        place=next(iter(others)),
        reason=f"{expected} is {', '.join(others.values())}",
    )


def go_on(
    saved: SavedAdapters, section: Model, hf: HuggingModel, *, whole: Collection[str], frozen: Collection[str]
) -> tuple[SavedAdapters | None, str]:
    """What a new run makes of saved adapters, and a note on it: it goes on with them (they are returned) where its
    `model.lora` asks for the same; else they are put into the weights of `hf`.

    ConfigError where new adapters would be saved beside merged weights, which are nowhere as files, and where the
    weights beneath had other bits.
    """
    name = f"{section.name} is a model with adapters"
    lora, quantize = (section.lora, section.quantize) if isinstance(section, ModelSection) else (None, None)
    if lora is not None and (same := _same(saved, lora, hf, whole=whole, frozen=frozen)) is not None:
        if _bits(quantize) != _bits(saved.quantize):
            raise _other_bits(saved, section, key="model.quantize")
        return same, f"{name}: the run goes on with them"
    if saved.quantize is not None:
        raise _other_bits(saved, section, key="model.pretrained")
    if lora is not None and lora.merge != "end":
        raise ConfigError(
            f'model.lora.merge = "{lora.merge}" would save new adapters beside {section.name} with its own adapters in'
            " the weights, and such a backbone is nowhere as files.",
            hint=f"Make one: `textune export {section.name} --merge --out FOLDER`, and set model.pretrained to it. Or"
            ' set model.lora.merge = "end", or the r, alpha and targets of that model to go on with its adapters.',
            key="model.lora.merge",
            value=lora.merge,
        )
    saved.merge_into(hf)
    if lora is None:
        return None, f"{name}: they are put into its weights, all of which are trained"
    return None, f"{name} of another kind: they are put into its weights, and new ones beside these"


def _bits(quantize: Quantize | None) -> tuple[object, ...]:
    """What decides the weights beneath adapters."""
    return () if quantize is None else (quantize.bits, quantize.kind, quantize.double)


def _other_bits(saved: SavedAdapters, section: Model, *, key: str) -> ConfigError:
    """Adapters have learned beside the rounded weights, which nothing but `textune export` reads back."""
    before = "fp32 weights" if saved.quantize is None else f"weights of {saved.quantize.bits} bits"
    return ConfigError(
        f"{section.name} has adapters beside {before}, and would go on beside others.",
        hint=f"Make one model of both: `textune export {section.name} --merge --out FOLDER`, and set model.pretrained"
        " to it. Or set model.lora and model.quantize as that model had them, to go on with its adapters.",
        key=key,
        value=section.name,
        reason="model.quantize",
    )


def _same(
    saved: SavedAdapters, lora: Lora, hf: HuggingModel, *, whole: Collection[str], frozen: Collection[str]
) -> SavedAdapters | None:
    """The saved adapters as `lora` asks for them; None where it asks for others."""
    layers = chosen_layers(hf, lora, whole=whole, frozen=frozen)
    config = lora_config(lora, layers)
    if set(layers) != set(saved.layers) or not is_same_kind(config, saved.config):
        return None
    config.modules_to_save = saved.config.modules_to_save
    return replace(saved, lora=lora.model_copy(update={"targets": saved.layers}), config=config)
