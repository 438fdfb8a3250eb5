"""Tags put into texts: one sort of all that is inserted into a batch of documents, then one join for each text."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from textune.config import MetadataSection
from textune.metadata.documents import NO_POSITION, Documents, Insertions
from textune.metadata.rendering.crossing import is_paired, nest
from textune.metadata.rendering.inserts import Inserts, make_inserts
from textune.metadata.rendering.order import nested_order, original_order


def insert_tags(
    documents: Documents, chosen: np.ndarray, section: MetadataSection
) -> tuple[list[str], Insertions, Counter[str]]:
    """The texts with the tags of the chosen entries (int64, ascending; those without a span have none), what was
    inserted, and how many entries were not, by reason."""
    entries = documents.entries
    inserts, left_out = make_inserts(documents, chosen[entries.start[chosen] != NO_POSITION], section)
    if section.as_original:
        inserts = inserts[original_order(inserts, entries, documents.types)]
    else:
        inserts = nest(inserts[nested_order(inserts, entries, len(documents.types))], entries)
    inserts = _wrapped(inserts, documents, section)
    return _texts(documents, inserts), _insertions(inserts, len(entries)), left_out


def _wrapped(inserts: Inserts, documents: Documents, section: MetadataSection) -> Inserts:
    """With the texts of `wraps` around each run of tags of a type that touch; the original has them around tags with
    positions only."""
    number_of = {name: number for number, name in enumerate(documents.types)}
    wraps = {number_of[name]: texts for name, texts in section.wraps.items() if name in number_of}
    if not wraps or not len(inserts):
        return inserts
    changes = np.ones(len(inserts) + 1, bool)
    changes[1:-1] = False
    for key in (inserts.document, inserts.at, inserts.type):
        changes[1:-1] |= np.diff(key) != 0
    first, last = np.flatnonzero(changes[:-1]), np.flatnonzero(changes[1:])
    wrapped = np.isin(inserts.type[first], list(wraps))
    if section.as_original:
        wrapped &= documents.entries.start_order[inserts.entry[first]] != NO_POSITION
    parts, places = [inserts], [3 * np.arange(len(inserts))]
    for closing, beside in ((False, first[wrapped]), (True, last[wrapped])):
        text = np.empty(len(beside), object)
        text[:] = [wraps[number][closing] for number in inserts.type[beside].tolist()]
        around = Inserts(
            text,
            np.full(len(beside), NO_POSITION),
            np.full(len(beside), closing),
            inserts.document[beside],
            inserts.at[beside],
            inserts.type[beside],
        )
        there = text != ""
        parts.append(around[there])
        places.append(3 * beside[there] + (1 if closing else -1))
    return Inserts.joined(parts)[np.argsort(np.concatenate(places))]


def _insertions(inserts: Inserts, num_entries: int) -> Insertions:
    length = np.fromiter(map(len, inserts.text), np.int64, len(inserts))
    before = np.cumsum(length) - length
    first = np.searchsorted(inserts.document, inserts.document, "left")
    start = inserts.at + before - before[first]
    paired = is_paired(inserts, num_entries)
    return Insertions(
        inserts.document,
        start,
        start + length,
        inserts.type,
        opens=np.where(paired & ~inserts.closing, inserts.entry, NO_POSITION),
        closes=np.where(paired & inserts.closing, inserts.entry, NO_POSITION),
    )


def _texts(documents: Documents, inserts: Inserts) -> list[str]:
    """The texts with all inserts, joined in one go each."""
    texts = list(documents.texts)
    at, inserted = inserts.at.tolist(), inserts.text.tolist()
    touched, first = np.unique(inserts.document, return_index=True)
    bounds = [*first.tolist(), len(inserts)]
    for number, document in enumerate(touched.tolist()):
        here = slice(bounds[number], bounds[number + 1])
        text, places = texts[document], at[here]
        parts = [""] * (2 * len(places) + 1)
        parts[0::2] = [text[begin:end] for begin, end in itertools.pairwise([0, *places, len(text)])]
        parts[1::2] = inserted[here]
        texts[document] = "".join(parts)
    return texts
