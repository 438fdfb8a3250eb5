"""Types found by code of the user's own: a class with `type` and `tag(text, url)`, named as `package.module:Name`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from textune.jsontext import is_unicode
from textune.metadata.taggers.page import Entry, Kind, Page, PageError, about_span, about_text
from textune.metadata.taggers.website import described
from textune.metadata.types import COLUMN_PREFIX, TYPES
from textune.owncode import OwnObject, article

KEY = "own_tagger"
"""The setting that names such a class."""


class OwnTagger:
    """Entries of one type: of the whole text where `tag` gives a text, of spans where it gives (start, end, value)."""

    reads = "text"

    def __init__(self, path: str) -> None:
        """CodeError where it is not such a class."""
        found = OwnObject.find(path, key=KEY)
        found.require_class({"tag": ("text", "url")})
        self._code = found
        self._tagger = found.build({})
        name = getattr(self._tagger, "type", None)
        if not isinstance(name, str) or not re.fullmatch(r"[a-z]\w*", name):
            raise found.error(
                f"its type is {name!r}, which is not a name", hint='Such as type = "entity".', value=name
            )
        self.name = name
        self._key = TYPES[name].key if name in TYPES else name
        self._scope = TYPES[name].scope if name in TYPES else None
        """None for a type of the user's own, which may be about either."""
        self._column = COLUMN_PREFIX + name
        self.columns: Mapping[str, Kind] = {self._column: "local"}

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where it gives anything else."""
        text = page.text() or ""
        with self._code.calling("on a page"):
            found = self._tagger.tag(text, page.url() if page.has_url() else "")
        if not isinstance(found, str | Iterable | None):
            raise PageError(f"{article(found)} is neither a text nor a list of (start, end, value)")
        entries = self._about_text(found) if isinstance(found, str | None) else self._about_spans(found, len(text))
        return {self._column: entries}

    def _about_text(self, found: str | None) -> list[Entry]:
        if self.name == "website_desc":
            return described(None if found is None else _unicode(found))
        if not found:
            return []
        if self._scope == "local":
            raise PageError(f"{self.name} is about spans of the text: give (start, end, value), not a text")
        return [about_text(self._key, _unicode(found))]

    def _about_spans(self, found: Iterable[object], length: int) -> list[Entry]:
        entries = [self._entry(one, length) for one in found]
        if entries and self._scope == "global":
            raise PageError(f"{self.name} is about the whole text: give a text, not spans")
        return entries

    def _entry(self, one: object, length: int) -> Entry:
        match one:
            case (int(start), int(end), str(value)) if 0 <= start <= end <= length:
                return about_span(self._key, start, end, _unicode(value))
            case (int(start), int(end), str(value)):
                raise PageError(f"the span {start}-{end} of {value!r} is not in a text of {length:,} characters")
        raise PageError(f"{article(one)} is not (start, end, value)")


def _unicode(value: str) -> str:
    if not is_unicode(value):
        raise PageError(f"{value!a} is not valid Unicode (half of a surrogate pair)")
    return value
