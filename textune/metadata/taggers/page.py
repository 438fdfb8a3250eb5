"""One web page on its way through the taggers: its row, what was found so far, and what a tagger may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from textune.metadata.taggers.markup import Markup, read_markup

Entry = dict[str, Any]
"""One piece of metadata, as version 2 of the records has it."""
Kind = Literal["text", "texts", "global", "local", "entity", "ordered", "html", "paragraph", "error"]
"""What a column holds: a text, texts, entries with these fields (`fields.py`), or 1 for an error."""


class PageError(Exception):
    """A tagger cannot read this page; the sentence goes into the tagger's column of comments."""


@dataclass(frozen=True)
class PageColumns:
    """Which columns of a row are read."""

    html: str = "html"
    url: str = "url"
    text: str = "text"


@dataclass
class Page:
    """A row with what taggers have found for it."""

    row: Mapping[str, Any]
    columns: PageColumns = field(default_factory=PageColumns)
    found: dict[str, Any] = field(default_factory=dict)
    """Values of the columns that taggers have filled so far."""
    _markup: Markup | PageError | None = None

    def markup(self) -> Markup:
        """What its HTML holds, read once; PageError where it cannot be read."""
        if self._markup is None:
            try:
                self._markup = read_markup(self._cell(self.columns.html))
            except PageError as error:
                self._markup = error
            except (ValueError, RuntimeError) as error:
                self._markup = PageError(f"column {self.columns.html!r}: {error}")
        if isinstance(self._markup, PageError):
            raise self._markup
        return self._markup

    def url(self) -> str:
        """PageError where there is none."""
        return self._cell(self.columns.url)

    def has_url(self) -> bool:
        """Whether there is one."""
        return isinstance(self.row.get(self.columns.url), str)

    def text(self) -> str | None:
        """The text that was found, else the row's own; None where there is neither."""
        text = self.found["text"] if "text" in self.found else self.row.get(self.columns.text)
        return text if isinstance(text, str) else None

    def entries(self, column: str) -> Sequence[Entry]:
        """What a tagger has found, else what the row has in that column."""
        entries = self.found[column] if column in self.found else self.row.get(column)
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def spans(self, column: str) -> Sequence[Entry]:
        """The same of a column about spans of the text; PageError for an entry without a span."""
        entries = self.entries(column)
        for entry in entries:
            if not has_span(entry):
                raise PageError(f"column {column!r}: an entry has no char_start_idx and char_end_idx")
        return entries

    def _cell(self, column: str) -> str:
        if column not in self.row:
            raise PageError(f"the row has no column {column!r}")
        value = self.row[column]
        if not isinstance(value, str):
            what = "null" if value is None else f"a value of type {type(value).__name__}"
            raise PageError(f"column {column!r} holds {what}, not text")
        return value


class Tagger(Protocol):
    """Finds one type of metadata."""

    @property
    def name(self) -> str:
        """That of its type."""
        ...

    @property
    def reads(self) -> str:
        """Which column of a page it needs, as `PageColumns` calls it; empty for one that reads what others found."""
        ...

    @property
    def columns(self) -> Mapping[str, Kind]:
        """What it fills in."""
        ...

    def tag(self, page: Page) -> dict[str, Any]:
        """Values of its columns; one that is left out is empty. PageError where the page cannot be read."""
        ...


def empty(kind: Kind) -> Any:
    """What a column holds where nothing was found."""
    return "" if kind == "text" else []


def has_span(entry: Entry) -> bool:
    """Whether it says where in the text it begins and ends."""
    return type(entry.get("char_start_idx")) is int and type(entry.get("char_end_idx")) is int


def about_text(key: str, value: str) -> Entry:
    """An entry about the whole text."""
    return {"key": key, "type": "global", "value": value}


def about_span(key: str, start: int, end: int, value: str) -> Entry:
    """An entry about the characters from `start` up to `end`."""
    return {"key": key, "type": "local", "char_start_idx": start, "char_end_idx": end, "value": value}
