"""Random orders, numbers and choices from the raw bits of a seed; below every room.

numpy promises that the raw stream of a bit generator never changes, but not what `Generator.permutation` and the like
make of it. The draws here are therefore the same on every platform and with every version of numpy.

`Draws` come one after the other; `fractions_of` needs no order, as each draw follows from its own numbers alone.
"""

from __future__ import annotations

import numpy as np

_BITS_OF_A_FRACTION = 53
"""How many of the 64 bits of a draw fit into a float64 in [0, 1)."""
_GAMMA, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""The constants of SplitMix64."""


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


def bits_of(*words: int | np.ndarray) -> np.ndarray:
    """64 random bits that follow from some whole numbers, uint64; arrays of numbers give an array.

    The numbers are mixed one after the other by the finalizer of SplitMix64 (Steele, Lea and Flood 2014), all of
    whose operations wrap around at 64 bits.
    """
    bits = np.zeros(1, np.uint64)
    for word in words:
        number = word.astype(np.uint64) if isinstance(word, np.ndarray) else np.uint64(word % 2**64)
        bits = (bits ^ number) + _GAMMA
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def fractions_of(*words: int | np.ndarray) -> np.ndarray:
    """A number between 0 and 1 that follows from some whole numbers, float64; 1 is never drawn."""
    return np.asarray((bits_of(*words) >> np.uint64(64 - _BITS_OF_A_FRACTION)) * 2.0**-_BITS_OF_A_FRACTION)
