"""Weights that several opened models have in common are held once, such as the backbone beneath several adapters;
after `recipe.py`."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable

import torch
from torch import nn

from textune.model.backbone import TextModel
from textune.model.native import join_copies


def hold_once(model: TextModel, others: Iterable[TextModel]) -> int:
    """Let the weights of `model` that one of the `others` has too, under the same name and bit for bit, be the same
    memory; return the bytes that this frees.

    All of them are prepared for prediction. Copies that compiled kernels make are shared with the weights. Nothing
    that a model computes changes, and what becomes of one model later leaves the others as they are: a weight must
    only never be written in place.
    """
    freed = 0
    alone = {name: weight for name, weight in model.named_parameters() if weight.numel()}
    for other in others:
        if other is model:
            continue
        theirs = dict(other.named_parameters())
        same = {name for name, weight in alone.items() if name in theirs and _same(weight, theirs[name])}
        freed += sum(_share(alone[name], theirs[name]) for name in same)
        join_copies([alone[name] for name in same], [theirs[name] for name in same])
        alone = {name: weight for name, weight in alone.items() if name not in same}
    if freed:
        _give_back()
    return freed


def _give_back() -> None:
    """Give freed memory back to the system, where the C library can: glibc keeps what is less than 32 MB for itself,
    which every weight of a small model is."""
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(ctypes.c_size_t(0))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two weights are the same numbers bit for bit, laid out alike on the same device."""
    alike = (one.dtype, one.shape, one.stride(), one.device) == (
        other.dtype,
        other.shape,
        other.stride(),
        other.device,
    )
    return alike and (one.data_ptr() == other.data_ptr() or torch.equal(_bytes(one), _bytes(other)))


def _bytes(weight: torch.Tensor) -> torch.Tensor:
    """Its numbers as they are in memory: 0 is not -0, and not a number is what it is."""
    return weight.detach().contiguous().reshape(-1).view(torch.uint8)


def _share(weight: nn.Parameter, other: nn.Parameter) -> int:
    """Let `weight` be a view of the memory of `other`; the bytes that this frees."""
    if weight.data_ptr() == other.data_ptr():
        return 0
    weight.data = other.data
    return weight.nbytes
