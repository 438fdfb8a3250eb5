"""The type `paragraph`: the text cut at the ends of its block elements and at empty lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textune.metadata.taggers.elements import PARAGRAPHS
from textune.metadata.taggers.page import Entry, Kind, Page, about_span, has_span


class Paragraphs:
    """Paragraphs that together are the text; `marker` says which element ends each."""

    name = "paragraph"
    reads = "text"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_paragraph": "paragraph"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: one more character belongs to `p` whichever it is, else only a line end does."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing for a page without a text."""
        text, spans = page.text(), page.entries("metadata_html")
        return {"metadata_paragraph": self.cut(text, spans) if text else []}

    def cut(self, text: str, spans: Sequence[Entry]) -> list[Entry]:
        """The paragraphs of a text with HTML spans."""
        ends = sorted((span["char_end_idx"], span["char_start_idx"], span["value"]) for span in _marking(spans))
        paragraphs, start = list[Entry](), 0
        for end, _, marker in ends:
            if marker == "p" and (self._legacy or text[end : end + 1] == "\n"):
                end += 1
            if end > start:
                paragraphs += _pieces(text[start:end], marker, start)
                start = end
        return paragraphs + _pieces(text[start:], "remainder", start)


def _marking(spans: Sequence[Entry]) -> list[Entry]:
    return [span for span in spans if span.get("value") in PARAGRAPHS and has_span(span)]


def _pieces(text: str, marker: str, start: int) -> list[Entry]:
    """A stretch of text, cut after each empty line."""
    pieces = _cut_after_empty_lines(text)
    entries = []
    for piece in pieces:
        end = start + len(piece)
        name = f"{marker}+lf" if len(pieces) > 1 else marker
        entries.append(about_span("paragraph", start, end, piece) | {"marker": name})
        start = end
    return entries


def _cut_after_empty_lines(text: str) -> list[str]:
    """The text in pieces, each with the `\\n\\n` that ends it."""
    halves = text.split("\n\n")
    return [piece for piece in [*(half + "\n\n" for half in halves[:-1]), halves[-1]] if piece]
