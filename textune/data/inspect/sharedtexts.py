"""Held-out texts that are training texts too, up to case, spacing and punctuation, found as training rows pass by;
for data that is read once. Only a 64-bit key of each held-out text is kept (`duplicates.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from textune.data.inspect.duplicates import EMPTY_KEY, blocks_of, normalised, text_keys
from textune.data.reading import Rows


@dataclass(frozen=True)
class SharedText:
    """A held-out row, and the first training row with its text."""

    row: int
    """Number of the held-out row in its set."""
    train_place: str


class HeldOutTexts:
    """The texts of held-out sets, sorted by key."""

    def __init__(self, texts: Mapping[str, pa.ChunkedArray]) -> None:
        """`texts`: of each set by its name, large_string."""
        self._keys = {name: text_numbers(column) for name, column in texts.items()}
        whole = np.concatenate([np.zeros(0, np.int64), *self._keys.values()])
        self._sorted = np.unique(whole[whole != EMPTY_KEY])
        self._places: dict[int, str] = {}

    def meet(self, texts: pa.ChunkedArray, rows: Rows) -> None:
        """Compare some training rows, whose texts are these."""
        if not len(self._sorted):
            return
        key_N = text_numbers(texts)
        at_N = np.minimum(np.searchsorted(self._sorted, key_N), len(self._sorted) - 1)
        for number in np.flatnonzero(self._sorted[at_N] == key_N).tolist():
            key = int(key_N[number])
            if key not in self._places:
                self._places[key] = rows.place(number)

    def shared(self, name: str) -> list[SharedText]:
        """The rows of a set that training rows met so far share a text with, in order."""
        keys = self._keys[name].tolist()
        return [SharedText(row, self._places[key]) for row, key in enumerate(keys) if key in self._places]


def text_numbers(texts: pa.ChunkedArray) -> np.ndarray:
    """int64 [N]; equal for texts that are equal up to case, spacing and punctuation."""
    return text_keys(map(normalised, blocks_of(texts)))
