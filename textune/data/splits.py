"""Sets rows aside for validation or test: stratified by class, in whole groups, or at random; after `labels`. Equal
parts of all rows are those of `folds.py`.

The same rows and seed give the same split on every machine. Every class (of several tasks: every combination of
classes that is not rare) keeps at least one row for training, and its share on both sides as closely as whole rows
allow (largest remainders).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textune.config import DataSection, FoldOff, SetAside, SplitOff
from textune.data.folds import folds_of
from textune.data.groups import combined, groups_in
from textune.data.reading import Rows
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import count


def split_rows(
    rows: Rows,
    indices: np.ndarray,
    targets: Mapping[str, np.ndarray],
    section: SetAside,
    *,
    key: str,
    class_names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept and positions set aside among the examples whose rows are `indices` int64 [N]; int64, both
    sorted.

    `targets` by head: whole numbers [N] are classes to stratify by; with other targets, or none, the split is random.
    `key` names the split in messages, such as `data.validation`, and `class_names` the classes of a task with one
    head. DataError where one of the sides would be empty.
    """
    if isinstance(section, FoldOff):
        chosen_N = folds_of(rows, indices, targets, section, key=key, class_names=class_names) == section.fold
    else:
        chosen_N = _chosen(rows, indices, targets, section, key)
    return np.flatnonzero(~chosen_N), np.flatnonzero(chosen_N)


def _chosen(
    rows: Rows, indices: np.ndarray, targets: Mapping[str, np.ndarray], section: SplitOff, key: str
) -> np.ndarray:
    """Which are set aside, bool [N]."""
    wanted = _num_wanted(len(indices), section, key)
    if section.group_by is not None:
        return _choose_groups(groups_in(rows, indices, section.group_by, key=key), wanted, section, key)
    if section.stratify and (classes_N := combined(targets, wanted)) is not None:
        return _choose_by_class(classes_N, wanted, section, key)
    chosen_N = np.zeros(len(indices), bool)
    chosen_N[Draws.of_seed(section.seed).permutation(len(indices))[:wanted]] = True
    return chosen_N


def key_of(name: str) -> str:
    """The configuration key of a split or an evaluation set."""
    return f"data.{name}" if name in ("train", "validation", "test") else f"data.evaluations.{name}"


def set_aside(rows: Rows, section: DataSection) -> tuple[Rows, dict[str, Rows]]:
    """The rows that are left for training, and by name the sets that are shares of them, where no labels matter: test
    first, so that it depends on no other key. DataError as `split_rows`."""
    sources = section.held_out
    left, shares = np.arange(len(rows)), {}
    for name in ("test", "validation", *section.evaluations):
        source = sources[name]
        if isinstance(source, SetAside):
            kept, aside = split_rows(rows, left, {}, source, key=key_of(name))
            shares[name] = rows.take(left[aside])
            left = left[kept]
    return (rows.take(left) if shares else rows), shares


def _num_wanted(num_rows: int, section: SplitOff, key: str) -> int:
    if section.count is not None:
        if section.count >= num_rows:
            raise DataError(
                f"{key}.count = {section.count:,} would leave no training rows: there are {count(num_rows, 'row')}.",
                hint=f"Set {key}.count to less than {num_rows:,}.",
            )
        return section.count
    wanted = int(num_rows * section.ratio + 0.5)
    if wanted == 0:
        raise DataError(
            f"{key} would have zero rows: {section.ratio:g} of {count(num_rows, 'row')}.",
            hint=f"Raise {key}.ratio, set {key}.count, or give {key} its own source.",
        )
    if wanted >= num_rows:
        raise DataError(
            f"{key}.ratio = {section.ratio:g} of {count(num_rows, 'row')} would leave no training rows.",
            hint=f"Lower {key}.ratio.",
        )
    return wanted


def _choose_by_class(targets: np.ndarray, wanted: int, section: SplitOff, key: str) -> np.ndarray:
    """Rows set aside, bool [N], a share of each class."""
    num_rows = len(targets)
    order = Draws.of_seed(section.seed).permutation(num_rows)
    sizes_C = np.bincount(targets)
    quota_C = _quotas(sizes_C, wanted, seed=section.seed)
    if quota_C.sum() < wanted and (section.count is not None or quota_C.sum() == 0):
        raise DataError(
            f"{key}: {count(wanted, 'row')} cannot be set aside if every class, or combination of classes, keeps a"
            f" row for training: at most {int(np.maximum(sizes_C - 1, 0).sum())} can.",
            hint=f"Lower {key}.count, or set {key}.stratify = false.",
        )
    # Rows class by class, in random order within each: the first rows of each class are taken.
    by_class = np.argsort(targets[order].astype(np.min_scalar_type(len(sizes_C))), kind="stable")
    starts_C = np.cumsum(sizes_C) - sizes_C
    taken = np.concatenate([by_class[start : start + quota] for start, quota in zip(starts_C, quota_C, strict=True)])
    chosen_N = np.zeros(num_rows, bool)
    chosen_N[order[taken]] = True
    return chosen_N


def _quotas(sizes_C: np.ndarray, wanted: int, *, seed: int) -> np.ndarray:
    """Rows to take from each class, int64 [C]: its share rounded down, the rest by largest remainder.

    A class never gives its last row. Equal remainders are served in random order, so no class is favoured for its id.
    """
    total = int(sizes_C.sum())
    most_C = np.maximum(sizes_C - 1, 0)
    # Exact integer arithmetic: no rounding error decides who gets the last row.
    quota_C = np.minimum(sizes_C * wanted // total, most_C)
    remainder_C = sizes_C * wanted % total
    shuffled = Draws.of_seed(seed + 1).permutation(len(sizes_C))
    order = shuffled[np.argsort(-remainder_C[shuffled], kind="stable")]
    missing = wanted - int(quota_C.sum())
    while missing > 0 and (room := order[quota_C[order] < most_C[order]]).size:
        served = room[:missing]
        quota_C[served] += 1
        missing -= len(served)
    return np.asarray(quota_C)


def _choose_groups(group_N: np.ndarray, wanted: int, section: SplitOff, key: str) -> np.ndarray:
    """Rows set aside, bool [N], whole groups only: random groups as long as they fit."""
    sizes_G = np.bincount(group_N)
    if len(sizes_G) < 2:
        raise DataError(
            f"{key}.group_by: all rows have the same {section.group_by!r}, so none can be set aside.",
            hint="Choose another column.",
        )
    taken_G = np.zeros(len(sizes_G), bool)
    room = wanted
    for group in Draws.of_seed(section.seed).permutation(len(sizes_G)):
        if sizes_G[group] <= room:
            taken_G[group] = True
            room -= int(sizes_G[group])
            if room == 0:
                break
    if not taken_G.any():
        # Every group is larger than wanted: the smallest comes closest.
        taken_G[int(sizes_G.argmin())] = True
    return np.asarray(taken_G[group_N])
