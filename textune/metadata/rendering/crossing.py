"""Tags that cross each other, made to nest: the one that began later is closed, and opened again."""

from __future__ import annotations

import numpy as np

from textune.metadata.documents import NO_POSITION, Entries
from textune.metadata.rendering.inserts import Inserts


def is_paired(inserts: Inserts, num_entries: int) -> np.ndarray:
    """bool [I] which inserts belong to an entry with an opening and a closing insert."""
    real = inserts.entry != NO_POSITION
    num_inserts = np.bincount(inserts.entry[real], minlength=num_entries)
    paired: np.ndarray = real & (num_inserts[inserts.entry] > 1)
    return paired


def nest(inserts: Inserts, entries: Entries) -> Inserts:
    """Ordered inserts, with those of spans that cross closed and opened again."""
    paired = is_paired(inserts, len(entries))
    crossing = _crossing_documents(inserts[paired])
    if not len(crossing):
        return inserts
    first = np.searchsorted(inserts.document, crossing, "left").tolist()
    last = np.searchsorted(inserts.document, crossing, "right").tolist()
    parts, done = [], 0
    for begin, end in zip(first, last, strict=True):
        parts += [inserts[done:begin], _nested(inserts[begin:end], paired[begin:end], entries)]
        done = end
    return Inserts.joined([*parts, inserts[done:]])


def _crossing_documents(inserts: Inserts) -> np.ndarray:
    """int64, ascending: the documents in which the tag that closes is not always the last that opened."""
    step = np.where(inserts.closing, -1, 1)
    depth = np.cumsum(step) - (step > 0)
    by_depth = np.argsort(depth, kind="stable")
    opened, closed = by_depth[0::2], by_depth[1::2]
    return np.unique(inserts.document[opened[inserts.entry[opened] != inserts.entry[closed]]])


def _nested(inserts: Inserts, paired: np.ndarray, entries: Entries) -> Inserts:
    """The inserts of one document."""
    columns = list(zip(inserts.entry.tolist(), inserts.closing.tolist(), inserts.text.tolist(), strict=True))
    text_of = {(entry, closing): text for entry, closing, text in columns}
    at, is_tag = inserts.at.tolist(), paired.tolist()
    end_of = dict(zip(inserts.entry.tolist(), entries.end[inserts.entry].tolist(), strict=True))
    made: list[tuple[int, bool, int]] = []  # entry, whether it closes, the insert that it stands beside
    open_tags: list[int] = []
    is_open: set[int] = set()
    for index, (entry, closing, _) in enumerate(columns):
        if not is_tag[index]:
            made.append((entry, closing, index))
        elif not closing:
            open_tags.append(entry)
            is_open.add(entry)
            made.append((entry, False, index))
        elif entry in is_open:
            inside = []
            while (other := open_tags.pop()) != entry:
                inside.append(other)
            made += [(other, True, index) for other in [*inside, entry]]
            again = [other for other in reversed(inside) if end_of[other] > at[index]]
            made += [(other, False, index) for other in again]
            open_tags += again
            is_open.difference_update({entry, *inside}.difference(again))
    beside = inserts[np.array([index for _, _, index in made])]
    entry_of = np.array([entry for entry, _, _ in made])
    closes = np.array([closing for _, closing, _ in made])
    text = np.empty(len(made), object)
    text[:] = [text_of[entry, closing] for entry, closing, _ in made]
    return Inserts(text, entry_of, closes, beside.document, beside.at, entries.type[entry_of])
