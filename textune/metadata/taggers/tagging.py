"""A row through all taggers: one that fails leaves its columns empty and says why in columns of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from textune.errors import TextuneError
from textune.metadata.taggers.page import Kind, Page, PageColumns, PageError, Tagger, empty

MAX_COMMENT = 500
"""Characters of an error's words that are kept."""


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
        self._taggers = taggers
        self._columns = columns
        self.counts = TagCounts(types={tagger.name: TypeCounts() for tagger in taggers})
        """Of all rows so far."""

    def columns(self) -> dict[str, Kind]:
        """What is added to every row, in order."""
        added: dict[str, Kind] = {}
        for tagger in self._taggers:
            added |= tagger.columns
        for tagger in self._taggers:
            added |= {error_column(tagger.name): "error", comment_column(tagger.name): "text"}
        return added

    def tag(
        self,
        row: Mapping[str, Any],
        *,
        place: str = "",
        begin: Callable[[str], None] = lambda name: None,
        broken: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The row with the columns of all taggers; others stay as they are.

        `place`: where it comes from; `begin` is told which tagger comes next; `broken`: taggers that cannot be used on
        this row, and why.
        """
        page, comments = Page(row, self._columns), dict[str, str]()
        for tagger in self._taggers:
            begin(tagger.name)
            values, comment = self._ask(tagger, page, broken or {})
            comments[tagger.name] = comment
            for column, kind in tagger.columns.items():
                if comment and column == "text" and isinstance(row.get("text"), str):
                    continue  # a text that was there stays
                page.found[column] = values.get(column, empty(kind))
            self._count(tagger, page, comment, place)
        self.counts.pages += 1
        self.counts.with_errors += any(comments.values())
        self.counts.characters += len(page.text() or "")
        errors: dict[str, Any] = {}
        for name, comment in comments.items():
            errors |= {error_column(name): int(bool(comment)), comment_column(name): comment}
        return {**row, **page.found, **errors}

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

    def _count(self, tagger: Tagger, page: Page, comment: str, place: str) -> None:
        counts = self.counts.types[tagger.name]
        column = next((name for name in tagger.columns if name.startswith("metadata_")), "")
        found = len(page.found.get(column, ()))
        counts.add(TypeCounts(bool(found), found, bool(comment), f"{place}: {comment}" if comment else ""))


def error_column(name: str) -> str:
    """Holds 1 where the tagger could not read the page, else 0."""
    return f"{name}_error"


def comment_column(name: str) -> str:
    """Says why."""
    return f"{name}_error_comment"


def _comment(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return line[:MAX_COMMENT] or "no reason given"
