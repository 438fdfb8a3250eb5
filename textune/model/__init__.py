"""Backbones: a pretrained model and its tokenizer, from token batches to logits, saved as a plain Hugging Face folder."""

from textune.model.backbone import TextModel, checkpoint_labels, load_model, load_tokenizer, require_backbone
from textune.model.device import Device, Precision, resolve_device

__all__ = [
    "Device",
    "Precision",
    "TextModel",
    "checkpoint_labels",
    "load_model",
    "load_tokenizer",
    "require_backbone",
    "resolve_device",
]
