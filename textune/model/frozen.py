"""Hashes of weights that stay as a backbone's files have them: checkpoints leave these out and name one hash of them
all; after `adapters.py`, below `backbone.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from textune.model.adapters import plain_name

OF_HF = "hf."
"""Begins the names of the weights of the Hugging Face model in a `TextModel`."""
_THREADS = 4
"""Weights hashed at once: hashing leaves Python's lock, and weights of a GPU are copied for it."""


def name_in_files(name: str) -> str:
    """What the Hugging Face model alone, without adapters, calls a weight of a `TextModel`."""
    return plain_name(name.removeprefix(OF_HF))


def weight_digest(weight: torch.Tensor) -> str:
    """A hash of the type, the shape and the numbers of a weight."""
    made = hashlib.blake2b(f"{weight.dtype} {list(weight.shape)} ".encode(), digest_size=16)
    flat = weight.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        made.update(flat.view(torch.uint8).numpy().data)
    return made.hexdigest()


def digests(weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The hash of each weight, by name."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(weights, pool.map(weight_digest, weights.values()), strict=True))


def fingerprint_of_weights(names: Iterable[str], digest_of: Callable[[str], str]) -> str:
    """One hash of weights of a `TextModel`, from those of each, and of what the files call them; empty of none."""
    lines = sorted(f"{name_in_files(name)} {digest_of(name)}\n" for name in names)
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest() if lines else ""
