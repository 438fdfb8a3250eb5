"""Documents as prompts: their metadata in a few plain words before the text, as a person would write it for a model
that was never trained on tags; beside `render.py`.

    Title: A day out; Entities: Ada Lovelace, Paris; Number of characters: 1200
"""

from __future__ import annotations

import numpy as np

from textune.config import MetadataSection
from textune.metadata.documents import NO_POSITION, Documents, Insertions, Rendered, RenderedField
from textune.metadata.rendering.renderers import renderer_of
from textune.metadata.types import metadata_type

_LABELS = {
    "generation_datasource": "Data source",
    "generation_length_text": "Number of characters",
    "entity": "Entities",
    "entity_paragraph": "Entity Paragraphs",
}
"""What a prompt calls a type, where that is not its own field."""
_LISTED = ("entity", "entity_paragraph")
"""Inline types whose values a prompt lists; of others it says the name."""


def prompt_section(section: MetadataSection) -> MetadataSection:
    """The section by which prompts are put together."""
    return section.model_copy(
        update={"separator": "; ", "prefix_separator": "", "prefix_start": "", "position": "prefix", "wraps": {}}
    )


def render_prompt(documents: Documents, section: MetadataSection) -> Rendered:
    """Documents as text without tags; the fields of their prompts, in the order of their types. `section`: that of
    prompts.

    Of several global entries of a type, the last one counts; of inline ones, each value once, the first one first.
    """
    entries = documents.entries
    values: dict[tuple[int, int, bool], list[str]] = {}
    inline = entries.start != NO_POSITION
    columns = zip(entries.document.tolist(), entries.type.tolist(), inline.tolist(), entries.value, strict=True)
    for document, type_, is_inline, value in columns:
        known = values.setdefault((document, type_, is_inline), [])
        if not is_inline:
            known[:] = [value]
        elif value not in known:
            known.append(value)
    fields: list[list[RenderedField]] = [[] for _ in documents.texts]
    for document, type_, is_inline in sorted(values):
        text = (_mentions if is_inline else _fact)(documents.types[type_], values[document, type_, is_inline], section)
        fields[document].append(RenderedField(type_, text))
    nothing = np.zeros(0, np.int64)
    return Rendered(list(documents.texts), [tuple(found) for found in fields], Insertions(*[nothing] * 6))


def _fact(name: str, values: list[str], section: MetadataSection) -> str:
    """What is known of the whole text."""
    label = _LABELS.get(name)
    if label is None:
        return renderer_of(name).field(metadata_type(name), values[0], section)
    return f"{label}{section.key_value_separator}{values[0]}"


def _mentions(name: str, values: list[str], section: MetadataSection) -> str:
    """What is in the text: the values where these are names, otherwise that there are such spans at all."""
    if name not in _LISTED:
        return metadata_type(name).key.replace("_", " ").title()
    return f"{_LABELS[name]}{section.key_value_separator}{', '.join(value.replace('_', ' ') for value in values)}"
