"""Safetensors files, written as they are hashed, and read without being mapped; below `checkpoint.py`.

The safetensors library copies every tensor before it writes, and a file must be read again to be hashed. A checkpoint
is several times as large as the model and is written while training continues, so its bytes are touched once: straight
from the tensors to file and hash, outside of Python's lock.

What the library reads is a view of the mapped file. A run that kept such views would hold the disk space of a
checkpoint that it has removed, so tensors are read into memory of their own here.

Format: https://github.com/huggingface/safetensors#format (8 bytes length, JSON header, tensors).
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textune.atomic import sync_file

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPE_OF = {name: dtype for dtype, name in TYPES.items()}
_ALIGNMENT = 8
_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_BLOCK_BYTES = 1 << 22
"""Written and hashed at once."""


@dataclass(frozen=True)
class FileFacts:
    """What tells a complete file from a damaged or changed one."""

    bytes: int
    blake2b: str

    def to_dict(self) -> dict[str, int | str]:
        """As JSON stores it."""
        return {"bytes": self.bytes, "blake2b": self.blake2b}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> FileFacts:
    """Write contiguous tensors of the CPU as a safetensors file and sync it to the disk; OSError where there is no
    space.

    ValueError for a type that the format has no name for.
    """
    header: dict[str, dict[str, object]] = {}
    start = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            raise ValueError(f"{name}: a safetensors file cannot hold {tensor.dtype}")
        end = start + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    digest = hashlib.blake2b(digest_size=16)
    with path.open("wb", buffering=0) as file:
        written = 0
        start_of_file = len(text).to_bytes(8, "little") + text
        for view in (memoryview(start_of_file), *(_bytes_of(tensor) for tensor in tensors.values())):
            for at in range(0, len(view), _BLOCK_BYTES):
                part = view[at : at + _BLOCK_BYTES]
                done = 0
                while done < len(part):  # without a buffer a write may take less than it is given
                    done += file.write(part[done:])
                digest.update(part)
                written += len(part)
        sync_file(file)
    return FileFacts(written, digest.hexdigest())


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def write_bytes(path: Path, data: bytes) -> FileFacts:
    """Write a small file and sync it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        sync_file(file)
    return FileFacts(len(data), hashlib.blake2b(data, digest_size=16).hexdigest())


def facts_of(path: Path) -> FileFacts:
    """Size and hash of a file as it stands."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileFacts(size, digest.hexdigest())


@dataclass(frozen=True)
class Place:
    """Where a tensor stands."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Of its first byte in the file."""

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU, in memory of its own. OSError where the file ends before it does."""
        size = math.prod(self.shape) * self.dtype.itemsize
        flat = torch.empty(size, dtype=torch.uint8)
        view, done = flat.numpy().data, 0
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            while done < size:
                got = file.readinto(view[done:])
                if not got:
                    raise OSError(f"{self.path.name} ends within a tensor")
                done += got
        return flat.view(self.dtype).reshape(self.shape)


def places_in(path: Path) -> dict[str, Place]:
    """The tensors of a safetensors file, by name. ValueError where it is not such a file, OSError where it cannot be
    read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"{path.name} is not a safetensors file")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        return {name: _place(path, entry, first=8 + length, end=size) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not a safetensors file: {error}") from error


def _place(path: Path, entry: Any, *, first: int, end: int) -> Place:
    dtype, shape = _TYPE_OF[entry["dtype"]], tuple(map(operator.index, entry["shape"]))
    start, stop = (first + operator.index(one) for one in entry["data_offsets"])
    fits = min(shape, default=0) >= 0 and stop - start == math.prod(shape) * dtype.itemsize
    if not (fits and first <= start <= stop <= end):
        raise ValueError("a tensor lies outside the file")
    return Place(path, dtype, shape, start)
