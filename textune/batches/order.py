"""The order of an epoch: which rows form each optimizer batch, drawn from a seed. After `tokens.py`, before `plan.py`.

Pure functions of lengths and weights; they do not depend on devices or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from textune.batches.olddraws import OldDraws
from textune.config import RowOrder
from textune.draws import Draws
from textune.errors import DataError, RunError

DRAWING = 2
"""How new runs draw the order of their rows. A run keeps the number it began with."""
FIRST_DRAWING = 1
"""The way of version 0.1.0, whose checkpoints do not record it."""
_DRAWINGS: dict[int, Callable[[int, int], Draws | OldDraws]] = {FIRST_DRAWING: OldDraws.of_key, DRAWING: Draws.of_key}

BUCKET_BATCHES = 50
"""Batches that `bucket` sorts by length at a time: enough for rows of nearly equal length, few enough to mix them
anew."""


def plan_epoch(
    lengths_N: np.ndarray,
    *,
    batch_size: int,
    order: RowOrder,
    seed: int,
    epoch: int,
    weights_N: np.ndarray | None = None,
    drawing: int = DRAWING,
) -> list[np.ndarray]:
    """The optimizer batches of one epoch: int64 row numbers below N, batches of at most `batch_size` rows.

    `shuffle` is a true random permutation, `sequential` 0, 1, 2, ...; the last batch may be short. `bucket` is a
    permutation cut into blocks of `BUCKET_BATCHES` batches; each block is sorted by length, cut into batches, and all
    batches of the epoch are put in random order, so the short one may be anywhere. `weighted` draws N rows with
    replacement in proportion to `weights_N`, float32 [N]; DataError if no weight is above 0. The other orders contain
    every row exactly once.

    The same arguments give the same batches on every platform, with every numpy and any number of processes.
    """
    num_rows = len(lengths_N)
    if order == "sequential":
        return _slices(np.arange(num_rows, dtype=np.int64), batch_size)
    draws = _DRAWINGS[drawing](seed, epoch)
    if order == "weighted":
        return _slices(_draw(require_drawable(weights_N), draws), batch_size)
    shuffled_N = draws.permutation(num_rows)
    if order == "shuffle":
        return _slices(shuffled_N, batch_size)
    return _bucketed(shuffled_N, lengths_N, batch_size, draws)


def require_known(drawing: int) -> int:
    """The same number; RunError where a later version drew the order of a checkpoint's run."""
    if drawing not in _DRAWINGS:
        raise RunError(
            f"the checkpoint draws the order of rows in way {drawing}, which this version of textune does not know.",
            hint="Resume it with the version of textune that it was saved with, or a later one.",
        )
    return drawing


def require_drawable(weights_N: np.ndarray | None) -> np.ndarray:
    """The weights that rows are drawn by; DataError where there is none above 0."""
    if weights_N is None or not weights_N.any():
        raise DataError(
            'train.order = "weighted" draws rows in proportion to their weights, but no training row has a weight'
            " above 0.",
            hint="Give rows a weight above 0 in the column that data.columns.weight names, or choose another"
            " train.order.",
        )
    return weights_N


def _slices(order_N: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [order_N[start : start + batch_size] for start in range(0, len(order_N), batch_size)]


def _draw(weights_N: np.ndarray, draws: Draws | OldDraws) -> np.ndarray:
    """As many draws as there are rows, by the inverse of the weights' running sum; a row of weight 0 is never
    drawn."""
    # A running sum adds one after the other, which gives the same bits on every platform; `sum` may add in groups.
    reached_N = np.cumsum(weights_N, dtype=np.float64)
    drawn_N = np.searchsorted(reached_N, draws.uniform(len(weights_N)) * reached_N[-1], side="right")
    return np.asarray(drawn_N, dtype=np.int64)


def _bucketed(
    shuffled_N: np.ndarray, lengths_N: np.ndarray, batch_size: int, draws: Draws | OldDraws
) -> list[np.ndarray]:
    batches: list[np.ndarray] = []
    for block in _slices(shuffled_N, BUCKET_BATCHES * batch_size):
        ascending = block[np.argsort(lengths_N[block], kind="stable")]
        num_whole, num_left = divmod(len(block), batch_size)
        sizes = [batch_size] * num_whole
        if num_left:
            # In a random place: rows of the short batch count for more, so these must not always be the longest ones.
            sizes.insert(draws.below(num_whole + 1), num_left)
        batches += np.split(ascending, np.cumsum(sizes)[:-1])
    return [batches[index] for index in draws.permutation(len(batches))]
