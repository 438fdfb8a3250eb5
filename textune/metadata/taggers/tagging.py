"""A row through all taggers: one that fails leaves its columns empty and says why in columns of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from textune.errors import TextuneError
from textune.metadata.taggers.page import Kind, Page, PageColumns, PageError, Tagger, empty
from textune.metadata.types import COLUMN_PREFIX

MAX_COMMENT = 500
"""Characters of an error's words that are kept."""


@dataclass(frozen=True)
class TaggedPage:
    """A row with what was found for it."""

    row: dict[str, Any]
    entries: Mapping[str, int]
    """How many, by tagger."""
    comments: Mapping[str, str]
    """Why a tagger found nothing, by tagger; empty where it could read the page."""
    characters: int
    """Of text."""


@dataclass
class TypeCounts:
    """What one tagger found on many pages."""

    pages: int = 0
    """With at least one entry."""
    entries: int = 0
    errors: int = 0
    """Pages that it could not read."""
    first_error: str = ""
    """Place and reason of the first of them."""

    def add(self, other: TypeCounts) -> None:
        """Those of pages that follow."""
        self.pages += other.pages
        self.entries += other.entries
        self.errors += other.errors
        self.first_error = self.first_error or other.first_error


@dataclass
class TagCounts:
    """What was found on many pages."""

    pages: int = 0
    with_errors: int = 0
    """Pages that at least one tagger could not read."""
    characters: int = 0
    """Of text."""
    types: dict[str, TypeCounts] = field(default_factory=dict)
    """By the name of the tagger."""

    def add(self, other: TagCounts) -> None:
        """Those of pages that follow."""
        self.pages += other.pages
        self.with_errors += other.with_errors
        self.characters += other.characters
        for name, counts in other.types.items():
            self.types.setdefault(name, TypeCounts()).add(counts)

    def add_page(self, page: TaggedPage, place: str) -> None:
        """That of the next page. `place`: where it comes from."""
        types = {}
        for name, comment in page.comments.items():
            num = page.entries[name]
            types[name] = TypeCounts(int(num > 0), num, int(bool(comment)), f"{place}: {comment}" if comment else "")
        self.add(TagCounts(1, int(any(page.comments.values())), page.characters, types))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TagCounts:
        """What `to_dict` gave."""
        types = {name: TypeCounts(**counts) for name, counts in values["types"].items()}
        return cls(values["pages"], values["with_errors"], values["characters"], types)


class PageTagger:
    """Several taggers, one after the other."""

    def __init__(self, taggers: Sequence[Tagger], columns: PageColumns) -> None:
        self.taggers = taggers
        self._columns = columns

    def columns(self) -> dict[str, Kind]:
        """What is added to every row, in order."""
        added: dict[str, Kind] = {}
        for tagger in self.taggers:
            added |= tagger.columns
        for tagger in self.taggers:
            added |= {error_column(tagger.name): "error", comment_column(tagger.name): "text"}
        return added

    def tag(
        self,
        row: Mapping[str, Any],
        *,
        begin: Callable[[str], None] = lambda name: None,
        broken: Mapping[str, str] | None = None,
    ) -> TaggedPage:
        """The row with the columns of all taggers; others stay as they are.

        `begin` is told which tagger comes next; `broken`: taggers that cannot be used on this row, and why.
        """
        page, comments, entries = Page(row, self._columns), dict[str, str](), dict[str, int]()
        for tagger in self.taggers:
            begin(tagger.name)
            values, comment = self._ask(tagger, page, broken or {})
            comments[tagger.name], entries[tagger.name] = comment, 0
            for column, kind in tagger.columns.items():
                if comment and column == "text" and isinstance(row.get("text"), str):
                    continue  # a text that was there stays
                page.found[column] = values.get(column, empty(kind))
                entries[tagger.name] += len(page.found[column]) if column.startswith(COLUMN_PREFIX) else 0
        errors: dict[str, Any] = {}
        for name, comment in comments.items():
            errors |= {error_column(name): int(bool(comment)), comment_column(name): comment}
        return TaggedPage({**row, **page.found, **errors}, entries, comments, len(page.text() or ""))

    def _ask(self, tagger: Tagger, page: Page, broken: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        """Its values, and why there are none."""
        if tagger.name in broken:
            return {}, broken[tagger.name]
        try:
            return tagger.tag(page), ""
        except PageError as error:
            return {}, _comment(str(error))
        except TextuneError as error:
            return {}, _comment(error.message)
        except Exception as error:  # whatever a page does to a tagger, the other taggers and pages go on
            return {}, _comment(f"{type(error).__name__}: {error}")


def error_column(name: str) -> str:
    """Holds 1 where the tagger could not read the page, else 0."""
    return f"{name}_error"


def comment_column(name: str) -> str:
    """Says why."""
    return f"{name}_error_comment"


def _comment(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return line[:MAX_COMMENT] or "no reason given"
