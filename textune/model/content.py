"""One hash for the content of many weights: how a run and a saved adapter know the weights that they leave out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

_THREADS = 4
"""Weights hashed at once: hashing leaves Python's lock, and weights of a GPU are copied for it."""


def content_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and numbers, whatever the order and the device; each tensor is whole."""
    return joint_hash(weight_hashes(tensors))


def joint_hash(hashes: Mapping[str, str]) -> str:
    """`content_hash` of weights from the hash of each, by name; empty of none."""
    lines = [f"{name} {hashes[name]}\n" for name in sorted(hashes)]
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest() if lines else ""


def weight_hashes(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The hash of each weight by itself, by name."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(tensors, pool.map(weight_hash, tensors.values()), strict=True))


def weight_hash(weight: torch.Tensor) -> str:
    """A hash of the type, the shape and the numbers of one weight."""
    tensor = weight.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{tensor.dtype} {list(tensor.shape)}\n".encode(), digest_size=16)
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
