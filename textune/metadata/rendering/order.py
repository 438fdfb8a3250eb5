"""The order of inserts that touch the same character: so that tags nest, or as the original system has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.metadata.documents import NO_POSITION, Entries
from textune.metadata.rendering.inserts import Inserts
from textune.metadata.types import first_with_key

_CLOSING, _EMPTY, _EMPTY_CLOSING, _OPENING = range(4)
"""What comes first at a character: ends of spans with text, then tags without text, then starts of spans with
text."""


def nested_order(inserts: Inserts, entries: Entries, num_types: int) -> np.ndarray:
    """int64 [I]: by document and character; there, what began later ends first, and what ends later begins first.

    Of equal spans, those of an earlier type are inside, and those without positions inside those with positions.
    """
    entry, closing = inserts.entry, inserts.closing
    start, end = entries.start[entry], entries.end[entry]
    positioned, empty = entries.start_order[entry] != NO_POSITION, start == end
    own = _own_order(inserts, entries, positioned)
    rank = inserts.type + num_types * positioned
    phase = np.where(
        empty, np.where(closing & ~positioned, _EMPTY_CLOSING, _EMPTY), np.where(closing, _CLOSING, _OPENING)
    )
    far = np.select([phase == _CLOSING, phase == _OPENING], [-start, -end], 0)
    if (positioned & empty).any():
        _anchor(inserts, own, positioned, empty, phase, far)
    rank = np.where((phase == _CLOSING) | (phase == _EMPTY_CLOSING), rank, -rank)
    return np.lexsort((own, rank, far, _place(inserts) * 4 + phase))


def original_order(inserts: Inserts, entries: Entries, types: Sequence[str]) -> np.ndarray:
    """int64 [I]: by document and character; there, all tags with positions stand where tags without text do."""
    entry, closing = inserts.entry, inserts.closing
    start, end = entries.start[entry], entries.end[entry]
    positioned, empty = entries.start_order[entry] != NO_POSITION, start == end
    own = _own_order(inserts, entries, positioned)
    with_text = np.where(closing, _CLOSING, _OPENING)
    phase = np.where(positioned, _EMPTY, np.where(empty, np.where(closing, _EMPTY_CLOSING, _EMPTY), with_text))
    first_to_last = (phase == _CLOSING) | (phase == _EMPTY_CLOSING)
    rank = np.array(first_with_key(types))[inserts.type]
    rank = np.where(first_to_last, rank, -rank)
    far = np.where(phase == _OPENING, -end, 0)
    return np.lexsort((own, far, rank, _place(inserts) * 4 + phase))


def _place(inserts: Inserts) -> np.ndarray:
    """int64 [I] one number for each character of each document, ascending."""
    place: np.ndarray = inserts.document * (int(inserts.at.max(initial=0)) + 1) + inserts.at
    return place


def _own_order(inserts: Inserts, entries: Entries, positioned: np.ndarray) -> np.ndarray:
    """int64 [I] order among the inserts of one type: by position, otherwise the first entry inside the next."""
    entry, closing = inserts.entry, inserts.closing
    position = np.where(closing, entries.end_order[entry], entries.start_order[entry])
    return np.where(positioned, position, np.where(closing, entry, -entry))


def _anchor(
    inserts: Inserts, own: np.ndarray, positioned: np.ndarray, empty: np.ndarray, phase: np.ndarray, far: np.ndarray
) -> None:
    """Tags without text keep their place among tags of their type: before the next that ends there, or after the last
    that begins there, whose `phase` and `far` they take; a closing tag goes with its opening one."""
    which = np.flatnonzero(positioned)
    of_type = _place(inserts) * (int(inserts.type.max()) + 1) + inserts.type
    which = which[np.lexsort((own[which], of_type[which]))]
    group, here = of_type[which], np.arange(len(which))
    with_text = ~empty[which]
    ends = np.where(with_text & inserts.closing[which], here, len(which))
    following = np.minimum.accumulate(ends[::-1])[::-1]
    begins = np.where(with_text & ~inserts.closing[which], here, -1)
    preceding = np.maximum.accumulate(begins)
    before = (following < len(which)) & (group[np.minimum(following, len(which) - 1)] == group) & ~with_text
    after = (preceding >= 0) & (group[preceding] == group) & ~with_text & ~before
    for found, anchor in ((before, following), (after, preceding)):
        phase[which[found]] = phase[which[anchor[found]]]
        far[which[found]] = far[which[anchor[found]]]
    opening_of = np.full(int(inserts.entry.max()) + 1, -1)
    opening_of[inserts.entry[~inserts.closing]] = np.flatnonzero(~inserts.closing)
    pairs = np.flatnonzero(positioned & empty & inserts.closing & (opening_of[inserts.entry] >= 0))
    for key in (phase, far):
        key[pairs] = key[opening_of[inserts.entry[pairs]]]
