"""A Hugging Face model that computes as textune's padded layout does, for exporters, which call nothing else; after
`backbone.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import transformers

from textune.model.backbone import TextModel
from textune.model.hugging import Forward, HuggingModel


@contextlib.contextmanager
def called_padded(model: TextModel) -> Iterator[None]:
    """While this lasts, a call of `model.hf` with tensors [B, L] gives the logits of `model`: by the heads that accept
    every batch, and with ids without an embedding replaced."""
    model.set_layout("padded")
    model.eval()
    own = model.hf.forward
    model.hf.forward = partial(_logits, model, own)
    try:
        with _one_language(model.hf):
            yield
    finally:
        model.hf.forward = own


@contextlib.contextmanager
def _one_language(hf: HuggingModel) -> Iterator[None]:
    """Leave X-MOD the adapters of its default language alone, which is that of every row.

    It calls those of each language with the rows that are in it; ONNX Runtime stops where these are none.
    """
    every = {
        module: adapters
        for module in hf.modules()
        if isinstance(adapters := getattr(module, "adapter_modules", None), torch.nn.ModuleDict)
    }
    try:
        for module, adapters in every.items():
            default = hf.config.default_language
            module.adapter_modules = torch.nn.ModuleDict({default: adapters[default]})
        yield
    finally:
        for module, adapters in every.items():
            module.adapter_modules = adapters


def _logits(
    model: TextModel, own: Forward, **inputs: torch.Tensor
) -> transformers.modeling_outputs.SequenceClassifierOutput:
    logits_BC = model.padded_logits(inputs, forward=own)
    return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits_BC)
