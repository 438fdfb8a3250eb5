"""The type `title`: the text of the first `title` element."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from textune.metadata.taggers.page import Kind, Page, about_text

_LEGACY = re.compile(r"<title[^>]*>(.*)</title>")


class Title:
    """The title with its entities decoded and on one line."""

    name = "title"
    reads = "html"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_title": "global"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: as it stands in the HTML, and none where it has several lines."""
        self._legacy = legacy

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where the HTML cannot be read."""
        markup = page.markup()
        if not self._legacy:
            title = " ".join(markup.title.split())
            return {"metadata_title": [about_text("title", title)] if title else []}
        found = _LEGACY.search(markup.titles[0]) if markup.titles else None
        return {"metadata_title": [about_text("title", found[1])] if found else []}
