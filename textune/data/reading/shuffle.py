"""Seeded orders that are the same on every machine and with every numpy; used by `sources.py` and `splits.py`."""

from __future__ import annotations

import numpy as np


def random_keys(num: int, *, seed: int) -> np.ndarray:
    """Uniform random integers, uint64 [num].

    They are the raw stream of PCG64: numpy promises never to change it, unlike what `Generator.permutation` makes of it.
    """
    return np.random.PCG64(seed).random_raw(num).astype(np.uint64, copy=False) if num else np.zeros(0, np.uint64)


def permutation(num: int, *, seed: int) -> np.ndarray:
    """A random order of `num` things, int64 [num]."""
    return np.argsort(random_keys(num, seed=seed), kind="stable").astype(np.int64, copy=False)
