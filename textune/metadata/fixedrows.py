"""Documents one after the other, cut into rows of one length (`data.chunks = "fixed"`); before `maker.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from textune.batches import TokenStore


def cut_rows(documents: TokenStore, length: int) -> TokenStore:
    """Rows of `length` tokens each, the last one of what is left, cut from documents of one row each; every row is an
    example of its own."""
    total = len(documents.ids)
    offsets = np.append(np.arange(0, total, length), total)
    return replace(
        documents,
        offsets=offsets,
        raw_lengths=np.diff(offsets).astype(np.int32),
        example=np.arange(len(offsets) - 1),
        sources=None,
    )
