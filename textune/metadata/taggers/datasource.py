"""The type `generation_datasource`: host and path of the address as words, `example.org > news > budget on time`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from textune.metadata.taggers.page import Kind, Page, about_text
from textune.metadata.taggers.url import parts_of

_BETWEEN_WORDS = re.compile(r"[-_+.&=]")


class Datasource:
    """Host, then the words of each part of the path; a number at the beginning or the end of a part is none."""

    name = "generation_datasource"
    reads = "url"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_generation_datasource": "global"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: a part that begins with a number is lost, and a bare host is followed by ` > `."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where the address cannot be read."""
        address = parts_of(page)
        parts = [_BETWEEN_WORDS.split(part) for part in address.path.strip("/").split("/")]
        if self._legacy:
            phrases = [" ".join(words) for part in parts if (words := _legacy_words(part))]
            source = address.netloc + " > " + " > ".join(phrases)
        else:
            phrases = [" ".join(words) for part in parts if (words := _words(part))]
            source = " > ".join([address.netloc, *phrases] if address.netloc else phrases)
        return {"metadata_generation_datasource": [about_text("datasource", source)] if source else []}


def _words(part: list[str]) -> list[str]:
    words = [word for word in part if word]
    while words and words[0].isdigit():
        words = words[1:]
    while words and words[-1].isdigit():
        words = words[:-1]
    return words


def _legacy_words(part: list[str]) -> list[str]:
    words = part[:1] if part[0].isdigit() else part
    return words[:-1] if words[-1].isdigit() else words
