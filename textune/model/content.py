"""One hash for the content of many weights: how a run and a saved adapter know the weights that they leave out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def content_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and numbers, whatever the order and the device; each tensor is whole."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
