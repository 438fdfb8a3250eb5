"""Documents to texts with inline tags and prefixes."""

from __future__ import annotations

import numpy as np

from textune.config import MetadataSection
from textune.metadata.documents import NO_POSITION, Documents, Rendered
from textune.metadata.rendering.fields import rendered_fields
from textune.metadata.rendering.inline import insert_tags


def render(documents: Documents, section: MetadataSection, keep: np.ndarray | None = None) -> Rendered:
    """Documents as text, each by itself.

    `keep`: bool [D, T], which types of each document are rendered; None: all.
    """
    entries = documents.entries
    _require(documents)
    chosen = np.arange(len(entries))
    if keep is not None:
        assert keep.shape == (len(documents), len(documents.types)) and keep.dtype == bool, keep.shape
        chosen = chosen[keep[entries.document, entries.type]]
    texts, insertions, not_inserted = insert_tags(documents, chosen, section)
    inline_DT = np.zeros((len(documents), len(documents.types)), bool)
    inline_DT[insertions.document, insertions.type] = True
    fields, not_named = rendered_fields(documents, chosen, inline_DT, section)
    return Rendered(texts, fields, insertions, dict(+(not_inserted + not_named)))


def _require(documents: Documents) -> None:
    """What whoever makes documents guarantees, for all that arrays can see at once."""
    entries = documents.entries
    ascending = bool((np.diff(entries.document) >= 0).all())
    assert ascending and entries.document[:1].min(initial=0) >= 0, "entries stand document after document"
    assert entries.document[-1:].max(initial=-1) < len(documents), "an entry belongs to one of the documents"
    length = np.fromiter(map(len, documents.texts), np.int64, len(documents))
    start, end = entries.start, entries.end
    is_global = (start == NO_POSITION) & (end == NO_POSITION)
    inside = (start >= 0) & (start <= end) & (end <= length[entries.document])
    assert (is_global | inside).all(), "a span lies within its text"
    has_order = entries.start_order != NO_POSITION
    assert (has_order == (entries.end_order != NO_POSITION)).all(), "positions come in pairs"
    assert (~has_order | (start < end) | (entries.start_order < entries.end_order)).all(), "a tag opens, then closes"
