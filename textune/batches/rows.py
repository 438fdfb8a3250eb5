"""The rows of a token store chosen for one purpose, with targets and weights; between `cache.py` and `batch.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.batches.store import TokenStore


@dataclass(frozen=True, eq=False)
class TokenRows:
    """N chosen rows of a store. Targets and weights cover all its examples, so choosing rows copies nothing.

    A *position* counts the chosen rows, from 0.
    """

    store: TokenStore
    rows: np.ndarray
    """int64 [N] which rows of the store."""
    example_targets: Mapping[str, np.ndarray]
    """By head: [E] or [E, C] over all examples of the store."""
    example_weights: np.ndarray | None
    """float32 [E] over all examples, or [E, H] with a column for each head; None where they have none. They count in
    the loss or, with `train.order = "weighted"`, in the draw."""

    @classmethod
    def of_examples(
        cls, store: TokenStore, chosen: np.ndarray, targets: Mapping[str, np.ndarray], weights: np.ndarray | None
    ) -> TokenRows:
        """The rows of the chosen examples (int64); `targets` and `weights` are those of all examples."""
        return cls(store, store.rows_of(chosen), targets, weights)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each row."""
        return self.store.lengths_of(self.rows)

    @property
    def num_truncated(self) -> int:
        """Rows that lost tokens."""
        return int((self.store.raw_lengths[self.rows] > self.lengths).sum())

    @property
    def examples(self) -> np.ndarray:
        """int64 [N] the example of each row."""
        return np.asarray(self.store.example[self.rows])

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """The target of each row by head: [N] or [N, C]."""
        examples = self.examples
        return {name: targets[examples] for name, targets in self.example_targets.items()}

    @property
    def weights(self) -> np.ndarray | None:
        """float32 [N] or [N, H] the weight of each row; None where rows have none."""
        return None if self.example_weights is None else np.asarray(self.example_weights[self.examples])

    def at(self, positions: np.ndarray) -> TokenRows:
        """The rows at these positions (int64 [B])."""
        return replace(self, rows=self.rows[positions])


def join_rows(parts: Sequence[TokenRows]) -> TokenRows:
    """Rows of several stores with the same columns as rows of one store, in order; those of a single store as is."""
    if len(parts) == 1:
        return parts[0]
    weights = [part.weights for part in parts]
    targets = [part.targets for part in parts]
    lengths = np.concatenate([part.lengths for part in parts])
    store = TokenStore(
        columns={
            name: np.concatenate([row for part in parts for row in _tokens(part, name)])
            for name in parts[0].store.columns
        },
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        raw_lengths=np.concatenate([part.store.raw_lengths[part.rows] for part in parts]),
        example=np.arange(len(lengths)),
    )
    return TokenRows(
        store,
        rows=np.arange(len(store)),
        example_targets={name: np.concatenate([of_part[name] for of_part in targets]) for name in targets[0]},
        example_weights=None
        if weights[0] is None
        else np.concatenate([of_part for of_part in weights if of_part is not None]),
    )


def _tokens(part: TokenRows, name: str) -> Iterator[np.ndarray]:
    """The tokens of each row in one column."""
    column, offsets = part.store.columns[name], part.store.offsets
    return (column[start:stop] for start, stop in zip(offsets[part.rows], offsets[part.rows + 1], strict=True))
