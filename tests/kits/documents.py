"""Documents with metadata for the tests of that room, from entries written as records of version 1 write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textune.metadata.documents import NO_POSITION, Documents, Entries, Insertions, Rendered


@dataclass(frozen=True)
class Entry:
    """One piece of metadata, as a record has it."""

    type: str
    value: str
    start: int | None = None
    end: int | None = None
    start_order: int | None = None
    end_order: int | None = None
    attributes: tuple[tuple[str, str], ...] = ()


def tag(name: str, start: int, end: int, orders: str = "", **attributes: str) -> Entry:
    """An HTML tag; `orders` as in "0/1", opening and closing."""
    start_order, end_order = map(int, orders.split("/")) if orders else (None, None)
    return Entry("html", name, start, end, start_order, end_order, tuple(attributes.items()))


def documents_of(types: Sequence[str], *rows: tuple[str, Sequence[Entry]]) -> Documents:
    """Texts with entries; those of a type that is not in `types` are passed over."""
    flat = [(number, entry) for number, (_, found) in enumerate(rows) for entry in found if entry.type in types]

    def numbers(name: str) -> np.ndarray:
        values = [getattr(entry, name) for _, entry in flat]
        return np.array([NO_POSITION if value is None else value for value in values], dtype=np.int64)

    return Documents(
        types=tuple(types),
        texts=[text for text, _ in rows],
        row=np.arange(len(rows)),
        shard=np.zeros(len(rows), dtype=np.uint64),
        entries=Entries(
            document=np.array([number for number, _ in flat], dtype=np.int64),
            type=np.array([list(types).index(entry.type) for _, entry in flat], dtype=np.int16),
            value=[entry.value for _, entry in flat],
            start=numbers("start"),
            end=numbers("end"),
            start_order=numbers("start_order"),
            end_order=numbers("end_order"),
            attributes=[entry.attributes for _, entry in flat],
        ),
    )


def mask_of(rendered: Rendered, document: int = 0) -> list[int]:
    """1 for each character of a rendered text that was inserted."""
    mask = np.zeros(len(rendered.texts[document]), dtype=int)
    for start, end in runs_of(rendered.insertions, document):
        mask[start:end] += 1
    return mask.tolist()


def runs_of(insertions: Insertions, document: int) -> list[tuple[int, int]]:
    """Where each insertion into a text begins and ends."""
    here = insertions.document == document
    return list(zip(insertions.start[here].tolist(), insertions.end[here].tolist(), strict=True))


def counted(mask: Sequence[int]) -> str:
    """A mask in runs: `0x3 1x34`."""
    runs: list[list[int]] = []
    for value in mask:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return " ".join(f"{value}x{number}" for value, number in runs)


APPLE = "An apple is an edible fruit produced by an apple tree (Malus domestica)."
BOXER = (
    "It was a brilliant first round. You have to break down the Cuban's rhythm you can't let them get into rhythm. "
    "The risk with that is Yafai has got to go him."
)
CASES: Mapping[str, tuple[str, list[Entry]]] = {
    "A": (
        BOXER,
        [
            Entry("url", "https://www.bbc.com/sport/live/olympics/50974152"),
            Entry("timestamp", "2018-12-10T13:45:00.000Z"),
            Entry("entity", "Galal Yafai", 132, 137),
        ],
    ),
    "B": (
        APPLE,
        [
            Entry("url", "https://en.wikipedia.org/wiki/Apple"),
            tag("b", 3, 8, "0/0"),
            Entry("entity", "Malus domestica", 3, 8),
            tag("b", 43, 53, "1/0", **{"class": "level1", "id": "4", "href": "https://test.org"}),
            tag("i", 43, 48, "2/0", **{"class": "level2"}),
        ],
    ),
    "E": (
        APPLE,
        [
            Entry("url", "https://en.wikipedia.org/wiki/Apple"),
            tag("b", 3, 8, "0/0"),
            Entry("entity", "Malus domestica", 3, 8),
            tag("a", 43, 43, "0/1"),
            tag("a", 43, 43, "6/7"),
            tag("b", 43, 53, "4/0", **{"class": "level2"}),
            tag("b", 43, 53, "3/1", **{"class": "level1"}),
            tag("i", 43, 48, "5/0", **{"class": "level3"}),
        ],
    ),
}
"""The documents that the conformance cases are about, by their letters."""
