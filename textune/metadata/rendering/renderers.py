"""How each type of metadata becomes text: its field in the prefix, and its tags around the spans of a text.

To add one, write its functions here, or beside this file, and put a row into `RENDERERS`; a type without a row is
rendered as `key: value`, inline in brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

import numpy as np

from textune.config import MetadataSection
from textune.metadata.rendering.html import Attributes, html_tags, kept_tags
from textune.metadata.rendering.timestamps import MONTHS, parse_timestamp
from textune.metadata.types import MetadataType

Texts = tuple[list[str], list[str]]
"""What stands before spans, and what stands after them; empty texts are not inserted."""


@dataclass(frozen=True)
class Renderer:
    """How one type becomes text."""

    field: Callable[[MetadataType, str, MetadataSection], str]
    """From a value to its field in the prefix."""
    tags: Callable[[MetadataType, Sequence[str], Sequence[Attributes], MetadataSection], Texts]
    """From values and attributes to what is put around their spans."""
    kept: Callable[[Sequence[str], np.ndarray, MetadataSection], np.ndarray] | None = None
    """From values and numbers of enclosed characters to which entries are rendered (bool); None: all."""
    both_sides: bool = True
    """Whether it stands on both sides of a span, as tags that have to nest do."""
    reads: Callable[[str], bool] = lambda _: True
    """Whether `field` can render a value."""
    expects: str = ""
    """What such a value is."""


def labelled(type_: MetadataType, value: str, section: MetadataSection) -> str:
    """`Title: A day out`."""
    return f"{type_.label or type_.key}{section.key_value_separator}{value}"


def bracketed(
    type_: MetadataType, values: Sequence[str], attributes: Sequence[Attributes], section: MetadataSection
) -> Texts:
    """`[key: value]` and `[/key: value]`."""
    named = f"{type_.key}{section.key_value_separator}"
    return [f"[{named}{value}]" for value in values], [f"[/{named}{value}]" for value in values]


def _url(type_: MetadataType, value: str, section: MetadataSection) -> str:
    """Without escapes: `a%20b` and `a+b` are `a b`."""
    escaped = "%" in value or "+" in value
    return labelled(type_, unquote_plus(value) if escaped else value, section)


def _year_and_month(type_: MetadataType, value: str, section: MetadataSection) -> str:
    """`Year: 2018 | Month: December`."""
    found = parse_timestamp(value)
    assert found is not None, f"{value} is not a date"
    between = ": " if section.as_original else section.key_value_separator
    return f"Year{between}{found[0]}{section.separator}Month{between}{MONTHS[found[1] - 1]}"


def _name_after(
    type_: MetadataType, values: Sequence[str], attributes: Sequence[Attributes], section: MetadataSection
) -> Texts:
    """` [[Name]]` after a mention."""
    return [""] * len(values), [f" [[{value.replace('_', ' ')}]]" for value in values]


def _name_beside_paragraph(
    type_: MetadataType, values: Sequence[str], attributes: Sequence[Attributes], section: MetadataSection
) -> Texts:
    """` |Name|` before or after the paragraph."""
    names, nothing = [f" |{value.replace('_', ' ')}|" for value in values], [""] * len(values)
    return (names, nothing) if section.entity_position == "begin" else (nothing, names)


DEFAULT = Renderer(labelled, bracketed)
RENDERERS: dict[str, Renderer] = {
    "url": Renderer(_url, bracketed),
    "timestamp": Renderer(
        _year_and_month,
        bracketed,
        reads=lambda value: parse_timestamp(value) is not None,
        expects="a date such as 2018-12-10, 2018-12-10T13:45:00Z or 1544449500 (seconds since 1970)",
    ),
    "entity": Renderer(labelled, _name_after, both_sides=False),
    "entity_paragraph": Renderer(labelled, _name_beside_paragraph, both_sides=False),
    "html": Renderer(
        labelled,
        lambda _, values, attributes, section: html_tags(values, attributes, section.html),
        lambda values, num_characters, section: kept_tags(values, num_characters, section.html),
    ),
}
"""By name of the type."""


def renderer_of(name: str) -> Renderer:
    """How the type of this name is rendered."""
    return RENDERERS.get(name, DEFAULT)
