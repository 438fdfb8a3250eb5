"""The type `html`: the text of a page and the span of each element in it, after `markup.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textune.metadata.taggers.markup import Span
from textune.metadata.taggers.page import Entry, Kind, Page, about_span


class Html:
    """Text and spans; `head`, each `footer` and each `title` as HTML."""

    name = "html"
    reads = "html"
    columns: ClassVar[Mapping[str, Kind]] = {
        "text": "text",
        "html_head": "texts",
        "html_footer": "texts",
        "html_title": "texts",
        "metadata_html": "html",
    }

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where the HTML cannot be read."""
        markup = page.markup()
        return {
            "text": markup.text,
            "html_head": list(markup.heads),
            "html_footer": list(markup.footers),
            "html_title": list(markup.titles),
            "metadata_html": [_entry(span) for span in markup.spans],
        }


def _entry(span: Span) -> Entry:
    return about_span("html", span.start, span.end, span.tag) | {
        "relative_start_pos": span.start_order,
        "relative_end_pos": span.end_order,
        "html_attrs": {"attrs": list(span.attributes), "values": list(span.attributes.values())},
    }
