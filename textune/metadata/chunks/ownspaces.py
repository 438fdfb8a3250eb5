"""Tokenizers that put a space before a text of their own accord, so that its first word is like any other; before
`texttokens.py`.

Where a text is tokenised in parts they would put one before each part, even in the middle of a word. So the parts are
tokenised without, and the space is put before the whole text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

Spaces = Callable[[str], bool]
"""Whether a text gets a space."""
_SAMPLES = ("a", "a b", "ab, a", " a", "a  b ", "\na")


def without_own_spaces(backend: Tokenizer) -> tuple[Tokenizer, Spaces]:
    """A tokenizer that puts no space before a text, and which texts need one to have the tokens that `backend` gives
    them; `backend` itself and none, where it does not do so or cannot do without."""
    settings = json.loads(backend.to_str())
    changed = {
        "normalizer": _without_prepend(settings["normalizer"]),
        "pre_tokenizer": _without_prefix(settings["pre_tokenizer"]),
    }
    if all(settings[part] == value for part, value in changed.items()):
        return backend, _never
    other: Tokenizer = Tokenizer.from_str(json.dumps(settings | changed, allow_nan=False))
    for spaces in (_never, _always, _unless_there):
        texts = [f" {text}" if spaces(text) else text for text in _SAMPLES]
        if _ids(other, texts) == _ids(backend, _SAMPLES):
            return other, spaces
    return backend, _never


def _never(text: str) -> bool:
    return False


def _always(text: str) -> bool:
    return bool(text)


def _unless_there(text: str) -> bool:
    return bool(text) and not text.startswith(" ")


def _ids(backend: Tokenizer, texts: Any) -> list[list[int]]:
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def _without_prepend(part: Any) -> Any:
    """A normalizer that prepends nothing (Llama 2)."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Sequence":
        return part | {"normalizers": [one for one in part["normalizers"] if one["type"] != "Prepend"]}
    return part


def _without_prefix(part: Any) -> Any:
    """A pre-tokenizer that puts no space before a text. One that has split a text into words before that (T5) does not
    keep spaces at all: each of its words gets one."""
    if part is None:
        return None
    if part["type"] == "Sequence":
        first, *others = part["pretokenizers"] or [None]
        return part | {"pretokenizers": [_without_prefix(first), *others]} if first else part
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    return part
