"""Examples of a token store chosen for one purpose, with targets and weights; between `cache.py` and `batch.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.batches.layout import padding_waste
from textune.batches.prefixed import PrefixedStore
from textune.batches.store import RowStore, TokenStore

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class TokenRows:
    """N chosen examples of a store. Targets and weights cover all its examples, so choosing some copies nothing.

    A *position* counts the chosen examples, from 0. Each has one row of tokens, or as many as it has windows.
    """

    store: RowStore
    examples: np.ndarray
    """int64 [N] which examples of the store."""
    example_targets: Mapping[str, np.ndarray]
    """By head: [E] or [E, C] over all examples of the store."""
    example_weights: np.ndarray | None
    """float32 [E] over all examples, or [E, H] with a column for each head; None where they have none. They count in
    the loss or, with `train.order = "weighted"`, in the draw."""
    example_documents: np.ndarray | None = None
    """int64 [E] which document each example is a chunk of, where an evaluation adds up those of a document; None where
    each example counts by itself."""

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def rows(self) -> np.ndarray:
        """int64 [R] all rows of the store that belong to them, example after example."""
        return self.store.rows_of(self.examples)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each example, those of all its windows together."""
        return self.store.example_lengths(self.examples)

    @property
    def row_lengths(self) -> np.ndarray:
        """int64 [R] tokens of each row."""
        return self.store.lengths_of(self.rows)

    @property
    def num_windows(self) -> np.ndarray:
        """int64 [N] rows of each example."""
        return self.store.num_rows_of(self.examples)

    @property
    def raw_lengths(self) -> np.ndarray:
        """int64 [N] tokens of each example's text before it was truncated, or cut into windows."""
        first_N = np.cumsum(self.num_windows) - self.num_windows
        return np.asarray(self.store.raw_lengths[self.rows[first_N]], dtype=np.int64)

    @property
    def by_windows(self) -> dict[int, int]:
        """How many examples have how many windows, by that number, ascending."""
        numbers, counts = np.unique(self.num_windows, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def num_beyond(self, max_length: int) -> int:
        """Tokens of the texts that cutting each at `max_length` would lose."""
        return int((self.raw_lengths - max_length).clip(min=0).sum())

    def padding_waste(self, batches: list[np.ndarray], *, pad_to: int | None = None) -> float:
        """As `layout.padding_waste`, of the rows of batches (positions, int64 [B] each)."""
        rows = [self.store.rows_of(self.examples[batch]) for batch in batches]
        return padding_waste(self.store.lengths, rows, pad_to=pad_to)

    @property
    def truncated(self) -> np.ndarray:
        """bool [N] whether each example lost tokens."""
        covered_N = self.lengths - self.store.repeated * (self.num_windows - 1)
        return np.asarray(self.raw_lengths > covered_N)

    @property
    def num_truncated(self) -> int:
        """Examples that lost tokens."""
        return int(self.truncated.sum())

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """The target of each example by head: [N] or [N, C]."""
        return {name: targets[self.examples] for name, targets in self.example_targets.items()}

    @property
    def weights(self) -> np.ndarray | None:
        """float32 [N] or [N, H] the weight of each example; None where they have none."""
        return None if self.example_weights is None else np.asarray(self.example_weights[self.examples])

    @property
    def documents(self) -> np.ndarray | None:
        """int64 [N] the document of each example; None where each counts by itself."""
        return None if self.example_documents is None else np.asarray(self.example_documents[self.examples])

    @property
    def prefix_lengths(self) -> np.ndarray:
        """int64 [N] tokens before each example's text, special tokens left out; empty where nothing is put there."""
        return np.asarray(self.store.prefix_lengths[self.examples]) if isinstance(self.store, PrefixedStore) else _NONE

    def in_epoch(self, seed: int, epoch: int) -> TokenRows:
        """The same examples as an epoch of training sees them."""
        return replace(self, store=self.store.in_epoch(seed, epoch))

    def at(self, positions: np.ndarray) -> TokenRows:
        """The examples at these positions (int64 [B])."""
        return replace(self, examples=self.examples[positions])


def join_rows(parts: Sequence[TokenRows]) -> TokenRows:
    """Examples of several stores with the same columns as those of one store, in order; those of a single store as
    they are."""
    if len(parts) == 1:
        return parts[0]
    read = [(part.store.whole(), part.rows) for part in parts]
    weights = [part.weights for part in parts]
    targets = [part.targets for part in parts]
    num_windows = np.concatenate([part.num_windows for part in parts])
    store = TokenStore(
        columns={
            name: np.concatenate([row for whole, rows in read for row in _tokens(whole, rows, name)])
            for name in read[0][0].columns
        },
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.row_lengths for part in parts]))]),
        raw_lengths=np.concatenate([part.store.raw_lengths[part.rows] for part in parts]),
        example=np.repeat(np.arange(len(num_windows)), num_windows),
        repeated=parts[0].store.repeated,
    )
    return TokenRows(
        store,
        examples=np.arange(len(num_windows)),
        example_targets={name: np.concatenate([of_part[name] for of_part in targets]) for name in targets[0]},
        example_weights=None
        if weights[0] is None
        else np.concatenate([of_part for of_part in weights if of_part is not None]),
    )


def _tokens(store: TokenStore, rows: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """The tokens of each of these rows in one column."""
    column, offsets = store.columns[name], store.offsets
    return (column[start:stop] for start, stop in zip(offsets[rows], offsets[rows + 1], strict=True))
