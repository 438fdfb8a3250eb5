"""The types `generation_length_text` and `generation_length_sentence`: characters of a text, and of each sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textune.metadata.taggers.page import Entry, Kind, Page, about_span, about_text


class TextLength:
    """How many characters the text has."""

    name = "generation_length_text"
    reads = "text"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_generation_length_text": "global"}

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing for a page without a text."""
        text = page.text()
        return {"metadata_generation_length_text": [] if text is None else [about_text("length", str(len(text)))]}


class SentenceLengths:
    """How many characters stand between full stops, and after the last one."""

    name = "generation_length_sentence"
    reads = "text"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_generation_length_sentence": "local"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: a span begins with the full stop before it, and what follows the last one is lost."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing for a page without a text."""
        text = page.text() or ""
        return {"metadata_generation_length_sentence": _legacy(text) if self._legacy else _sentences(text)}


def _sentences(text: str) -> list[Entry]:
    entries, start = [], 0
    for sentence in text.split("."):
        end = start + len(sentence)
        if sentence.strip():
            entries.append(about_span("length", start, end, str(len(sentence))))
        start = end + 1
    return entries


def _legacy(text: str) -> list[Entry]:
    entries, start = [], 0
    for sentence in text.split(".")[:-1]:
        stop = start + len(sentence)  # where the full stop is
        entries.append(about_span("length", max(0, start - 1), stop, str(len(sentence))))
        start = stop + 1
    return entries
