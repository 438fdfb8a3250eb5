"""Backbones whose files hold weights of few bits in the form of GPTQ (Frantar et al. 2022, arXiv:2210.17323); after
`pretrained.py`, before `loading.py`.

Such a model is read as one in fp32, which is exact, and keeps what the files have of each layer: those take the place
of the weights again once adapters stand beside them (`TextModel.keep_few_bits`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file

from textune.config import Model, ModelSection
from textune.errors import ConfigError, ModelError
from textune.model.hugging import FamilyModule, HuggingConfig, HuggingModel
from textune.model.lowbitforms import Groups
from textune.model.pretrained import Pretrained, read_config
from textune.model.targets import linears, shape_of

_METHOD = "gptq"
_PARTS = {"weight": "qweight", "zeros": "qzeros", "scales": "scales", "groups": "g_idx"}
"""What is kept of a weight, by its name here and in the files."""
_BITS = (2, 4, 8)
_FORMS = {"gptq": 1, "gptq_v2": 0}
"""The forms of such files, and how much too small their zero points are."""


@dataclass(frozen=True)
class PackedLayer:
    """The weight of a linear layer as files have it."""

    form: Groups
    shape: tuple[int, int]
    """Outputs and inputs."""
    tensors: dict[str, torch.Tensor]
    turned: bool
    """Whether the family of the model keeps it as [in, out]."""

    def read_back(self) -> torch.Tensor:
        """The weight in fp32, as the family keeps it."""
        weight_OI = self.form.read_back(self.tensors, self.shape, torch.float32)
        return weight_OI.t() if self.turned else weight_OI


def has_few_bits(config: HuggingConfig) -> bool:
    """Whether the files of that configuration hold weights of few bits."""
    return _noted(config) is not None


def require_readable(found: Pretrained, config: HuggingConfig) -> None:
    """ModelError for files that hold weights of few bits in a form that is not read."""
    noted = _noted(config)
    if noted is None:
        return
    method = str(noted.get("quant_method", "unknown"))
    if method != _METHOD:
        raise _unread(found, f"quant_method = {method}", method)
    form = noted.get("checkpoint_format") or noted.get("format") or _METHOD
    if form not in _FORMS:
        raise _unread(found, f"the form {form} of GPTQ", str(form))
    if noted.get("rotation"):
        raise _unread(found, f"GPTQ with a rotation ({noted['rotation']})", "rotation")


def require_adapters_beside(found: Pretrained, config: HuggingConfig, section: Model) -> None:
    """ConfigError for a backbone whose weights have few bits, which a run would train or replace."""
    if _noted(config) is None:
        return
    what = f"the weights in the {found.where} have few bits already"
    lora, quantize = (section.lora, section.quantize) if isinstance(section, ModelSection) else (None, None)
    if quantize is not None:
        raise ConfigError(
            f"model.quantize is set, but {what}.",
            hint="Leave model.quantize out.",
            key="model.quantize",
            value=quantize.model_dump(),
        )
    if lora is None:
        raise ConfigError(
            f"{found.key}: {what}, and cannot be trained themselves.",
            hint="Add a table [model.lora], which may be empty: it trains adapters beside them. Or name the model that"
            " it was made from.",
            key=found.key,
            value=found.name,
            reason=_METHOD,
        )


def without_note(config: HuggingConfig) -> HuggingConfig:
    """The configuration without a note on few bits, changed in place: transformers would look for a library for
    them, and no saved model has them."""
    if _noted(config) is not None:
        del config.quantization_config
    return config


def read_packed(found: Pretrained, hf: HuggingModel, info: dict[str, Any]) -> dict[str, PackedLayer]:
    """The layers of `hf` that have few bits in its files, by name; empty where none have.

    Their weights are put into `hf`, and `info`, what transformers says of its reading, no longer misses them.
    ModelError for files that are damaged or have a form that is not read.
    """
    config = read_config(found)
    require_readable(found, config)
    noted = _noted(config)
    if noted is None:
        return {}
    layers = linears(hf)
    packed: dict[str, PackedLayer] = {}
    try:
        for name, stem, path in _places(found, hf):
            packed[name] = _read_layer(found, path, stem, layers[name], noted)
            with torch.no_grad():
                layers[name].weight.copy_(packed[name].read_back())
            info["missing_keys"] -= {f"{name}.weight"}
            info["unexpected_keys"] -= {f"{way}.{part}" for way in (name, stem) for part in _PARTS.values()}
    except (OSError, SafetensorError) as error:
        raise found.error(error, "weights") from error
    return packed


def packed_bytes(found: Pretrained, hf: HuggingModel) -> dict[str, int]:
    """Bytes of those weights and their scales, by the names of the weights, without reading them."""
    if found.folder is None or _noted(read_config(found)) is None:
        return {}
    sizes = {}
    for name, stem, path in _places(found, hf):
        with safe_open(path, "pt") as file:
            there = set(file.keys())
            parts = [file.get_tensor(f"{stem}.{part}") for part in _PARTS.values() if f"{stem}.{part}" in there]
        sizes[f"{name}.weight"] = sum(part.nbytes for part in parts)
    return sizes


def _noted(config: HuggingConfig) -> Mapping[str, Any] | None:
    """What a configuration says of few bits."""
    noted = getattr(config, "quantization_config", None)
    return noted if noted is None or isinstance(noted, dict) else noted.to_dict()


def _unread(found: Pretrained, what: str, reason: str) -> ModelError:
    return ModelError(
        f"{found.key}: the weights in the {found.where} have few bits already ({what}), and of such files only those"
        " of GPTQ can be read.",
        hint="Name the model that it was made from, with a table [model.quantize] to give it few bits here.",
        key=found.key,
        value=found.name,
        reason=reason,
    )


def _places(found: Pretrained, hf: HuggingModel) -> Iterator[tuple[str, str, Path]]:
    """The layers that have few bits in the files: their names in `hf` and there, and the file."""
    config = cached_file(
        found.name,
        "config.json",
        revision=found.options["revision"],
        local_files_only=True,  # it was read before
    )
    known, prefix = linears(hf), f"{hf.base_model_prefix}."
    for path in sorted(Path(str(config)).parent.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = [name.removesuffix(".qweight") for name in file.keys() if name.endswith(".qweight")]  # noqa: SIM118
        for stem in names:
            name = next((way for way in (stem, prefix + stem, stem.removeprefix(prefix)) if way in known), None)
            if name is not None:
                yield name, stem, path


def _read_layer(
    found: Pretrained, path: Path, stem: str, module: FamilyModule, noted: Mapping[str, Any]
) -> PackedLayer:
    inputs, outputs = shape_of(module)
    with safe_open(path, "pt") as file:
        there = set(file.keys())
        tensors = {key: file.get_tensor(f"{stem}.{part}") for key, part in _PARTS.items() if f"{stem}.{part}" in there}
    size = int(noted.get("group_size", -1))
    tensors.setdefault("groups", torch.arange(inputs, dtype=torch.int32) // (size if size > 0 else inputs))
    bits = len(tensors["weight"]) * 32 // inputs
    if bits not in _BITS:
        raise _unread(found, f"{bits} bits in {stem}; 2, 4 and 8 are read", f"{bits} bits")
    groups = len(tensors.get("scales", ()))
    expected = {
        "weight": (torch.int32, (inputs * bits // 32, outputs)),
        "zeros": (torch.int32, (groups, -(-outputs * bits // 32))),
        "scales": (torch.float16, (groups, outputs)),
        "groups": (torch.int32, (inputs,)),
    }
    for key, (dtype, shape) in expected.items():
        tensor = tensors.get(key)
        is_there = None if tensor is None else (tensor.dtype, tuple(tensor.shape))
        if is_there != (dtype, shape):
            place = f"{stem}.{_PARTS[key]}"
            raise ModelError(
                f"{found.key}: {place} in {path} must be {dtype} {shape}, and is {is_there or 'not there'}.",
                hint="Copy or download it again, or choose another backbone.",
                key=found.key,
                value=found.name,
                place=str(path),
                reason=place,
            )
    if int(tensors["groups"].min()) < 0 or int(tensors["groups"].max()) >= groups:
        raise found.error(ValueError(f"{stem}.g_idx names groups that are not there"), "weights")
    form = str(noted.get("checkpoint_format") or noted.get("format") or _METHOD)
    less = _FORMS[form] * sum(1 << place for place in range(0, 32, bits))
    tensors["zeros"] = tensors["zeros"] + less
    copied = {key: tensor.clone() for key, tensor in tensors.items()}
    return PackedLayer(Groups(bits), (outputs, inputs), copied, isinstance(module, Conv1D))
