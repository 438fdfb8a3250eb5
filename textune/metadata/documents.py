"""What stands between the files of this room: documents with their metadata, and documents as text with tags.

records -> Documents -> which types are drawn -> Rendered -> chunks, as rows of tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

NO_POSITION = -1
"""Where an entry has no span, or no position among the tags that touch the same character."""


@dataclass(frozen=True, eq=False)
class Entries:
    """E entries of metadata in flat columns, document after document, in the order of the records.

    Whoever makes them guarantees, and rendering relies on it: a span lies within its text; of one type, either all
    entries of a document have both positions or none has; no two tags of a type have one position at one character;
    a tag without text opens before it closes; no span crosses very many others; a timestamp is a date.
    """

    document: np.ndarray
    """int64 [E] which document each belongs to, ascending."""
    type: np.ndarray
    """int16 [E] index into the `types` of the documents."""
    value: Sequence[str]
    """[E] as the record has it."""
    start: np.ndarray
    """int64 [E] first character of its span; NO_POSITION for a global entry."""
    end: np.ndarray
    """int64 [E] the character after its span; NO_POSITION for a global entry."""
    start_order: np.ndarray
    """int64 [E] place of its opening tag among all tags of its type at that character; NO_POSITION where the record
    does not say."""
    end_order: np.ndarray
    """int64 [E] the same of its closing tag; opening and closing tags are counted together."""
    attributes: Sequence[tuple[tuple[str, str], ...]]
    """[E] names and values of an HTML tag's attributes; empty for other types."""

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True, eq=False)
class Documents:
    """D texts with their metadata."""

    types: tuple[str, ...]
    """Names of the types, in the order of the configuration."""
    texts: Sequence[str]
    """[D]."""
    row: np.ndarray
    """int64 [D] number of each document's row in its shard, from 0: with the shard's fingerprint, its identity."""
    shard: np.ndarray
    """uint64 [D] fingerprint of the shard that it comes from."""
    entries: Entries

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def has_type(self) -> np.ndarray:
        """bool [D, T] which types each document has."""
        has_DT = np.zeros((len(self), len(self.types)), dtype=bool)
        has_DT[self.entries.document, self.entries.type] = True
        return has_DT

    def part(self, first: int, behind: int) -> Documents:
        """Consecutive documents, from `first` to the one before `behind`."""
        entries = self.entries
        of = slice(*np.searchsorted(entries.document, (first, behind)).tolist())
        columns = {one.name: getattr(entries, one.name)[of] for one in fields(entries)}
        columns["document"] = columns["document"] - first
        chosen = slice(first, behind)
        return replace(
            self,
            texts=self.texts[chosen],
            row=self.row[chosen],
            shard=self.shard[chosen],
            entries=replace(entries, **columns),
        )


@dataclass(frozen=True, eq=False)
class Insertions:
    """I inserts that stand in rendered texts and not in the original ones, in flat columns, ascending."""

    document: np.ndarray
    """int64 [I] which document each is in."""
    start: np.ndarray
    """int64 [I] its first character in the rendered text."""
    end: np.ndarray
    """int64 [I] the character after it."""
    type: np.ndarray
    """int16 [I] index into the types of the documents."""
    opens: np.ndarray
    """int64 [I] the entry whose span it opens; NO_POSITION where it closes one, or does neither, as the name of an
    entity or what is put around tags."""
    closes: np.ndarray
    """int64 [I] the entry whose span it closes; NO_POSITION where it opens one, or does neither. A span that another
    one crosses is closed and opened again there, so an entry may have several pairs."""

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True)
class RenderedField:
    """One field of what stands before a text, or behind it."""

    type: int
    """Index into the types of the documents."""
    text: str
    """Without separators."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """D documents as text: what a tokenizer reads, and which characters of it are metadata."""

    texts: Sequence[str]
    """[D] with inline tags, without prefix or suffix."""
    fields: Sequence[tuple[RenderedField, ...]]
    """[D] the fields of each prefix or suffix in order; none where a document has neither."""
    insertions: Insertions
    left_out: dict[str, int] = field(default_factory=dict)
    """How many entries were not rendered, by reason."""
