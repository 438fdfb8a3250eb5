"""The prefix of a document: a field for each of its types, in the order of the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from textune.config import MetadataSection
from textune.errors import DataError, Setting, Words
from textune.metadata.documents import NO_POSITION, Documents, PrefixField
from textune.metadata.renderers import renderer_of
from textune.metadata.types import metadata_type
from textune.wording import shorten

REPLACED = "a later entry of the same type stands in the prefix"
UNREADABLE = "the value cannot be read"


def prefix_text(fields: Sequence[PrefixField], section: MetadataSection) -> str:
    """What is put before a text; empty without fields."""
    if not fields:
        return ""
    joined = section.separator.join(field.text for field in fields)
    return f"{section.prefix_start}{joined}{section.prefix_separator}"


def prefix_fields(
    documents: Documents, chosen: np.ndarray, inline_DT: np.ndarray, section: MetadataSection
) -> tuple[list[tuple[PrefixField, ...]], Counter[str]]:
    """[D] the fields of each document, and how many entries have none though they belong there, by reason.

    `chosen`: int64, ascending, the entries to render. `inline_DT`: bool [D, T], of which types each text has tags.
    """
    entries, num_types = documents.entries, len(documents.types)
    all_named = section.types_in_prefix and section.as_original
    named = chosen[all_named | (entries.start[chosen] == NO_POSITION)]
    place = entries.document[named] * num_types + _slots(documents.types, section)[entries.type[named]]
    last = len(place) - 1 - np.unique(place[::-1], return_index=True)[1]
    left_out = Counter({REPLACED: len(place) - len(last)})
    place, named = place[last], named[last]
    if section.types_in_prefix and not section.as_original:
        tokens = np.setdiff1d(np.flatnonzero(inline_DT), place, assume_unique=True)
        place, named = np.concatenate([place, tokens]), np.concatenate([named, np.full(len(tokens), NO_POSITION)])
        order = np.argsort(place)
        place, named = place[order], named[order]
    fields: list[list[PrefixField]] = [[] for _ in documents.texts]
    for at, entry in zip(place.tolist(), named.tolist(), strict=True):
        document, type_ = divmod(at, num_types)
        if entry == NO_POSITION:
            text: str | None = _token(documents.types[type_], section)
        else:
            text = _field(documents, entry, section)
        if text is None:
            left_out[UNREADABLE] += 1
        else:
            fields[document].append(PrefixField(type_, text))
    return [tuple(found) for found in fields], left_out


def _slots(types: Sequence[str], section: MetadataSection) -> np.ndarray:
    """int64 [T] whose place in the prefix each type takes: its own; in the original, that of the first type with the
    same key."""
    if not section.as_original:
        return np.arange(len(types))
    keys = [metadata_type(name).key for name in types]
    return np.array([keys.index(key) for key in keys], dtype=np.int64)


def _token(name: str, section: MetadataSection) -> str:
    return section.type_tokens.get(name, metadata_type(name).key)


def _field(documents: Documents, entry: int, section: MetadataSection) -> str | None:
    """None where the value cannot be read, which the section allows."""
    entries = documents.entries
    name, value = documents.types[entries.type[entry]], entries.value[entry]
    if entries.start[entry] != NO_POSITION:
        return _token(name, section)
    renderer = renderer_of(name)
    text = renderer.field(metadata_type(name), value, section)
    if text is None and section.on_bad_metadata == "error":
        place = f"row {documents.row[entries.document[entry]] + 1}"
        raise DataError(
            f"The {name} of {place}, {shorten(value)}, is not {renderer.expects}.",
            hint=Words(
                "Mend it, or leave out what cannot be rendered: ", Setting("metadata.on_bad_metadata", "report")
            ),
            key=name,
            value=value,
            place=place,
            reason=f"is not {renderer.expects}",
        )
    return text
