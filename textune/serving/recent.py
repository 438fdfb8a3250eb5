"""What the last rows were, counted in bins; before `watched.py`."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np


class Recent:
    """The counts of the last `size` rows, each of which is in any number of bins."""

    def __init__(self, num_bins: int, size: int) -> None:
        self.size: Final = size
        self.counts: Final = np.zeros(num_bins, np.int64)
        """By bin."""
        self.num_rows = 0
        """Rows that are counted, at most `size`."""
        self._parts: deque[tuple[int, np.ndarray, np.ndarray]] = deque()
        """What was added: its number of rows, and which of them are in which bin, the rows ascending."""

    def add(self, num_rows: int, row_G: np.ndarray, bin_G: np.ndarray) -> None:
        """Add rows: int64 [G] pairs of a row (from 0, ascending) and a bin that it is in."""
        if num_rows > self.size:
            first = num_rows - self.size
            kept = row_G >= first
            num_rows, row_G, bin_G = self.size, row_G[kept] - first, bin_G[kept]
        self._parts.append((num_rows, row_G, bin_G))
        self._count(bin_G, 1)
        self.num_rows += num_rows
        while self.num_rows > self.size:
            self._drop(self.num_rows - self.size)

    def _drop(self, num_rows: int) -> None:
        """Take the oldest rows back, at most so many."""
        num, row_G, bin_G = self._parts.popleft()
        dropped = min(num, num_rows)
        cut = int(np.searchsorted(row_G, dropped))
        self._count(bin_G[:cut], -1)
        self.num_rows -= dropped
        if dropped < num:
            self._parts.appendleft((num - dropped, row_G[cut:] - dropped, bin_G[cut:]))

    def _count(self, bin_G: np.ndarray, sign: int) -> None:
        np.add.at(self.counts, bin_G, sign)
