"""How runs of version 0.1.0 drew the order of their rows, which they keep when resumed. The counterpart of `draws.py`.

numpy may change these functions between versions, so new runs draw differently.
"""

from __future__ import annotations

import numpy as np


class OldDraws:
    """Like `Draws`, with numpy's own functions."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    @classmethod
    def of_key(cls, seed: int, number: int) -> OldDraws:
        """The draws of a seed and an epoch."""
        return cls(np.random.Generator(np.random.Philox(key=[seed, number])))

    def permutation(self, num: int) -> np.ndarray:
        """A random order of `num` things, int64 [num]."""
        return self._generator.permutation(num).astype(np.int64)

    def uniform(self, num: int) -> np.ndarray:
        """Numbers between 0 and 1, float64 [num]."""
        return self._generator.random(num)

    def below(self, bound: int) -> int:
        """One of 0, 1, ..., bound - 1."""
        return int(self._generator.integers(bound))
