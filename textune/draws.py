"""Random orders, numbers and choices from the raw bits of a seed; below every room.

numpy promises that the raw stream of a bit generator never changes, but not what `Generator.permutation` and the like
make of it. The draws here are therefore the same on every platform and with every version of numpy.
"""

from __future__ import annotations

import numpy as np

_BITS_OF_A_FRACTION = 53
"""How many of the 64 bits of a draw fit into a float64 in [0, 1)."""


class Draws:
    """Draws from a bit generator, one after the other."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        self._bits = bits

    @classmethod
    def of_seed(cls, seed: int) -> Draws:
        """The draws of a seed."""
        return cls(np.random.PCG64(seed))

    @classmethod
    def of_key(cls, seed: int, number: int) -> Draws:
        """The draws of a seed and a number, such as an epoch; the draws of any two numbers are independent."""
        # Philox is counter-based: its key may be any two numbers.
        return cls(np.random.Philox(key=[seed, number]))

    def _raw(self, num: int) -> np.ndarray:
        if num == 0:
            return np.zeros(0, np.uint64)
        return self._bits.random_raw(num).astype(np.uint64, copy=False)

    def permutation(self, num: int) -> np.ndarray:
        """A random order of `num` things, int64 [num]."""
        return np.argsort(self._raw(num), kind="stable").astype(np.int64, copy=False)

    def uniform(self, num: int) -> np.ndarray:
        """Numbers between 0 and 1, float64 [num]; 1 is never drawn."""
        fractions = self._raw(num) >> np.uint64(64 - _BITS_OF_A_FRACTION)
        return np.asarray(fractions * 2.0**-_BITS_OF_A_FRACTION)

    def below(self, bound: int) -> int:
        """One of 0, 1, ..., bound - 1; their probabilities differ by less than bound / 2^64."""
        return int(self._raw(1)[0] % np.uint64(bound))


def fractions_of_rows(seed: int, epoch: int, row_N: np.ndarray, num: int) -> np.ndarray:
    """Numbers between 0 and 1 that each row draws for itself, float64 [N, num]; 1 is never drawn.

    They follow from (seed, epoch, row) alone, whichever rows are asked for together. `row_N`: uint64 [N] ids of rows.
    """
    state_N = _mixed(row_N.astype(np.uint64, copy=False) ^ _mixed(np.array([seed], np.uint64)))
    state_N = _mixed(state_N ^ _mixed(np.array([epoch], np.uint64) + _STEP))
    with np.errstate(over="ignore"):
        counters = np.arange(1, num + 1, dtype=np.uint64) * _STEP
        bits_NK = _mixed(state_N[:, None] + counters[None])
    return np.asarray((bits_NK >> np.uint64(64 - _BITS_OF_A_FRACTION)) * 2.0**-_BITS_OF_A_FRACTION)


_STEP = np.uint64(0x9E3779B97F4A7C15)
"""The increment of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195)."""


def _mixed(state: np.ndarray) -> np.ndarray:
    """SplitMix64's function of a state, uint64 to uint64 of the same shape: each bit in decides half of those out."""
    with np.errstate(over="ignore"):
        state = (state + _STEP).astype(np.uint64, copy=False)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)))
