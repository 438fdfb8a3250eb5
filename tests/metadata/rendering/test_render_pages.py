"""News pages with all of their tags inline."""

from __future__ import annotations

import gzip
import itertools
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from kits.documents import Entry, documents_of, mask_of

from textune.config.documents import HtmlRules, MetadataSection
from textune.metadata.documents import NO_POSITION
from textune.metadata.rendering.render import render

_PAGES = Path(__file__).parents[3].parent / "shared" / "data" / "web" / "html_pages.jsonl.gz"
_EMPTY = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source"}
NUM_PAGES = 24


class Tagger(HTMLParser):
    """Text and tags of a page, with positions; unclosed tags end with what they are in."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, int, int, tuple[tuple[str, str], ...]]] = []
        self.ends: dict[int, tuple[int, int]] = {}
        self._open: list[int] = []
        self._positions: dict[int, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *self._here(), tuple((name, value or "") for name, value in attrs)))
        self._open.append(len(self.tags) - 1)
        if tag in _EMPTY:
            self._close()

    def handle_endtag(self, tag: str) -> None:
        while any(self.tags[number][0] == tag for number in self._open):
            if self._close() == tag:
                break

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split())

    def entries(self) -> list[Entry]:
        """One for each tag."""
        while self._open:
            self._close()
        return [
            Entry("html", name, start, self.ends[number][0], order, self.ends[number][1], attributes)
            for number, (name, start, order, attributes) in enumerate(self.tags)
        ]

    def _here(self) -> tuple[int, int]:
        at = len(self.text)
        self._positions[at] = self._positions.get(at, -1) + 1
        return at, self._positions[at]

    def _close(self) -> str:
        number = self._open.pop()
        self.ends[number] = self._here()
        return self.tags[number][0]


@pytest.mark.skipif(not _PAGES.is_file(), reason=f"the news pages are not in {_PAGES}")
def test_tags_of_pages_nest_and_give_the_text_back() -> None:
    """Tags with positions alone have one order, so both ways of rendering agree."""
    pages = []
    with gzip.open(_PAGES, "rt", encoding="utf-8") as lines:
        for line in itertools.islice(lines, NUM_PAGES):
            tagger = Tagger()
            tagger.feed(json.loads(line)["html"])
            pages.append((tagger.text, tagger.entries()))
    documents = documents_of(("html",), *pages)
    assert len(documents.entries) > 100 * NUM_PAGES
    rules = HtmlRules(attributes=("class", "id"), drop=("body",), drop_all_lengths=(0, 0))
    for html in (HtmlRules(), rules):
        default, original = (
            render(documents, MetadataSection(types=("html",), html=html, compat=compat))
            for compat in ("none", "bsmetadata")
        )
        assert default.texts == original.texts
        opened, closed = default.insertions.opens, default.insertions.closes
        assert sorted(opened[opened != NO_POSITION]) == sorted(closed[closed != NO_POSITION])
        for number, (text, _) in enumerate(pages):
            inserted = np.array(mask_of(default, number), bool)
            assert "".join(itertools.compress(default.texts[number], ~inserted)) == text
