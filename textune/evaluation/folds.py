"""Rows in folds: each fold is decided by a rule that was fitted without it."""

from __future__ import annotations

import numpy as np

from textune.draws import bits_of


def fold_of_rows(
    strata_N: np.ndarray, rows_N: np.ndarray, *, folds: int, seed: int, groups_N: np.ndarray | None = None
) -> np.ndarray:
    """int64 [N] the fold of each row, 0 to `folds` - 1: rows of one stratum, in an order that follows from the seed
    and their numbers `rows_N`, are dealt out in turns, one stratum after the other.

    So every fold has as many rows of each stratum as the others, give or take one. Without the rows of one fold, one
    fold less has the other rows as they were. `groups_N`: rows of equal numbers stay together and are dealt out as
    one, by the first of them.
    """
    units_N = np.arange(len(rows_N))
    firsts = units_N
    if groups_N is not None:
        _, firsts, units_N = np.unique(groups_N, return_index=True, return_inverse=True)
    order = np.lexsort((bits_of(seed, rows_N[firsts]), strata_N[firsts]))
    fold_of_unit = np.empty(len(firsts), np.int64)
    fold_of_unit[order] = np.arange(len(firsts)) % folds
    return fold_of_unit[units_N]


def strata_of(targets: np.ndarray) -> np.ndarray:
    """int64 [N] what to stratify by: the class of each row, or the rarest of its labels; rows without any are
    one."""
    if targets.ndim == 1:
        return targets.astype(np.int64)
    support_K = (targets > 0).sum(axis=0)
    rarest_first = np.argsort(support_K, kind="stable")
    has_NK = targets[:, rarest_first] > 0
    return np.where(has_NK.any(axis=1), has_NK.argmax(axis=1), len(support_K))
