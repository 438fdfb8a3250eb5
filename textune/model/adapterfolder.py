"""Adapters as files of peft, beside a backbone that stays where it is; after `adapters.py`, before `loading.py`.

    adapter_config.json, adapter_model.safetensors    what `peft.PeftModel.from_pretrained` opens
    config.json, tokenizer, textune.json              as beside any saved model; the last names the backbone

In `adapter_model.safetensors` a tensor has the name that it has in the backbone, after `base_model.model.`; the name
of the adapter itself is left out. Beside adapters it holds what was trained as a whole: the head and biases.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from textune.config import Lora, Quantize
from textune.errors import ModelError
from textune.imports import import_quietly
from textune.jsontext import parse_json
from textune.model.adapteroptions import OPTIONS
from textune.model.adapters import ADAPTER, Adapters, inject, is_adapter, merged, plain_name, require_peft
from textune.model.hugging import HuggingModel
from textune.model.origin import AdapterNote, BackboneNote
from textune.model.pretrained import PICKLE_HINT, Pretrained
from textune.model.saved import CARD_NAME
from textune.model.targets import linears, output_layer
from textune.wording import listing

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_DAMAGED = "Restore the folder from a copy, or train again."
_READ = {
    *("r", "lora_alpha", "lora_dropout", "bias", "target_modules", "modules_to_save", "fan_in_fan_out"),
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *OPTIONS,
}
"""Keys of `LoraConfig` that are understood; of the others, only the value that changes nothing."""


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds adapters in the form of peft."""
    return (folder / CONFIG_NAME).is_file()


# --- writing ---------------------------------------------------------------------------------------------------------


def modules_trained(hf: HuggingModel, names: Collection[str]) -> tuple[str, ...]:
    """The modules that hold the weights `names`: those of the head by their first name, others by the whole."""
    prefix = hf.base_model_prefix + "."
    found = {name.rpartition(".")[0] if name.startswith(prefix) else name.partition(".")[0] for name in names}
    return tuple(name for name, _ in hf.named_modules() if name in found)


def write_adapters(
    adapters: Adapters,
    hf: HuggingModel,
    state: Mapping[str, torch.Tensor],
    folder: Path,
    *,
    whole: Collection[str],
    backbone: BackboneNote,
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    `state` is that of `hf`, `whole` are the weights that are trained as they are.
    """
    config = copy.deepcopy(adapters.config)
    config.task_type = "SEQ_CLS" if output_layer(hf) is None else "CAUSAL_LM"
    config.inference_mode = True
    config.target_modules = list(adapters.layers)
    config.modules_to_save = list(modules_trained(hf, whole))
    config.base_model_name_or_path = backbone.folder or backbone.name
    config.revision = None if backbone.folder else backbone.revision
    config.save_pretrained(str(folder))
    tensors = {
        _file_name(name): tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state.items()
        if is_adapter(name) or name in whole or _is_trained_bias(name, adapters)
    }
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _is_trained_bias(name: str, adapters: Adapters) -> bool:
    if not name.endswith(".bias") or adapters.lora.bias == "none":
        return False
    return adapters.lora.bias == "all" or plain_name(name).removesuffix(".bias") in adapters.layers


def _file_name(name: str) -> str:
    if is_adapter(name):
        # A magnitude is a tensor without a layer of its own there.
        name = name.replace(f".{ADAPTER}.weight" if _MAGNITUDE in name else f".{ADAPTER}", "")
    return _PREFIX + name


def _own_name(name: str) -> str:
    """What a tensor of the file is called in a model with adapters, or in the plain backbone if it is none of them."""
    name = name.removeprefix(_PREFIX)
    if not is_adapter(name):
        return plain_name(name)
    if name.endswith(_MAGNITUDE):
        return f"{name}.{ADAPTER}.weight"
    start, _, last = name.rpartition(".")
    return f"{start}.{ADAPTER}.{last}"


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedAdapters:
    """What an adapter folder holds."""

    folder: Path
    key: str
    """The setting that named the folder."""
    lora: Lora
    """As configured; its targets are the names of layers."""
    config: LoraConfig
    backbone: BackboneNote
    quantize: Quantize | None
    """The few bits that the backbone's weights had."""
    complete: bool
    """Whether textune wrote it, so that the head must be there."""
    beside: dict[str, torch.Tensor]
    """The adapters' tensors, by their names in a model with adapters."""
    whole: dict[str, torch.Tensor]
    """What was trained as it is, by its name in the backbone."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the adapted layers."""
        return tuple(self.lora.targets)

    @property
    def trained_whole(self) -> set[str]:
        """Names of the weights that were trained as they are, without the backbone's biases."""
        modules = self.config.modules_to_save or ()
        return {name for name in self.whole if any(name.startswith(f"{module}.") for module in modules)}

    def damaged(self, reason: str) -> ModelError:
        """The error for a folder whose tensors do not fit its backbone."""
        return _damaged(self.folder / WEIGHTS_NAME, self.key, reason)

    def place_whole(self, hf: HuggingModel, head: Collection[str]) -> None:
        """Give the plain model `hf` what was trained as it is; ModelError where that does not fit, or where a weight
        of the `head` is missing."""
        if self.complete and (lacking := sorted(set(head) - self.whole.keys())):
            raise self.damaged(f"it lacks {listing(lacking, 4)}")
        self._place(hf, self.whole)

    def place_beside(self, hf: HuggingModel) -> None:
        """Give the adapters of `hf` what they had learned; ModelError where that does not fit."""
        wanted = {name for name in hf.state_dict() if is_adapter(name)}
        if lacking := sorted(wanted - self.beside.keys()):
            raise self.damaged(f"it lacks {listing(lacking, 4)}")
        self._place(hf, self.beside)

    def _place(self, hf: HuggingModel, tensors: Mapping[str, torch.Tensor]) -> None:
        state = hf.state_dict()
        for name, tensor in tensors.items():
            if name not in state:
                raise self.damaged(f"the backbone has no {name}")
            if state[name].shape != tensor.shape:
                raise self.damaged(f"{name} is {list(tensor.shape)} there, but {list(state[name].shape)} here")
            with torch.no_grad():
                state[name].copy_(tensor)

    def merge_into(self, hf: HuggingModel) -> None:
        """Put the adapters into the weights of the plain model `hf`."""
        self.require_layers(hf)
        adapters = inject(hf, self.lora, self.config, self.layers, whole=(), seed=0)
        self.place_beside(hf)
        state = merged(adapters, hf, hf.state_dict())
        for name in adapters.layers:
            plain: Any = hf.get_submodule(name)
            hf.set_submodule(name, plain.get_base_layer())
        self._place(hf, {name: state[name] for name in self._changed(adapters)})
        del hf.peft_config
        for parameter in hf.parameters():
            parameter.requires_grad_(True)

    def _changed(self, adapters: Adapters) -> list[str]:
        with_bias = bool(adapters.lora.options.get("lora_bias"))
        return [f"{name}.{kind}" for name in adapters.layers for kind in ("weight", *(["bias"] if with_bias else []))]

    def require_layers(self, hf: HuggingModel) -> None:
        """ModelError where the backbone lacks an adapted layer."""
        if lacking := sorted(set(self.layers) - linears(hf).keys()):
            raise self.damaged(f"the backbone has no linear layer {lacking[0]}")


def read_adapters(found: Pretrained) -> SavedAdapters | None:
    """What the adapter folder `found` holds; None for any other folder, or a name on the hub.

    ModelError without peft, for files that are missing or damaged, and for adapters of another kind.
    """
    folder = found.folder
    if folder is None or not is_adapter_folder(folder):
        return None
    require_peft(found.key, f"{folder} holds adapters")
    if weights := [name for name in ("model.safetensors", "model.safetensors.index.json") if (folder / name).exists()]:
        raise ModelError(
            f"{found.key}: {folder} holds adapters ({CONFIG_NAME}) and whole weights ({weights[0]}).",
            hint="Move one of the two elsewhere: it is unclear whether the adapters are in these weights already.",
            key=found.key,
            value=found.name,
            place=str(folder),
        )
    config = _read_config(folder / CONFIG_NAME, found.key)
    tensors = {_own_name(name): tensor for name, tensor in _read_tensors(folder, found.key).items()}
    beside = {name: tensor for name, tensor in tensors.items() if is_adapter(name)}
    end = f".lora_A.{ADAPTER}.weight"
    layers = tuple(name.removesuffix(end) for name in beside if name.endswith(end))
    if not layers:
        raise _damaged(folder / WEIGHTS_NAME, found.key, "it holds no adapters of linear layers")
    note = _read_note(folder, found.key)
    return SavedAdapters(
        folder,
        found.key,
        _section(config, layers, "off" if note is None else note.merge, folder / CONFIG_NAME, found.key),
        config,
        _backbone_of(config, folder, found.key) if note is None else note.backbone,
        None if note is None else note.quantize,
        note is not None,
        beside,
        {name: tensor for name, tensor in tensors.items() if not is_adapter(name)},
    )


def _damaged(path: Path, key: str, reason: str) -> ModelError:
    return ModelError(f"{path} is damaged: {reason}.", hint=_DAMAGED, key=key, place=str(path), reason=reason)


def _read_config(path: Path, key: str) -> LoraConfig:
    import_quietly("peft")
    from peft import LoraConfig

    tree = _read_json(path, key)
    kind = tree.get("peft_type")
    if kind != "LORA":
        raise _foreign(path, key, "peft_type", kind, "are not low-rank adapters (LORA)")
    known = {field.name for field in fields(LoraConfig)}
    plain = LoraConfig()
    for name, value in tree.items():
        if name not in known or name in _READ or not value:
            continue
        if value != getattr(plain, name):
            raise _foreign(path, key, name, value, f"need {name}, which textune does not read")
    start = tree.get("init_lora_weights", True)
    if start is not False and not OPTIONS["init_lora_weights"].fits(start):
        raise _foreign(path, key, "init_lora_weights", start, "changed the frozen weights when they started")
    try:
        return LoraConfig(**{name: value for name, value in tree.items() if name in known and name != "peft_type"})
    except (ValueError, TypeError) as error:
        raise _damaged(path, key, str(error).rstrip(".")) from error


def _foreign(path: Path, key: str, name: str, value: object, why: str) -> ModelError:
    return ModelError(
        f"{key}: the adapters of {path.parent} {why}.",
        hint="Merge them with the tool that made them (peft: merge_and_unload), and start from the merged folder.",
        key=key,
        value=value,
        place=str(path),
        reason=name,
    )


def _read_json(path: Path, key: str) -> dict[str, Any]:
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, key, str(error).splitlines()[0].rstrip(".")) from error
    if not isinstance(tree, dict):
        raise _damaged(path, key, "not a JSON object")
    return tree


def _read_tensors(folder: Path, key: str) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        if (folder / "adapter_model.bin").is_file():
            raise ModelError(
                f"{key}: {folder} has its adapters only as a pickle (adapter_model.bin).",
                hint=PICKLE_HINT,
                key=key,
                place=str(folder),
            )
        raise ModelError(
            f"{key}: {folder} has no {WEIGHTS_NAME}.", hint=_DAMAGED, key=key, place=str(path), reason="not there"
        )
    try:
        # Copies: a file that is replaced later must not matter.
        return {name: tensor.float().clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, key, str(error).splitlines()[0].rstrip(".")) from error


def _read_note(folder: Path, key: str) -> AdapterNote | None:
    """What textune noted of the adapters; None where others wrote the folder."""
    path = folder / CARD_NAME
    if not path.is_file():
        return None
    note = _read_json(path, key).get("adapters")
    if note is None:
        raise _damaged(path, key, f"it names no backbone for the adapters in {CONFIG_NAME}")
    try:
        return AdapterNote.model_validate(note)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, key, f"adapters.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _backbone_of(config: LoraConfig, folder: Path, key: str) -> BackboneNote:
    """The backbone that peft's own file names."""
    name = config.base_model_name_or_path
    if not name:
        raise ModelError(
            f"{key}: {folder / CONFIG_NAME} does not say which backbone its adapters belong to.",
            hint="Write the folder or hub name of the backbone under base_model_name_or_path.",
            key=key,
            place=str(folder / CONFIG_NAME),
            reason="base_model_name_or_path",
        )
    return BackboneNote(name=name, revision=config.revision or "main")


def _section(
    config: LoraConfig, layers: tuple[str, ...], merge: Literal["command", "off"], path: Path, key: str
) -> Lora:
    """The section `model.lora` that describes saved adapters."""
    plain = type(config)()
    options = {name: value for name in OPTIONS if (value := getattr(config, name)) != getattr(plain, name)}
    try:
        return Lora(
            r=config.r,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            bias=config.bias,
            targets=layers,
            merge=merge,
            options=options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, key, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
