"""The type `entity_paragraph`: each entity stands for the whole paragraph that it is in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

from textune.metadata.taggers.page import Entry, Kind, Page, about_span


class EntityParagraphs:
    """Entities with the spans of their paragraphs, each once in a paragraph."""

    name = "entity_paragraph"
    reads = ""
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_entity_paragraph": "ordered"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: positions are 0, 1, 2, ... wherever a paragraph begins or ends, so tags cross those of another
        entity and meet those of the next paragraph; an entity that is in no paragraph keeps its own span."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing where there are no entities or no paragraphs; PageError where one of them has no span."""
        entities, paragraphs = page.spans("metadata_entity"), page.spans("metadata_paragraph")
        return {"metadata_entity_paragraph": self.place(entities, paragraphs)}

    def place(self, entities: Sequence[Entry], paragraphs: Sequence[Entry]) -> list[Entry]:
        """`paragraphs` follow one another; an entity that is in none of them is left out."""
        spans = [(one["char_start_idx"], one["char_end_idx"]) for one in paragraphs]
        starts = [start for start, _ in spans]
        placed: dict[tuple[int, int, str], None] = {}
        for entity in entities if spans else ():
            start, end = entity["char_start_idx"], entity["char_end_idx"]
            around = spans[max(0, bisect_right(starts, start) - 1)]
            if around[0] <= start and end <= around[1]:
                placed.setdefault((*around, entity["value"]))
            elif self._legacy:
                placed.setdefault((start, end, entity["value"]))
        return _numbered_alike(list(placed)) if self._legacy else _nested(sorted(placed, key=lambda one: one[0]))


def _nested(found: Sequence[tuple[int, int, str]]) -> list[Entry]:
    """Entries of one paragraph after the other: the first tag that opens closes last, and before others open there."""
    entries, closed = [], (0, 0)
    for (start, end), group in groupby(found, key=lambda one: one[:2]):
        values = [value for _, _, value in group]
        before = closed[1] if closed[0] == start else 0
        for number, value in enumerate(values):
            entries.append(_entry(start, end, value, before + number, len(values) - 1 - number))
        closed = (end, len(values))
    return entries


def _numbered_alike(found: Sequence[tuple[int, int, str]]) -> list[Entry]:
    numbers = [number for _, group in groupby(found, key=lambda one: one[0]) for number, _ in enumerate(group)]
    return [_entry(*one, number, number) for one, number in zip(found, numbers, strict=True)]


def _entry(start: int, end: int, value: str, start_order: int, end_order: int) -> Entry:
    entry = about_span("entity_paragraph", start, end, value)
    return entry | {"relative_start_pos": start_order, "relative_end_pos": end_order}
