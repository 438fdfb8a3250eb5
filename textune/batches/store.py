"""Token ids of many rows in flat columns, and which example each row comes from; before `tokens.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

COLUMNS: dict[str, type] = {
    "ids": np.int32,
    "types": np.uint8,
    "mask": np.uint8,
    "characters": np.uint32,
    "bytes": np.uint32,
}
"""Every column by token, and its type in a store."""


class RowStore(Protocol):
    """Rows of tokens that can be chosen and read, whether they are kept as a whole (`TokenStore`) or in pieces
    (`PrefixedStore`). Names and shapes are those of `TokenStore`."""

    @property
    def repeated(self) -> int: ...
    @property
    def example(self) -> np.ndarray: ...
    @property
    def raw_lengths(self) -> np.ndarray: ...
    @property
    def num_examples(self) -> int: ...
    @property
    def occurring(self) -> tuple[np.ndarray, ...]: ...
    def __len__(self) -> int: ...
    @property
    def lengths(self) -> np.ndarray: ...
    def lengths_of(self, rows: np.ndarray) -> np.ndarray: ...
    def rows_of(self, examples: np.ndarray) -> np.ndarray: ...
    def num_rows_of(self, examples: np.ndarray) -> np.ndarray: ...
    def example_lengths(self, examples: np.ndarray) -> np.ndarray: ...
    def shorter_examples(self, limit: int) -> np.ndarray: ...
    def read(self, rows: np.ndarray) -> tuple[TokenStore, np.ndarray]: ...
    def whole(self) -> TokenStore: ...
    def in_epoch(self, seed: int, epoch: int) -> Self: ...


@dataclass(frozen=True, eq=False)
class TokenStore:
    """N rows of tokens, one after the other. An example (a row of the data) has one row or several neighbouring ones,
    its windows.

    Examples and rows are never mixed: what is known of an example (target, weight, place) is found through `example`.
    """

    columns: dict[str, np.ndarray]
    """By token, [total] each: `ids` int32 always, `types` uint8 where the backbone tells the texts of a pair apart,
    `mask` uint8 where some come from metadata: 1 for those, 0 for text. Of held-out documents also `characters` and
    `bytes` uint32: how much of the text each token of it stands for."""
    offsets: np.ndarray
    """int64 [N+1] where each row begins, and where the last one ends."""
    raw_lengths: np.ndarray
    """int32 [N] tokens of each row's text before it was truncated, or cut into windows."""
    example: np.ndarray
    """int64 [N] the example that each row comes from, ascending; every example has a row."""
    repeated: int = 0
    """Tokens that each window of an example but the first adds to those of its text: special tokens, and what it
    shares with the window before."""
    sources: np.ndarray | None = None
    """int64 [E] which row of the data each example is, where some rows have no tokens; None where example i is row
    i."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def ids(self) -> np.ndarray:
        """int32 [total] token ids."""
        return self.columns["ids"]

    @property
    def types(self) -> np.ndarray | None:
        """uint8 [total] token types; None where there are none."""
        return self.columns.get("types")

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each row after truncation, special tokens included."""
        return np.diff(self.offsets)

    @property
    def num_examples(self) -> int:
        """Examples that the rows come from."""
        return int(self.example[-1]) + 1 if len(self) else 0

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [R] tokens of the chosen rows (int64 [R])."""
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows])

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """int64 [R] the rows of these examples (int64 [E]), example after example."""
        if len(self) == self.num_examples:
            return np.asarray(examples, dtype=np.int64)
        count_E = self.num_rows_of(examples)
        first_E = np.searchsorted(self.example, examples, side="left")
        skipped_E = first_E - (np.cumsum(count_E) - count_E)
        return np.asarray(np.repeat(skipped_E, count_E) + np.arange(count_E.sum()), dtype=np.int64)

    def num_rows_of(self, examples: np.ndarray) -> np.ndarray:
        """int64 [E] how many rows each of these examples (int64 [E]) has."""
        if len(self) == self.num_examples:
            return np.ones(len(examples), dtype=np.int64)
        first_E, behind_E = (np.searchsorted(self.example, examples, side=side) for side in ("left", "right"))
        return np.asarray(behind_E - first_E)

    def example_lengths(self, examples: np.ndarray) -> np.ndarray:
        """int64 [E] tokens of all rows of each of these examples (int64 [E])."""
        if len(self) == self.num_examples:
            return self.lengths_of(examples)
        rows, count_E = self.rows_of(examples), self.num_rows_of(examples)
        return np.add.reduceat(self.lengths_of(rows), np.cumsum(count_E) - count_E) if len(rows) else count_E

    def shorter_examples(self, limit: int) -> np.ndarray:
        """int64 [E] the examples without a row of more than `limit` tokens before truncation, ascending."""
        return np.setdiff1d(self.example, self.example[self.raw_lengths > limit])

    @property
    def occurring(self) -> tuple[np.ndarray, ...]:
        """Arrays of token ids in which every one that occurs can be found."""
        return (self.ids,)

    def read(self, rows: np.ndarray) -> tuple[TokenStore, np.ndarray]:
        """A store that holds the chosen rows (int64 [R]), and where they are in it: here."""
        return self, rows

    def whole(self) -> TokenStore:
        """All rows: this store."""
        return self

    def in_epoch(self, seed: int, epoch: int) -> TokenStore:
        """The rows as an epoch of training sees them: the same in each."""
        return self


def join_stores(stores: Iterable[TokenStore], *, names: Sequence[str]) -> TokenStore:
    """Stores of consecutive examples as one, in memory, with the columns of these names; their `sources` count the
    rows of all of them."""
    parts = list(stores)
    sources = [part.sources for part in parts if part.sources is not None]
    tokens_before = np.cumsum([0, *(len(part.ids) for part in parts)])
    examples_before = np.cumsum([0, *(int(part.example[-1]) + 1 if len(part) else 0 for part in parts)])
    starts = [part.offsets[:-1] + before for part, before in zip(parts, tokens_before[:-1], strict=True)]
    examples = [part.example + before for part, before in zip(parts, examples_before[:-1], strict=True)]
    return TokenStore(
        columns={
            name: np.concatenate([np.zeros(0, COLUMNS[name]), *(part.columns[name] for part in parts)])
            for name in names
        },
        offsets=np.concatenate([*starts, tokens_before[-1:]]),
        raw_lengths=np.concatenate([np.zeros(0, np.int32), *(part.raw_lengths for part in parts)]),
        example=np.concatenate([np.zeros(0, np.int64), *examples]),
        repeated=parts[0].repeated if parts else 0,
        sources=np.concatenate(sources) if sources else None,
    )
