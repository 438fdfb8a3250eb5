"""Metadata that cannot be rendered as it says: counted by kind, with the first examples and where they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from textune.errors import DataError, Setting, Words
from textune.wording import count, shorten

BadKind = Literal["shape", "key", "scope", "value", "attributes", "span", "order", "nesting", "crossing"]
TITLES: dict[BadKind, str] = {
    "shape": "not a list of objects",
    "key": "no key",
    "scope": "not said, or not rightly, whether it is about the text or a span",
    "value": "a value that is missing or unreadable",
    "attributes": "HTML attributes that are not two lists of equal length",
    "span": "a span that is not in the text",
    "order": "positions among the tags of a character that are incomplete, doubled or reversed",
    "nesting": "tags that cross others of the same type",
    "crossing": "spans that cross very many others",
}
"""What is wrong with entries, by kind."""
HINTS: dict[BadKind, str] = {
    "shape": 'Metadata is a list of objects such as {"key": "url", "type": "global", "value": "https://..."}.',
    "key": "Give each entry of `metadata` a key, as text.",
    "scope": "Give each entry the type `global` (about the whole text) or `local` (about a span of it).",
    "value": "Give each entry a value that is text, a number, or true or false.",
    "attributes": "html_attrs is an object with two lists of equal length: attrs (names) and values.",
    "span": "Characters (Unicode code points) are counted from 0 in the row's text; char_end_idx is the character"
    " after the span.",
    "order": "Among all tags of a type at one character, opening and closing ones, each needs a position of its own;"
    " all entries of the type have both positions, or none has.",
    "nesting": "Order the tags so that whatever opens inside a span also closes inside it.",
    "crossing": "A span that crosses others is closed and opened again where each of them ends. Let such spans end"
    " within those around them, or leave their type out of metadata.types.",
}
"""What to change, by kind."""
EXAMPLES = 3
"""Entries shown of each kind."""


@dataclass(frozen=True)
class BadEntry:
    """An entry that cannot be used."""

    kind: BadKind
    place: str
    """Such as `train.jsonl, line 17`."""
    field: str
    """Such as `metadata[2].char_end_idx`."""
    value: object
    reason: str

    def __str__(self) -> str:
        shown = shorten(self.value, 40)
        value = "" if self.value is None else f" = {shown if isinstance(self.value, str) else shown[1:-1]}"
        return f"{self.place}: {self.field}{value}: {self.reason}"

    def error(self, more: int) -> DataError:
        """As an error; `more`: how many other entries cannot be used."""
        others = f" {count(more, 'more entry', 'more entries')} cannot be used, either." if more else ""
        lenient = Setting("metadata.on_bad_metadata", "report", "set")
        return DataError(
            f"{self}.{others}",
            hint=Words(HINTS[self.kind], " Correct the row, or ", lenient, " to leave such entries out."),
            key=self.field,
            value=self.value,
            place=self.place,
            reason=self.reason,
        )


@dataclass
class BadEntries:
    """All entries of some documents that cannot be used, by kind."""

    counts: dict[BadKind, int] = field(default_factory=dict)
    examples: dict[BadKind, list[tuple[int, BadEntry]]] = field(default_factory=dict)
    """The first few in the order of rows, each with its document."""

    def add(self, kind: BadKind, bad: np.ndarray, document: np.ndarray, describe: Callable[[int], BadEntry]) -> None:
        """Count entries, bool [E]; `describe` makes an example of one."""
        found = np.flatnonzero(bad)
        if not len(found):
            return
        self.counts[kind] = self.counts.get(kind, 0) + len(found)
        examples = self.examples.setdefault(kind, [])
        examples += [(int(document[entry]), describe(entry)) for entry in found[:EXAMPLES].tolist()]
        examples.sort(key=lambda one: one[0])
        del examples[EXAMPLES:]

    def extend(self, later: BadEntries) -> None:
        """Count those of the rows that follow, too."""
        for kind, num in later.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + num
            examples = self.examples.setdefault(kind, [])
            examples += later.examples[kind][: EXAMPLES - len(examples)]

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts.values())

    @property
    def first(self) -> BadEntry | None:
        """The first in the order of rows."""
        examples = [one for of_kind in self.examples.values() for one in of_kind]
        return min(examples, key=lambda one: one[0])[1] if examples else None

    @property
    def left_out(self) -> str:
        """How many are left out, and the first; empty for none."""
        if self.first is None:
            return ""
        return f"{count(self.total, 'entry of metadata', 'entries of metadata')} left out, such as {self.first}"

    def refuse(self) -> None:
        """DataError for the first in the order of rows, if there is any."""
        if self.first is not None:
            raise self.first.error(self.total - 1)
