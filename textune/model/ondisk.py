"""A large table of frozen token embeddings stands in a file instead of in memory: a step reads a few rows of it; after
`mapped.py`, used by `TextModel.put_table_on_disk`.

The file is written for this process, since the backbone's own may be cut or replaced while a run reads it. It has no
name, so nobody finds it, and the space is free again when the table goes.

Shapes: V token ids, K ids that are read, H numbers per embedding.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from textune.atomic import sync_file
from textune.model.hugging import HuggingModel
from textune.model.mapped import MappedFiles
from textune.model.vocabulary import reads_rows_alone

LARGE = 64 << 20
"""Bytes from which a table is worth a file."""


def large_frozen_table(hf: HuggingModel) -> nn.Parameter | None:
    """The token embeddings [V, H] of a model on the processor, where they are large and frozen and every module that
    has them looks rows up; else None."""
    if not reads_rows_alone(hf):
        return None
    table = hf.get_input_embeddings().weight
    assert isinstance(table, nn.Parameter)
    return table if table.nbytes >= LARGE and not table.requires_grad else None


class TableOnDisk:
    """A frozen table [V, H] whose numbers stand in a file; memory holds the rows `read_K` and what else is read."""

    def __init__(self, table: nn.Parameter, folder: Path, read_K: np.ndarray) -> None:
        """Move the table into a file in `folder`, in place. OSError where that has no room."""
        self.num_bytes = table[0].nbytes * (len(table) - len(read_K))
        """Bytes of the rows that memory does not hold."""
        self._table = table
        self._read_K = torch.from_numpy(read_K)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(table.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            sync_file(file)
            view = mmap.mmap(file.fileno(), table.nbytes, access=mmap.ACCESS_COPY)
        rows_KH = table.detach()[self._read_K]
        table.data = torch.frombuffer(view, dtype=table.dtype).view(table.shape)
        self._hold(rows_KH)

    def give_back(self) -> None:
        """Give back the memory of all other rows, after the whole table was read."""
        rows_KH = self._table.detach()[self._read_K]
        MappedFiles().give_back(self._table)
        self._hold(rows_KH)

    def _hold(self, rows_KH: torch.Tensor) -> None:
        # What is written is a page of our own. Reading a page of the file would bring its neighbours into memory too.
        self._table.data.index_copy_(0, self._read_K, rows_KH)


def put_on_disk(table: nn.Parameter, folder: Callable[[], Path], read_K: np.ndarray) -> tuple[TableOnDisk | None, str]:
    """The table in a file in `folder`, and the fact in words; None where the file cannot be made."""
    size = f"a file of {table.nbytes / 1e6:,.0f} MB"
    try:
        on_disk = TableOnDisk(table, folder(), read_K)
    except OSError as error:
        return None, f"; it stays in memory, since {size} cannot be made ({error.strerror or error})"
    return on_disk, f"; it stands in {size}, and memory holds what is read of it"
