"""Weights are views of a mapped file: what was copied of it is given back; before `loading.py`.

Every page of a mapped file that was read counts as memory of this process until the file is unmapped. Copying a model
would so hold it twice, which is more than training a few numbers of it ever takes.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

import torch

MAPS = Path("/proc/self/maps")
"""Linux tells here what every part of the address space shows."""
_BLOCK = 1 << 22
"""Numbers copied at once: a copy is never in memory beside the whole of what it is made from."""


class MappedFiles:
    """The parts of this process's address space that show files, as they are when this is made."""

    def __init__(self) -> None:
        can = hasattr(mmap, "MADV_DONTNEED") and MAPS.exists()
        self._parts = list(_parts()) if can else []

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in memory; what was read of a file for it is given back, block by block where that is possible."""
        copied = torch.empty_like(tensor)
        if not tensor.is_contiguous():
            copied.copy_(tensor)
            self.give_back(tensor)
            return copied
        for block, place in zip(*(each.view(-1).split(_BLOCK) for each in (tensor, copied)), strict=True):
            place.copy_(block)
            self.give_back(block)
        return copied

    def give_back(self, tensor: torch.Tensor) -> None:
        """Give back the memory of a tensor that is a view of a file; whoever reads it again, reads the file again.

        Other tensors, and pages that hold something else as well, stay as they are.
        """
        start, end = _span(tensor)
        if not any(first <= start and end <= last for first, last in self._parts):
            return
        first_page, last_page = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if first_page < last_page:
            length = ctypes.c_size_t(last_page - first_page)
            # A refusal costs nothing but the memory.
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first_page), length, mmap.MADV_DONTNEED)


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """(start, end) of its numbers, or of all that it is a view of where these are scattered."""
    if tensor.is_contiguous():
        return tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _parts() -> Iterator[tuple[int, int]]:
    """(start, end) of each part that shows a file and that this process alone may have changed."""
    for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, access, *_, path = [*line.split(maxsplit=5), "", ""][:6]
        if path.startswith("/") and access.endswith("p"):
            first, last = span.split("-")
            yield int(first, 16), int(last, 16)
