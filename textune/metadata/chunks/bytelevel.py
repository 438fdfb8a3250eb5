"""How many bytes of a text each token of a byte-level tokenizer stands for; before `flattokens.py`.

Such a tokenizer writes a text as bytes, cuts these, and leaves none out: its tokens one after the other are the bytes
of the text. So the characters of each follow from the sizes of the tokens before it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

_CUTTING = ("ByteLevel", "Digits", "Punctuation", "Split")
"""Pre-tokenizers that cut a text and change nothing in it."""
_COMPOSING = ("NFC",)
"""Normalizers that leave ASCII as it is, and most other texts, too."""


def bytes_of_tokens(backend: Tokenizer) -> np.ndarray | None:
    """int32 [V] how many bytes each token is, 0 where it may be one number or another; None for a tokenizer of another
    kind."""
    if not (_is_plain_bpe(backend.model) and _writes_bytes(backend.pre_tokenizer) and _keeps_most(backend.normalizer)):
        return None
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if not vocabulary.keys() >= set(pre_tokenizers.ByteLevel.alphabet()):
        return None
    added = backend.get_added_tokens_decoder()
    ids = np.fromiter(vocabulary.values(), np.int64, len(vocabulary))
    sizes = np.zeros(max(int(ids.max()), *added, 0) + 1, dtype=np.int32)
    # Of the tokens that the model makes, each character stands for a byte.
    sizes[ids] = np.fromiter(map(len, vocabulary), np.int32, len(vocabulary))
    for number, token in added.items():
        known = not (token.lstrip or token.rstrip) and _is_found_as_written(backend, token)
        size = len(token.content.encode()) if known else 0
        sizes[number] = size if sizes[number] in (0, size) else 0
    return sizes


def keeps(backend: Tokenizer, texts: list[str]) -> bool:
    """Whether the tokenizer's normalizer changes none of these texts."""
    normalizer = backend.normalizer
    return normalizer is None or all(text.isascii() or normalizer.normalize_str(text) == text for text in texts)


def _is_found_as_written(backend: Tokenizer, token: AddedToken) -> bool:
    """Whether an added token stands in texts as it is named, and not as the normalizer writes it."""
    return not token.normalized or keeps(backend, [token.content])


def _is_plain_bpe(model: Any) -> bool:
    """Whether its tokens put together are what it was given."""
    if not isinstance(model, models.BPE):
        return False
    return not (model.continuing_subword_prefix or model.end_of_word_suffix or model.byte_fallback)


def _writes_bytes(part: Any) -> bool:
    """Whether a pre-tokenizer writes texts as bytes, and changes nothing else."""
    if part is None:
        return False
    settings = json.loads(part.__getstate__())
    steps = settings["pretokenizers"] if settings["type"] == "Sequence" else [settings]
    names = [step["type"] for step in steps]
    spaces = any(step.get("add_prefix_space") for step in steps)
    return names.count("ByteLevel") == 1 and not spaces and all(name in _CUTTING for name in names)


def _keeps_most(part: Any) -> bool:
    """Whether a normalizer leaves ASCII as it is."""
    return part is None or json.loads(part.__getstate__())["type"] in _COMPOSING
