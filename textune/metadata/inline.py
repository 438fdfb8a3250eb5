"""Tags put into texts: one sort of all that is inserted into a batch of documents, then one join for each text."""

from __future__ import annotations

from collections import Counter

import numpy as np

from textune.config import MetadataSection
from textune.metadata.crossing import is_paired, nest
from textune.metadata.documents import NO_POSITION, Documents, Insertions
from textune.metadata.order import nested_order, original_order
from textune.metadata.pieces import Pieces, make_pieces


def insert_tags(
    documents: Documents, chosen: np.ndarray, section: MetadataSection
) -> tuple[list[str], Insertions, Counter[str]]:
    """The texts with the tags of the chosen entries (int64, ascending; those without a span have none), what was
    inserted, and how many entries were not, by reason."""
    entries = documents.entries
    pieces, left_out = make_pieces(documents, chosen[entries.start[chosen] != NO_POSITION], section)
    if section.as_original:
        pieces = pieces[original_order(pieces, entries, documents.types)]
    else:
        pieces = nest(pieces[nested_order(pieces, entries, len(documents.types))], entries)
    pieces = _wrapped(pieces, documents, section)
    return _texts(documents, pieces), _insertions(pieces, len(entries)), left_out


def _wrapped(pieces: Pieces, documents: Documents, section: MetadataSection) -> Pieces:
    """With the texts of `wraps` around each run of tags of a type that touch; the original has them around tags with
    positions only."""
    number_of = {name: number for number, name in enumerate(documents.types)}
    wraps = {number_of[name]: texts for name, texts in section.wraps.items() if name in number_of}
    if not wraps or not len(pieces):
        return pieces
    changes = np.ones(len(pieces) + 1, bool)
    changes[1:-1] = False
    for key in (pieces.document, pieces.at, pieces.type):
        changes[1:-1] |= np.diff(key) != 0
    first, last = np.flatnonzero(changes[:-1]), np.flatnonzero(changes[1:])
    wrapped = np.isin(pieces.type[first], list(wraps))
    if section.as_original:
        wrapped &= documents.entries.start_order[pieces.entry[first]] != NO_POSITION
    parts, places = [pieces], [3 * np.arange(len(pieces))]
    for closing, beside in ((False, first[wrapped]), (True, last[wrapped])):
        text = np.empty(len(beside), object)
        text[:] = [wraps[number][closing] for number in pieces.type[beside].tolist()]
        around = Pieces(
            text,
            np.full(len(beside), NO_POSITION),
            np.full(len(beside), closing),
            pieces.document[beside],
            pieces.at[beside],
            pieces.type[beside],
        )
        there = text != ""
        parts.append(around[there])
        places.append(3 * beside[there] + (1 if closing else -1))
    return Pieces.joined(parts)[np.argsort(np.concatenate(places))]


def _insertions(pieces: Pieces, num_entries: int) -> Insertions:
    length = np.fromiter(map(len, pieces.text), np.int64, len(pieces))
    before = np.cumsum(length) - length
    first = np.searchsorted(pieces.document, pieces.document, "left")
    start = pieces.at + before - before[first]
    paired = is_paired(pieces, num_entries)
    return Insertions(
        pieces.document,
        start,
        start + length,
        pieces.type,
        opens=np.where(paired & ~pieces.closing, pieces.entry, NO_POSITION),
        closes=np.where(paired & pieces.closing, pieces.entry, NO_POSITION),
    )


def _texts(documents: Documents, pieces: Pieces) -> list[str]:
    """The texts with all pieces, joined in one go each."""
    texts = list(documents.texts)
    at, inserted = pieces.at.tolist(), pieces.text.tolist()
    touched, first = np.unique(pieces.document, return_index=True)
    bounds = [*first.tolist(), len(pieces)]
    for number, document in enumerate(touched.tolist()):
        text, done, parts = texts[document], 0, []
        for index in range(bounds[number], bounds[number + 1]):
            if at[index] != done:
                parts.append(text[done : at[index]])
                done = at[index]
            parts.append(inserted[index])
        parts.append(text[done:])
        texts[document] = "".join(parts)
    return texts
