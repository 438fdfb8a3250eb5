"""The same rows in two evaluations: found by their numbers where both read one source, otherwise by their texts; after
`evaluated.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textune.evaluation.evaluated import EvaluatedSet


@dataclass(frozen=True, eq=False)
class Pairing:
    """Which rows of two evaluated sets are the same, and what is left over."""

    first: np.ndarray
    """int64 [K] positions in the first set, ascending."""
    other: np.ndarray
    """int64 [K] those of the same rows in the other set."""
    only_first: np.ndarray
    """int64 positions in the first set of rows that the other one lacks."""
    only_other: np.ndarray

    @property
    def is_complete(self) -> bool:
        """Whether both sets have the same rows."""
        return not len(self.only_first) and not len(self.only_other)


def pair_rows(first: EvaluatedSet, other: EvaluatedSet) -> Pairing:
    """Rows are the same if they have the same number in sources of the same content, whatever a model reads of them.
    In different sources the same texts make the same row: the second of two equal ones is the second there as well."""
    by_number = first.fingerprint == other.fingerprint
    mine, theirs = (_keys(one.facts.row if by_number else one.facts.content) for one in (first, other))
    if np.array_equal(mine, theirs):
        every = np.arange(len(mine))
        return Pairing(every, every, every[:0], every[:0])
    _, of_first, of_other = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    order = np.argsort(of_first)
    return Pairing(of_first[order], of_other[order], _rest(len(mine), of_first), _rest(len(theirs), of_other))


def _rest(num: int, found: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(num), found, assume_unique=True)


def _keys(same_N: np.ndarray) -> np.ndarray:
    """uint64 [N] a key for each row: what is the same in equal rows, and whether it is the first of these, the second
    and so on; other rows share it by chance only."""
    same_N = same_N.astype(np.uint64)
    order = np.argsort(same_N, kind="stable")
    ordered = same_N[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    times = np.zeros(len(same_N), np.uint64)
    times[order] = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    return np.asarray(same_N + times * _STRIDE)


_STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""Between the keys of equal rows: far, and reached by no other sum of small numbers."""
