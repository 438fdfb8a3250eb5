"""The type `entity_paragraph`: each entity stands for the whole paragraph that it is in."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
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
        """`legacy`: positions begin at 0 in each paragraph, though tags of the one before end there, too."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing where there are no entities or no paragraphs."""
        entities, paragraphs = page.entries("metadata_entity"), page.entries("metadata_paragraph")
        return {"metadata_entity_paragraph": self.place(entities, paragraphs)}

    def place(self, entities: Sequence[Entry], paragraphs: Sequence[Entry]) -> list[Entry]:
        """`paragraphs` follow one another; an entity that is in none of them keeps its own span."""
        spans = [(one["char_start_idx"], one["char_end_idx"]) for one in paragraphs]
        starts = [start for start, _ in spans]
        placed: dict[tuple[int, int, str], None] = {}
        for entity in entities if spans else ():
            start, end = entity["char_start_idx"], entity["char_end_idx"]
            around = spans[max(0, bisect_right(starts, start) - 1)]
            if around[0] <= start and end <= around[1]:
                start, end = around
            placed.setdefault((start, end, entity["value"]))
        found = list(placed) if self._legacy else sorted(placed, key=lambda one: one[:2])
        return self._numbered(found)

    def _numbered(self, found: Sequence[tuple[int, int, str]]) -> list[Entry]:
        """Entries with relative positions; opening and closing tags at one character are counted together."""
        entries, closed = [], Counter[int]()
        for start, group in groupby(found, key=lambda one: one[0]):
            opened = 0 if self._legacy else closed[start]
            for number, (_, end, value) in enumerate(group):
                entry = about_span("entity_paragraph", start, end, value)
                entry["relative_start_pos"] = opened + number
                entry["relative_end_pos"] = number if self._legacy else closed[end]
                closed[end] += 1
                entries.append(entry)
        return entries
