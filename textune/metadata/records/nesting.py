"""Whether the tags of a document nest: all documents in one sort; part of `validation.py`."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

MOST_CROSSED = 64
"""Spans that one may cross, which are closed and opened again: without a limit, a text would grow with the square of
their number."""


def repeated_positions(
    group_E: np.ndarray, start_E: np.ndarray, end_E: np.ndarray, start_order_E: np.ndarray, end_order_E: np.ndarray
) -> np.ndarray:
    """bool [E]: entries with a tag at the place of another tag of its group, of the same or an earlier entry."""
    place_T, entry_T = _tags(start_E, end_E), np.tile(np.arange(len(group_E)), 2)
    order_T = np.concatenate([start_order_E, end_order_E])
    group_T = group_E[entry_T]
    sort = np.lexsort((entry_T, order_T, place_T, group_T))
    same = np.ones(max(0, len(sort) - 1), bool)
    for key in (order_T, place_T, group_T):
        same &= key[sort][1:] == key[sort][:-1]
    repeated_E = np.zeros(len(group_E), bool)
    repeated_E[entry_T[sort][1:][same]] = True
    return repeated_E


def closed_before_open(
    group_E: np.ndarray, start_E: np.ndarray, end_E: np.ndarray, start_order_E: np.ndarray, end_order_E: np.ndarray
) -> np.ndarray:
    """bool [E]: entries without text whose closing tag comes before their opening one."""
    reversed_E: np.ndarray = (start_E == end_E) & (start_order_E > end_order_E)
    return reversed_E


def against_the_rules(
    group_E: np.ndarray, start_E: np.ndarray, end_E: np.ndarray, start_order_E: np.ndarray, end_order_E: np.ndarray
) -> np.ndarray:
    """bool [E]: entries to leave out so that the tags of each group nest; all positions differ."""
    num = len(group_E)
    entry_T = np.tile(np.arange(num), 2)
    group_T = group_E[entry_T]
    sort = np.lexsort((np.concatenate([start_order_E, end_order_E]), _tags(start_E, end_E), group_T))
    entry_T, group_T, opens_T = entry_T[sort], group_T[sort], (np.arange(2 * num) < num)[sort]
    # Each entry opens and closes once, so the depth is 0 between groups. At one level, tags open and close in turn.
    depth_T = np.cumsum(np.where(opens_T, 1, -1))
    level_T = np.where(opens_T, depth_T, depth_T + 1)
    by_level = np.lexsort((level_T, group_T))
    first, second = by_level[0::2], by_level[1::2]
    fits = opens_T[first] & (entry_T[first] == entry_T[second])
    crossing_E = np.zeros(num, bool)
    for group in np.unique(group_T[first[~fits]]).tolist():
        chosen = slice(*np.searchsorted(group_T, [group, group + 1]))
        crossing_E[_crossing(entry_T[chosen].tolist(), opens_T[chosen].tolist())] = True
    return crossing_E


def _tags(start_E: np.ndarray, end_E: np.ndarray) -> np.ndarray:
    return np.concatenate([start_E, end_E])


def _crossing(entries: list[int], opens: list[bool]) -> list[int]:
    """Entries to leave out so that the rest nests: of two that cross, the one that opens later."""
    stack: list[int] = []
    is_open: set[int] = set()
    left_out: set[int] = set()
    for entry, is_opening in zip(entries, opens, strict=True):
        if entry in left_out:
            continue
        if is_opening:
            stack.append(entry)
            is_open.add(entry)
        elif entry not in is_open:
            left_out.add(entry)
        else:
            while (last := stack.pop()) != entry:
                left_out.add(last)
    return sorted(left_out)


def crossing_too_many(document_E: np.ndarray, start_E: np.ndarray, end_E: np.ndarray) -> np.ndarray:
    """bool [E]: entries that begin within more than MOST_CROSSED spans which end before they do. What is left out
    crosses nothing."""
    place_E = document_E * (int(end_E.max(initial=0)) + 1)
    with_text = start_E < end_E
    starts, ends = np.sort((place_E + start_E)[with_text]), np.sort((place_E + end_E)[with_text])
    # A span crosses no more others than are open where it begins.
    num_open = np.arange(len(starts)) - np.searchsorted(ends, starts, side="right")
    many_E = np.zeros(len(document_E), bool)
    for document in np.unique(starts[num_open > MOST_CROSSED] // (int(end_E.max(initial=0)) + 1)).tolist():
        entries = np.flatnonzero(with_text & (document_E == document))
        order = entries[np.lexsort((-end_E[entries], start_E[entries]))]
        many_E[order] = _crosses_too_many(start_E[order].tolist(), end_E[order].tolist())
    return many_E


def _crosses_too_many(starts: list[int], ends: list[int]) -> list[bool]:
    """Of the spans of a document, by their starts; of equal starts, longer ones first."""
    open_until: list[int] = []  # ends below 0, ascending: that of the span which ends first stands last
    many = []
    for start, end in zip(starts, ends, strict=True):
        while open_until and -open_until[-1] <= start:
            open_until.pop()
        place = bisect_right(open_until, -end)
        many.append(len(open_until) - place > MOST_CROSSED)
        if not many[-1]:
            open_until.insert(place, -end)
    return many
