"""Backbones: a pretrained model and its tokenizer, from token batches to logits, saved as a plain Hugging Face folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
