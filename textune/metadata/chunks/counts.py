"""What of documents did not become tokens as it stands, counted and in words; before `encoder.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from textune.wording import count, listing, shorten

_OF_TYPE = "left_out "
"""What the name of a type is behind in `ChunkCounts.flat`."""


@dataclass(frozen=True)
class Bare:
    """A document that goes without a prefix or suffix, since none of its fields fits."""

    place: str
    """Where it comes from."""
    longest: str
    """The type of its longest field."""
    text: str
    """That field."""

    def __str__(self) -> str:
        field = f"the longest field is {self.longest}, with {count(len(self.text), 'character')}"
        return f"{self.place}: {field}: {shorten(self.text, 60)}"


@dataclass(frozen=True)
class ChunkCounts:
    """What did not become tokens as it stands. Documents without a chunk are counted in the first two alone."""

    empty: int = 0
    """Documents without a token of text."""
    short: int = 0
    """Documents with fewer than `metadata.min_tokens`."""
    trimmed: int = 0
    """Documents with a prefix or suffix that was too long."""
    bare: int = 0
    """Of these, documents that go without it, since none of its fields fits."""
    left_out: dict[str, int] = field(default_factory=dict)
    """By type: documents that lost this field, or a part of it."""
    split: int = 0
    """Cuts within a tag, which was longer than a chunk, or a character."""
    not_reopened: int = 0
    """Tags that a chunk cut and that were not opened again for want of room."""
    unscored: int = 0
    """Documents without a row, since no token of their chunks is scored; counted where chunks become such rows."""

    @property
    def flat(self) -> dict[str, int]:
        """All that is not 0, by name."""
        numbers = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "left_out"}
        numbers |= {f"{_OF_TYPE}{name}": number for name, number in self.left_out.items()}
        return {name: number for name, number in numbers.items() if number}

    @property
    def cut(self) -> dict[str, int]:
        """The same without documents that have no chunk."""
        return {name: number for name, number in self.flat.items() if name not in ("empty", "short")}

    @classmethod
    def from_flat(cls, numbers: Mapping[str, int]) -> ChunkCounts:
        """The counts that `flat` gave."""
        left_out = {name.removeprefix(_OF_TYPE): num for name, num in numbers.items() if name.startswith(_OF_TYPE)}
        others = {name: number for name, number in numbers.items() if not name.startswith(_OF_TYPE)}
        return cls(**others, left_out=left_out)

    @classmethod
    def sum(cls, several: Iterable[ChunkCounts]) -> ChunkCounts:
        """All of them together."""
        total: Counter[str] = Counter()
        for one in several:
            total.update(one.flat)
        return cls.from_flat(total)

    @property
    def lost(self) -> str:
        """What documents lost, by field, what most of them lost first."""
        by_number = sorted(self.left_out.items(), key=lambda one: (-one[1], one[0]))
        bare = f"; {count(self.bare, 'document')} without any field" if self.bare else ""
        return f"left out are {listing(f'{name} of {num:,}' for name, num in by_number)}{bare}"

    def trimmed_of(self, num_documents: int) -> str:
        """How many of these documents have too many fields, and what is left out of them, in words."""
        share = self.trimmed / num_documents
        return (
            f"{self.trimmed:,} of {count(num_documents, 'document')} ({share:.1%}) have more than"
            f" metadata.prefix_share has room for: {self.lost}"
        )

    @property
    def words(self) -> dict[str, str]:
        """What was cut, by the name of its count; nothing for counts of 0."""
        words = {
            "trimmed": f"{count(self.trimmed, 'document')} with more fields than metadata.prefix_share has room for:"
            f" {self.lost}",
            "split": f"{count(self.split, 'cut')} within a tag longer than a chunk, or within a character",
            "not_reopened": f"{count(self.not_reopened, 'tag')} cut by a chunk and not opened again, for want of room",
            "unscored": f"{count(self.unscored, 'document')} left out: no token of theirs has anything before it",
        }
        return {name: text for name, text in words.items() if getattr(self, name)}
