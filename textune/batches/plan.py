"""Pure functions of lengths: which rows form a batch, how it is shared, cut and laid out. After `tokens.py`.

    lengths --plan_epoch--> optimizer batches --share_rows--> a rank's rows --cut_by_tokens--> micro-batches --lay_out--> groups

Everything here is deterministic and knows nothing of devices. The plan knows nothing of the number of processes either.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from textune.config import RowOrder
from textune.errors import DataError

Layout = Literal["packed", "padded"]

GROUP_COST_TOKENS = 16
"""What one more group costs in a packed batch, in tokens computed, where its attention is a call of its own in every layer."""

BUCKET_BATCHES = 50
"""Batches that `bucket` sorts by length at a time: enough for rows of nearly equal length, few enough to mix anew."""


class Group(NamedTuple):
    """Neighbouring rows of a batch that share one rectangle of tokens."""

    rows: int
    """Number of rows."""
    length: int
    """Tokens of each row, padding included."""


def num_steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Optimizer steps that see every row once; the last batch may be smaller."""
    return -(-num_rows // batch_size)


def plan_epoch(
    lengths_N: np.ndarray,
    *,
    batch_size: int,
    order: RowOrder,
    seed: int,
    epoch: int,
    weights_N: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The optimizer batches of one epoch: int64 row numbers below N, `num_steps_per_epoch` batches of at most `batch_size`.

    `shuffle` is a true random permutation, `sequential` 0, 1, 2, ...; the last batch may be short. `bucket` is a permutation
    cut into blocks of `BUCKET_BATCHES` batches; each block is sorted by length, cut into batches, and all batches of the epoch
    are put in random order, so the short one may stand anywhere. `weighted` draws N rows with replacement in proportion to
    `weights_N`, float32 [N]; DataError where no weight is above 0. The others hold every row exactly once.

    The same arguments give the same batches on every platform, whatever the number of processes.
    """
    num_rows = len(lengths_N)
    if order == "sequential":
        return _slices(np.arange(num_rows, dtype=np.int64), batch_size)
    # Philox is counter based: the same (seed, epoch) gives the same order on every platform.
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    if order == "weighted":
        return _slices(_draw(require_drawable(weights_N), generator), batch_size)
    shuffled_N = generator.permutation(num_rows).astype(np.int64)
    if order == "shuffle":
        return _slices(shuffled_N, batch_size)
    return _bucketed(shuffled_N, lengths_N, batch_size, generator)


def require_drawable(weights_N: np.ndarray | None) -> np.ndarray:
    """The weights that rows are drawn by; DataError where there is none above 0."""
    if weights_N is None or not weights_N.any():
        raise DataError(
            'train.order = "weighted" draws rows in proportion to their weights, but no training row has a weight above 0.',
            hint="Give rows a weight above 0 in the column that data.columns.weight names, or choose another train.order.",
        )
    return weights_N


def _slices(order_N: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [order_N[start : start + batch_size] for start in range(0, len(order_N), batch_size)]


def _draw(weights_N: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many draws as there are rows, by the inverse of the weights' running sum; a row of weight 0 is never drawn."""
    # A running sum adds one after the other, which gives the same bits on every platform; `sum` may add in groups.
    reached_N = np.cumsum(weights_N, dtype=np.float64)
    drawn_N = np.searchsorted(reached_N, generator.random(len(weights_N)) * reached_N[-1], side="right")
    return np.asarray(drawn_N, dtype=np.int64)


def _bucketed(
    shuffled_N: np.ndarray, lengths_N: np.ndarray, batch_size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    batches: list[np.ndarray] = []
    for block in _slices(shuffled_N, BUCKET_BATCHES * batch_size):
        ascending = block[np.argsort(lengths_N[block], kind="stable")]
        num_whole, num_left = divmod(len(block), batch_size)
        sizes = [batch_size] * num_whole
        if num_left:
            # At a random place: a row of the short batch counts for more, and these must not be the longest in every epoch.
            sizes.insert(int(generator.integers(num_whole + 1)), num_left)
        batches += np.split(ascending, np.cumsum(sizes)[:-1])
    return [batches[index] for index in generator.permutation(len(batches))]


def share_rows(lengths_B: np.ndarray, world: int) -> list[np.ndarray]:
    """Positions (into `lengths_B`, ascending) of the rows of each of `world` ranks; every row belongs to exactly one.

    Balanced by tokens: the longest row first, each to the rank with the fewest tokens so far, the lowest of equals. No rank
    then has more tokens than any other plus one row's. With fewer rows than ranks, some ranks have none; one rank has all rows
    as they stand.
    """
    loads = [(0, rank) for rank in range(world)]
    shares: list[list[int]] = [[] for _ in range(world)]
    for position in np.argsort(-lengths_B, kind="stable").tolist():
        tokens, rank = loads[0]
        shares[rank].append(position)
        heapq.heapreplace(loads, (tokens + int(lengths_B[position]), rank))
    return [np.sort(np.array(share, dtype=np.int64)) for share in shares]


def cut_by_tokens(lengths: np.ndarray, max_tokens: int, *, layout: Layout) -> list[np.ndarray]:
    """Positions (into `lengths`) of micro-batches of at most `max_tokens` tokens each, rows sorted by length.

    A padded micro-batch counts as rows x its longest row, a packed one as its real tokens; `lay_out` keeps its padding within
    the same bound. Rows keep their order among equals, so the cut is a function of the lengths alone. A row longer than
    `max_tokens` stands alone: the caller has refused or accepted that before.
    """
    positions = np.argsort(lengths, kind="stable")
    cuts: list[np.ndarray] = []
    start, tokens = 0, 0
    for end, position in enumerate(positions):
        length = int(lengths[position])
        # Rows ascend, so `length` is the longest so far: what a padded rectangle (and the worst packed group) would be.
        size = (end - start + 1) * length if layout == "padded" else tokens + length
        if end > start and size > max_tokens:
            cuts.append(positions[start:end])
            start, tokens = end, 0
        tokens += length
    if len(positions):
        cuts.append(positions[start:])
    return cuts


def num_laid_out(groups: Iterable[Group]) -> int:
    """Tokens that a layout computes, padding included."""
    return sum(group.rows * group.length for group in groups)


def lay_out(
    sorted_lengths: np.ndarray, *, layout: Layout, group_cost: int = GROUP_COST_TOKENS, max_tokens: int | None = None
) -> tuple[Group, ...]:
    """Cut rows that ascend in length into groups, minimising tokens computed + `group_cost` x number of groups.

    `padded` gives one group. `group_cost=0` leaves no padding at all, so it is halved until the groups fit into `max_tokens`;
    they always do where the real tokens fit.
    """
    if len(sorted_lengths) == 0:
        return ()
    if layout == "padded":
        return (Group(len(sorted_lengths), int(sorted_lengths[-1])),)
    groups = _best_groups(sorted_lengths, group_cost)
    while max_tokens is not None and group_cost > 0 and num_laid_out(groups) > max_tokens:
        group_cost //= 2
        groups = _best_groups(sorted_lengths, group_cost)
    return groups


def _best_groups(sorted_lengths: np.ndarray, group_cost: int) -> tuple[Group, ...]:
    """Dynamic programming over the distinct lengths; where groups cost nothing, each length is one."""
    distinct, counts = np.unique(sorted_lengths, return_counts=True)
    if group_cost == 0:
        return tuple(Group(int(rows), int(length)) for rows, length in zip(counts, distinct, strict=True))
    rows_before = np.concatenate([[0], np.cumsum(counts)])
    best = np.zeros(len(distinct) + 1)
    cut_at = np.zeros(len(distinct) + 1, dtype=np.int64)
    for end in range(1, len(distinct) + 1):
        # A group of the distinct lengths start..end-1 is as wide as the longest of them.
        costs = best[:end] + (rows_before[end] - rows_before[:end]) * distinct[end - 1] + group_cost
        cut_at[end] = int(np.argmin(costs))
        best[end] = costs[cut_at[end]]
    groups: list[Group] = []
    end = len(distinct)
    while end > 0:
        start = int(cut_at[end])
        groups.append(Group(int(rows_before[end] - rows_before[start]), int(distinct[end - 1])))
        end = start
    return tuple(reversed(groups))


def padding_waste(lengths: np.ndarray, batches: list[np.ndarray], *, pad_to: int | None = None) -> float:
    """Share of the tokens computed that would be padding, if each batch were padded to its longest row (or to `pad_to`)."""
    real = sum(int(lengths[batch].sum()) for batch in batches)
    computed = sum(len(batch) * (pad_to or int(lengths[batch].max())) for batch in batches)
    return 1.0 - real / computed if computed else 0.0
