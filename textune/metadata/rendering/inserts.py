"""What is inserted into texts: the opening and the closing text of each entry with a span."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from textune.config import MetadataSection
from textune.metadata.documents import Documents
from textune.metadata.rendering.renderers import renderer_of
from textune.metadata.types import metadata_type

DROPPED = "metadata.html leaves the tag out"
NO_TEXT = "there is no text to put tags into"


@dataclass(frozen=True, eq=False)
class Inserts:
    """I texts to insert, none empty, each before or after the span of an entry, or around tags."""

    text: np.ndarray
    """object [I]."""
    entry: np.ndarray
    """int64 [I]; NO_POSITION for what is put around tags."""
    closing: np.ndarray
    """bool [I] whether it stands after the span."""
    document: np.ndarray
    """int64 [I]."""
    at: np.ndarray
    """int64 [I] the character of the original text that it stands before."""
    type: np.ndarray
    """int16 [I]."""

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, which: np.ndarray | slice) -> Inserts:
        """Some of them, by index, mask or slice."""
        return Inserts(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Inserts]) -> Inserts:
        """One after the other."""
        return Inserts(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Inserts)))


def make_inserts(documents: Documents, chosen: np.ndarray, section: MetadataSection) -> tuple[Inserts, Counter[str]]:
    """The inserts of the chosen entries that have a span (int64, ascending), all opening ones first; and how many
    entries have none, by reason."""
    entries = documents.entries
    has_text = np.fromiter(map(bool, documents.texts), bool, len(documents))
    in_text = has_text[entries.document[chosen]]
    left_out = Counter({NO_TEXT: len(chosen) - int(in_text.sum())})
    chosen = chosen[in_text]
    opening, closing = np.empty(len(chosen), object), np.empty(len(chosen), object)
    kept = np.ones(len(chosen), bool)
    type_of_chosen = entries.type[chosen]
    for number, name in enumerate(documents.types):
        which = np.flatnonzero(type_of_chosen == number)
        if not len(which):
            continue
        renderer, of_type = renderer_of(name), chosen[which].tolist()
        values = [entries.value[entry] for entry in of_type]
        attributes = [entries.attributes[entry] for entry in of_type]
        if renderer.kept is not None:
            kept[which] = renderer.kept(values, (entries.end - entries.start)[of_type], section)
        opening[which], closing[which] = renderer.tags(metadata_type(name), values, attributes, section)
    left_out[DROPPED] = len(kept) - int(kept.sum())
    text = np.concatenate([opening, closing])
    there = np.concatenate([kept, kept]) & (text != "")
    entry = np.concatenate([chosen, chosen])[there]
    is_closing = np.repeat([False, True], len(chosen))[there]
    at = np.where(is_closing, entries.end[entry], entries.start[entry])
    return Inserts(text[there], entry, is_closing, entries.document[entry], at, entries.type[entry]), left_out
