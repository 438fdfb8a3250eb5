"""What stands before a text, or behind it: a field for each type of metadata, in the order of the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from textune.config import MetadataSection
from textune.metadata.documents import NO_POSITION, Documents, RenderedField
from textune.metadata.rendering.renderers import renderer_of
from textune.metadata.types import first_with_key, metadata_type

REPLACED = "a later entry of the same type stands in the prefix"


def fields_text(fields: Sequence[RenderedField], section: MetadataSection) -> str:
    """What is put before a text, or behind it; empty without fields."""
    if not fields:
        return ""
    joined = section.prefix_start + section.separator.join(field.text for field in fields)
    if section.position == "suffix":
        # As a text after a prefix, the fields after a text begin behind a space.
        return f"{section.prefix_separator} {joined}"
    return joined + section.prefix_separator


def rendered_fields(
    documents: Documents, chosen: np.ndarray, inline_DT: np.ndarray, section: MetadataSection
) -> tuple[list[tuple[RenderedField, ...]], Counter[str]]:
    """[D] the fields of each document, and how many entries have none though they belong there, by reason.

    `chosen`: int64, ascending, the entries to render. `inline_DT`: bool [D, T], of which types each text has tags.
    """
    entries, num_types = documents.entries, len(documents.types)
    all_named = section.types_in_prefix and section.as_original
    named = chosen[all_named | (entries.start[chosen] == NO_POSITION)]
    slots = np.array(first_with_key(documents.types)) if section.as_original else np.arange(num_types)
    place = entries.document[named] * num_types + slots[entries.type[named]]
    last = len(place) - 1 - np.unique(place[::-1], return_index=True)[1]
    is_global = entries.start[named] == NO_POSITION
    left_out = Counter({REPLACED: int(is_global.sum()) - int(is_global[last].sum())})
    place, named = place[last], named[last]
    if section.types_in_prefix and not section.as_original:
        tokens = np.setdiff1d(np.flatnonzero(inline_DT), place, assume_unique=True)
        place, named = np.concatenate([place, tokens]), np.concatenate([named, np.full(len(tokens), NO_POSITION)])
        order = np.argsort(place)
        place, named = place[order], named[order]
    fields: list[list[RenderedField]] = [[] for _ in documents.texts]
    for at, entry in zip(place.tolist(), named.tolist(), strict=True):
        document, type_ = divmod(at, num_types)
        name = documents.types[type_ if entry == NO_POSITION else entries.type[entry]]
        if entry == NO_POSITION or entries.start[entry] != NO_POSITION:
            text = section.type_tokens.get(name, metadata_type(name).key)
        else:
            text = renderer_of(name).field(metadata_type(name), entries.value[entry], section)
        fields[document].append(RenderedField(type_, text))
    return [tuple(found) for found in fields], left_out
