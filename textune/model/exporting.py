"""A Hugging Face model that computes as textune's padded layout does, for exporters, which call nothing else; after
`backbone.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import transformers

from textune.model.backbone import TextModel
from textune.model.hugging import Forward


@contextlib.contextmanager
def called_padded(model: TextModel) -> Iterator[None]:
    """While this lasts, a call of `model.hf` with tensors [B, L] gives the logits of `model`: by the heads that accept
    every batch, and with ids without an embedding replaced."""
    model.set_layout("padded")
    model.eval()
    own = model.hf.forward
    model.hf.forward = partial(_logits, model, own)
    try:
        yield
    finally:
        model.hf.forward = own


def _logits(
    model: TextModel, own: Forward, **inputs: torch.Tensor
) -> transformers.modeling_outputs.SequenceClassifierOutput:
    logits_BC = model.padded_logits(inputs, forward=own)
    return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits_BC)
