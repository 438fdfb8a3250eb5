"""Sets rows aside for validation or test: stratified by class, in whole groups, or at random; after `labels`.

The same rows and seed give the same split on every machine. Every class (of several tasks: every combination of
classes that is not rare) keeps at least one row for training, and its share on both sides as closely as whole rows
allow (largest remainders).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.config import DataSection, SplitOff
from textune.data.reading import Rows, flat, missing_column
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import count


def split_rows(
    rows: Rows, indices: np.ndarray, targets: Mapping[str, np.ndarray], section: SplitOff, *, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept and positions set aside among the examples whose rows are `indices` int64 [N]; int64, both
    sorted.

    `targets` by head: whole numbers [N] are classes to stratify by; with other targets, or none, the split is random.
    `key` names the split in messages, such as `data.validation`. DataError where one of the sides would be empty.
    """
    wanted = _num_wanted(len(indices), section, key)
    if section.group_by is not None:
        chosen_N = _choose_groups(rows, indices, section.group_by, wanted, section, key)
    elif section.stratify and (classes_N := _classes(targets, wanted)) is not None:
        chosen_N = _choose_by_class(classes_N, wanted, section, key)
    else:
        chosen_N = np.zeros(len(indices), bool)
        chosen_N[Draws.of_seed(section.seed).permutation(len(indices))[:wanted]] = True
    return np.flatnonzero(~chosen_N), np.flatnonzero(chosen_N)


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
        if isinstance(source, SplitOff):
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


def _classes(targets: Mapping[str, np.ndarray], wanted: int) -> np.ndarray | None:
    """What to stratify by, int64 [N]; None where the targets are not classes.

    Of several heads, the combination of a row's classes, a missing one included. Combinations of so few rows that none
    of them would give one are taken as one class: otherwise the rows set aside would be all of frequent combinations.
    """
    if not targets or any(one.ndim > 1 or not np.issubdtype(one.dtype, np.integer) for one in targets.values()):
        return None
    if len(targets) == 1:
        return next(iter(targets.values()))
    by_head_NH = np.stack(list(targets.values()), axis=1)
    _, combination_N, size_C = np.unique(by_head_NH, axis=0, return_inverse=True, return_counts=True)
    is_rare_C = size_C * wanted < len(by_head_NH)
    return np.asarray(np.where(is_rare_C, len(size_C), np.arange(len(size_C)))[combination_N])


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


def groups_of_rows(rows: Rows, indices: np.ndarray, column: str, *, key: str) -> np.ndarray:
    """int64 [N] the number of the group of each example, whose rows are `indices`, by its cell in `column`; rows
    without a group are one each. `key` names the setting in messages."""
    table = rows.table
    if column not in table.column_names:
        raise missing_column(column, rows, source=rows.source, key=key)
    try:
        encoded = pc.dictionary_encode(flat(table.column(column).take(pa.array(indices))))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        kind = table.schema.field(column).type
        raise DataError(f"{rows.source}: column {column!r} holds {kind}, which cannot form groups.") from error
    num_groups = len(encoded.dictionary)
    alone_N = encoded.indices.is_null().to_numpy(zero_copy_only=False)
    group_N = pc.fill_null(encoded.indices.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).copy()
    group_N[alone_N] = num_groups + np.arange(int(alone_N.sum()))
    return np.asarray(group_N)


def _choose_groups(
    rows: Rows, indices: np.ndarray, column: str, wanted: int, section: SplitOff, key: str
) -> np.ndarray:
    """Rows set aside, bool [N], whole groups only: random groups as long as they fit. Rows without a group count
    singly."""
    group_N = groups_of_rows(rows, indices, column, key=f"{key}.group_by")
    sizes_G = np.bincount(group_N)
    if len(sizes_G) < 2:
        raise DataError(
            f"{key}.group_by: all rows have the same {column!r}, so none can be set aside.",
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
