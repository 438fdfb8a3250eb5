"""Which tokens of chunks a language model is asked to predict; beside `maker.py` and `heldout.py`."""

from __future__ import annotations

import numpy as np

from textune.batches import TokenStore


def scored_tokens(store: TokenStore) -> np.ndarray:
    """int64 [N] how many tokens of each row have mask 0, its first one left out: nothing predicts that."""
    if not len(store):
        return np.zeros(0, np.int64)
    scored_T = store.columns["mask"] == 0
    scored_T[store.offsets[:-1]] = False
    return np.add.reduceat(scored_T, store.offsets[:-1], dtype=np.int64)
