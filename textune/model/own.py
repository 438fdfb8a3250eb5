"""A model of the user's own: a `torch.nn.Module` that a configuration names, behind what textune asks of a model of
transformers; before `backbone.py`.

What such a class must have (docs/extending.md has an example):

    __init__(*, num_outputs, vocab_size, pad_id, **options)     options are those of the configuration
    forward(ids, mask) -> outputs                               int64 [B, L], bool [B, L] -> [B, C]

Optional: a third argument `types` of `forward` (int64 [B, L], token type ids of pairs; None where all are zero),
`forward_packed(batch)` for batches without padding (a `TokenBatch` to [B, C]), and `max_positions`, the longest row.

A class of transformers (a subclass of `PreTrainedModel`) is used as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parameter import is_lazy
from transformers.modeling_outputs import SequenceClassifierOutput

from textune.batches import TokenBatch
from textune.config import PythonModel
from textune.errors import ModelError
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.pretrained import Pretrained
from textune.owncode import OwnObject, article

WEIGHTS = "model.safetensors"


class OwnModel(nn.Module):
    """The user's module with what textune asks of a model of transformers (`as_hugging`); weights are named
    `own.NAME`."""

    base_model_prefix = "own"
    supports_gradient_checkpointing = False

    def __init__(self, config: HuggingConfig, code: OwnObject) -> None:
        """The weights of the user's module are as it makes them, in fp32. CodeError where it fails."""
        super().__init__()
        self.config = config
        self.code = code
        given = {"num_outputs": config.num_labels, "vocab_size": config.vocab_size, "pad_id": config.pad_token_id}
        own: nn.Module = code.build(config.options, given)
        if lazy := [name for name, weights in own.named_parameters() if is_lazy(weights)]:
            raise code.error(
                f"the shape of {lazy[0]} is not known before a first batch",
                hint="Use layers with sizes, not lazy ones.",
                value=lazy[0],
            )
        self.own = own.float()
        self.takes_types = "types" in inspect.signature(self.own.forward).parameters
        self.takes_packed = hasattr(self.own, "forward_packed")
        config.max_position_embeddings = getattr(self.own, "max_positions", None)

    @property
    def name(self) -> str:
        """The user's class."""
        return self.code.path.rpartition(":")[2]

    @property
    def base_model(self) -> nn.Module:
        """The user's module."""
        return self.own

    @property
    def num_labels(self) -> int:
        """Outputs."""
        return int(self.config.num_labels)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """That of its weights."""
        return next(self.parameters()).dtype

    def get_input_embeddings(self) -> nn.Embedding | None:
        """None: which of its tables, if any, holds those of tokens is not known."""
        return None

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Nothing: its attention is its own."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Outputs [B, C] of a padded batch, int64 [B, L] each."""
        more = {"types": token_type_ids} if self.takes_types else {}
        with self.code.calling("in forward"):
            outputs = self.own(input_ids, attention_mask.bool(), **more)
        return SequenceClassifierOutput(logits=self._checked(outputs, len(input_ids), "forward"))

    def forward_packed(self, batch: TokenBatch) -> torch.Tensor:
        """Outputs [B, C] of a batch in the packed layout."""
        with self.code.calling("in forward_packed"):
            outputs = self.own.forward_packed(batch)  # type: ignore[operator]  # it has one: `takes_packed`
        return self._checked(outputs, len(batch.row_lengths), "forward_packed")

    def save_pretrained(self, save_directory: Path, *, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Write `config.json` and `model.safetensors`; a tensor under several names once."""
        self.config.architectures = [self.name]
        self.config.save_pretrained(save_directory)
        kept: dict[tuple[object, ...], str] = {}
        for name, tensor in state_dict.items():
            kept.setdefault(_place_of(tensor, name), name)
        tensors = {name: state_dict[name].detach().to("cpu", copy=True).contiguous() for name in kept.values()}
        save_file(tensors, save_directory / WEIGHTS, metadata={"format": "pt"})

    def take_weights(self, found: Pretrained) -> None:
        """The weights that `save_pretrained` wrote; ModelError where they are broken or of another shape."""
        assert found.folder is not None, "its configuration was read there"
        try:
            state = load_file(found.folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise found.error(error, "weights") from error
        own = self.state_dict()
        saved_once = {_place_of(own[name], name) for name in state.keys() & own.keys()}
        lacking = [name for name, tensor in own.items() if _place_of(tensor, name) not in saved_once]
        if lacking or state.keys() - own.keys():
            what = f"lacks {lacking[0]}" if lacking else f"also has {sorted(state.keys() - own.keys())[0]}"
            raise ModelError(
                f"{found.key}: the {found.where} {what}: its weights are not those of {self.code.path}.",
                hint="Use the class, and its options, that the model was trained with.",
                key=found.key,
                place=str(found.folder),
            )
        for name, tensor in state.items():
            if tensor.shape != own[name].shape:
                raise ModelError(
                    f"{found.key}: {name} is {tuple(tensor.shape)} in the {found.where}, but must be"
                    f" {tuple(own[name].shape)} here.",
                    hint="Start from a model of the same options and labels.",
                    key=found.key,
                    value=name,
                    place=str(found.folder),
                )
        self.load_state_dict(state, strict=False)

    def _checked(self, outputs: object, num_rows: int, method: str) -> torch.Tensor:
        wanted = (num_rows, self.num_labels)
        if isinstance(outputs, torch.Tensor) and tuple(outputs.shape) == wanted and outputs.is_floating_point():
            if (
                torch.is_grad_enabled()
                and not outputs.requires_grad
                and any(p.requires_grad for p in self.parameters())
            ):
                hint = "Compute them from the weights in PyTorch, without detach(), no_grad() or numpy."
                raise self.code.error(f"{method} returns outputs without a gradient", hint=hint, value=method)
            return outputs
        shape = f"a tensor of shape {list(outputs.shape)}" if isinstance(outputs, torch.Tensor) else article(outputs)
        must = f"must return {wanted[1]} outputs for each of {num_rows} rows, {list(wanted)}"
        raise self.code.error(f"{method} returns {shape}, but {must}", value=method)


def require_own_model(section: PythonModel) -> OwnObject:
    """The class that a configuration names, checked before any data is read; CodeError where it does not fit."""
    code = OwnObject.find(section.object, key="model.object")
    code.require_class({})
    if not issubclass(code.target, nn.Module):
        raise code.error(f"the class {code.target.__name__} is not a torch.nn.Module")
    if is_of_transformers(code):
        known = code.target.config_class
        if known is None:
            raise code.error(f"the class {code.target.__name__} has no attribute config_class", value="config_class")
        if known.model_type not in transformers.CONFIG_MAPPING:
            transformers.AutoConfig.register(known.model_type, known)
        return code
    if code.target.forward is nn.Module.forward:
        raise code.error(f"the class {code.target.__name__} has no method forward(ids, mask)", value="forward")
    code.require_class({"forward": ("ids", "mask")})
    named = {"num_outputs": 2, "vocab_size": 2, "pad_id": 0, **section.options}
    code.require_call(code.target, (), named, code.target.__name__)
    return code


def is_of_transformers(code: OwnObject) -> bool:
    """Whether the class is one of transformers' own kind, with a configuration and `from_pretrained`."""
    return issubclass(code.target, transformers.PreTrainedModel)


def is_stock(code: OwnObject) -> bool:
    """Whether the class is one that transformers itself defines."""
    return is_of_transformers(code) and code.target.__module__.startswith("transformers.")


def as_own(hf: HuggingModel) -> OwnModel | None:
    """The same model, where it is one of the user's own."""
    model: object = hf
    return model if isinstance(model, OwnModel) else None


def class_name(hf: HuggingModel) -> str:
    """The name of the model's class, or of the user's."""
    own = as_own(hf)
    return type(hf).__name__ if own is None else own.name


def as_hugging(model: OwnModel) -> HuggingModel:
    """The same model, as what textune asks of a model of transformers."""
    hf: Any = model
    found: HuggingModel = hf
    return found


def _place_of(tensor: torch.Tensor, name: str) -> tuple[object, ...]:
    """The same for two names of one tensor."""
    if not tensor.numel():
        return (name,)
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
