"""How an optimizer batch is shared, cut and laid out: pure functions of row lengths. After `plan.py`, before
`loader.py`.

optimizer batch --share_rows--> a rank's rows --cut_by_tokens--> micro-batches --lay_out--> groups
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from textune.config import TokensSection

Layout = Literal["packed", "padded"]

GROUP_COST_TOKENS = 16
"""Cost, in computed tokens, of one more group in a packed batch: it adds a call of attention in every layer."""


class Group(NamedTuple):
    """Neighbouring rows of a batch that share one rectangle of tokens."""

    rows: int
    """Number of rows."""
    length: int
    """Tokens of each row, padding included."""


@dataclass(frozen=True)
class Padding:
    """How long the padded layout makes rows, beyond the longest one computed at once; the default adds nothing."""

    to: int = 1
    """Tokens that every row gets at least."""
    multiple: int = 1
    """The length of a row is a multiple of this."""

    @classmethod
    def of(cls, section: TokensSection) -> Padding:
        """As the section asks, whose `max_length` is known."""
        to = section.longest if section.pad == "max_length" else 1
        return cls(to, section.pad_multiple or 1)

    def widths(self, lengths: np.ndarray) -> np.ndarray:
        """Tokens that rows of these lengths take by themselves, in the same order."""
        if self == NO_PADDING:
            return lengths
        return np.asarray(-(-np.maximum(lengths, self.to) // self.multiple) * self.multiple)


NO_PADDING = Padding()


def share_rows(lengths_B: np.ndarray, world: int) -> list[np.ndarray]:
    """Positions (into `lengths_B`, ascending) of the rows of each of `world` ranks; every row belongs to exactly one.

    Balanced by tokens: the longest row first, each to the rank with the fewest tokens so far (the lowest of equals).
    So no two ranks differ by more than the tokens of one row. With fewer rows than ranks, some ranks have none; a
    single rank has all rows in their order.
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

    A padded micro-batch counts as rows x its longest row, a packed one as its real tokens; `lay_out` keeps its padding
    within the same budget. Rows of equal length keep their order, so the cut is a function of the lengths alone. A row
    longer than `max_tokens` is a micro-batch by itself: the caller has refused or accepted that before.
    """
    positions = np.argsort(lengths, kind="stable")
    cuts: list[np.ndarray] = []
    start, tokens = 0, 0
    for end, position in enumerate(positions):
        length = int(lengths[position])
        # Rows ascend, so `length` is the longest so far: the width of a padded rectangle (and of the worst packed
        # group).
        size = (end - start + 1) * length if layout == "padded" else tokens + length
        if end > start and size > max_tokens:
            cuts.append(positions[start:end])
            start, tokens = end, 0
        tokens += length
    if len(positions):
        cuts.append(positions[start:])
    return cuts


def num_laid_out(groups: Iterable[Group]) -> int:
    """Tokens that a layout computes, including padding."""
    return sum(group.rows * group.length for group in groups)


def lay_out(
    sorted_lengths: np.ndarray, *, layout: Layout, group_cost: int = GROUP_COST_TOKENS, max_tokens: int | None = None
) -> tuple[Group, ...]:
    """Cut rows that ascend in length into groups, minimising tokens computed + `group_cost` x number of groups.

    `padded` gives one group. A `group_cost` of 0 leaves no padding, so the cost is halved until the groups fit into
    `max_tokens`, which they always do in the end if the real tokens fit.
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
    """Dynamic programming over the distinct lengths; if groups cost nothing, each length is a group."""
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
    """Share of the tokens computed that would be padding, if each batch were padded to its longest row (or to
    `pad_to`)."""
    real = sum(int(lengths[batch].sum()) for batch in batches)
    computed = sum(len(batch) * (pad_to or int(lengths[batch].max())) for batch in batches)
    return 1.0 - real / computed if computed else 0.0
