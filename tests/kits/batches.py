"""Token stores, chosen rows and loaders for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textune.batches.assembler import Assembler
from textune.batches.layout import Layout
from textune.batches.loader import Loader
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.schema import TrainSection
from textune.data.labels.map import LABEL


def store_of(
    lengths: Sequence[int] | np.ndarray, ids: np.ndarray | None = None, types: np.ndarray | None = None
) -> TokenStore:
    """A store of rows of these lengths, one for each example; all token ids are zero unless given."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = {"ids": np.zeros(offsets[-1], np.int32) if ids is None else ids.astype(np.int32)}
    if types is not None:
        columns["types"] = types.astype(np.uint8)
    return TokenStore(columns, offsets, np.array(lengths, dtype=np.int32), np.arange(len(lengths)))


def rows_of(
    store: TokenStore, targets: np.ndarray | Mapping[str, np.ndarray], weights: np.ndarray | None = None
) -> TokenRows:
    """All rows of a store, with a target for each, or one for each head."""
    by_head = targets if isinstance(targets, Mapping) else {LABEL: targets}
    return TokenRows(store, np.arange(len(store)), by_head, weights)


def loader_of(
    rows: TokenRows,
    section: TrainSection,
    *,
    layout: Layout = "packed",
    pad_id: int = 0,
    max_tokens: int | None = None,
    state: Mapping[str, Any] | None = None,
    **share: Any,
) -> Loader:
    """The loader of a run with this section; `share` are the other fields of its Assembler."""
    budget = section.max_tokens if max_tokens is None else max_tokens
    return Loader(
        rows,
        Plan.of(section, len(rows)),
        Assembler(layout, pad_id, **share),
        prefetch=section.prefetch,
        max_tokens=None if budget == "auto" else budget,
        state=state,
    )
