"""The type `entity`: the names of a gazetteer wherever they stand in the text.

A gazetteer is a file of names, such as a list of people or places, with other names for the same (`aliases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textune.errors import DataError
from textune.metadata.taggers.lookup import read_table
from textune.metadata.taggers.page import Entry, Kind, Page, about_span

ALIAS_SEPARATOR = "|"
"""Between two aliases in a file of cells."""


@dataclass(frozen=True)
class Entity:
    """One row of a gazetteer."""

    name: str
    aliases: Sequence[str] = ()
    description: str = ""


def read_gazetteer(path: str) -> list[Entity]:
    """The rows of a file with the columns `name`, `aliases` and `description`, of which only the first must be there.

    DataError names the line of an entry without a name.
    """
    entities = []
    for place, row in read_table(path, ("name", "aliases", "description"), needed=("name",), option="gazetteer"):
        name = row.get("name")
        if not isinstance(name, str) or not _words_of(name):
            raise DataError(
                f"{place}: the entry has no name.",
                hint="Give it one in the column name, or remove the line.",
                key="gazetteer",
                value=name,
                place=place,
                reason="the entry has no name",
            )
        entities.append(Entity(name, tuple(_aliases(row.get("aliases"), place)), str(row.get("description") or "")))
    return entities


def _aliases(value: object, place: str) -> Iterator[str]:
    names = value.split(ALIAS_SEPARATOR) if isinstance(value, str) else value or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{place}: the aliases are not names.",
            hint=f"Write a list of them, or one text with {ALIAS_SEPARATOR} between two.",
            key="gazetteer",
            value=value,
            place=place,
            reason="the aliases are not names",
        )
    yield from (name.strip() for name in names if _words_of(name))


class Gazetteer:
    """Finds the longest name that begins at each word; case counts, the white space between words does not.

    Where two entries have the same name or alias, the first one in the file has it.
    """

    name = "entity"
    reads = "text"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_entity": "entity"}

    def __init__(self, entities: Sequence[Entity]) -> None:
        self._by_words: dict[tuple[str, ...], Entity] = {}
        lengths: dict[str, set[int]] = {}
        for entity in entities:
            for name in (entity.name.replace("_", " "), *entity.aliases):
                words = _words_of(name)
                if words:
                    self._by_words.setdefault(words, entity)
                    lengths.setdefault(words[0], set()).add(len(words))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        """By first word: how many words the names have that begin with it, most first."""

    @classmethod
    def of_file(cls, path: str) -> Gazetteer:
        """DataError where it is none."""
        return cls(read_gazetteer(path))

    def tag(self, page: Page) -> dict[str, Any]:
        """Nothing for a page without a text."""
        return {"metadata_entity": list(self.find(page.text() or ""))}

    def find(self, text: str) -> Iterator[Entry]:
        """Entities in order; no two overlap."""
        tokens = list(_WORD.finditer(text))
        words = [token[0] for token in tokens]
        at = 0
        while at < len(words):
            for length in self._lengths.get(words[at], ()):
                last = at + length - 1
                if last < len(words) and (entity := self._by_words.get(tuple(words[at : last + 1]))):
                    entry = about_span("entity", tokens[at].start(), tokens[last].end(), entity.name)
                    yield entry | ({"description": entity.description} if entity.description else {})
                    at = last
                    break
            at += 1


_WORD = re.compile(r"\w+|[^\w\s]")


def _words_of(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(name))
