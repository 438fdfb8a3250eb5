"""Every type of metadata: its name, column and key, where it stands, and what its field is called.

A new type is a row of TYPES; a type that is not there is rendered as `key: value`, from its column `metadata_<name>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

COLUMN_PREFIX = "metadata_"
"""Of the columns of version 2 of the records."""
Scope = Literal["global", "local"]


@dataclass(frozen=True)
class MetadataType:
    """One type of metadata."""

    name: str
    """What a configuration calls it, and the end of its column's name."""
    key: str
    """What entries call it; two types may share a key, which their columns then tell apart."""
    scope: Scope
    """`global`: about the whole text, rendered in the prefix. `local`: about spans of it, rendered inline."""
    label: str = ""
    """What the prefix calls it; empty for the key."""

    @property
    def column(self) -> str:
        """Column of version 2 of the records."""
        return COLUMN_PREFIX + self.name


TYPES: dict[str, MetadataType] = {
    found.name: found
    for found in (
        MetadataType("url", "url", "global"),
        MetadataType("timestamp", "timestamp", "global"),
        MetadataType("title", "title", "global", "Title"),
        MetadataType("website_desc", "website_description", "global", "Website Description"),
        MetadataType("generation_datasource", "datasource", "global", "Datasource"),
        MetadataType("generation_length_text", "length", "global", "Text Length"),
        MetadataType("generation_length_sentence", "length", "local", "Text Length"),
        MetadataType("html", "html", "local"),
        MetadataType("entity", "entity", "local"),
        MetadataType("entity_paragraph", "entity_paragraph", "local"),
        MetadataType("paragraph", "paragraph", "local"),
    )
}
"""By name."""
_BY_KEY: dict[str, dict[str, str]] = {}
for _type in TYPES.values():
    _BY_KEY.setdefault(_type.key, {})[_type.scope] = _type.name
for _type in TYPES.values():
    _BY_KEY.setdefault(_type.name, {_type.scope: _type.name})


def name_of(key: str, scope: str) -> str:
    """The name of the type of an entry with this key; of two types that share it, that of the scope."""
    names = _BY_KEY.get(key)
    if names is None:
        return key
    return names.get(scope) or next(iter(names.values()))


def metadata_type(name: str) -> MetadataType:
    """The type of this name; one that TYPES does not have is called by its name everywhere."""
    return TYPES.get(name) or MetadataType(name, name, "local")


def first_with_key(types: Sequence[str]) -> list[int]:
    """[T] for each type, the first with the same key, which the original system takes it to be."""
    keys = [metadata_type(name).key for name in types]
    return [keys.index(key) for key in keys]
