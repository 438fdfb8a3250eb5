"""Training rows in equal parts, for cross-validation: stratified by class, in whole groups, or at random.

The same rows and seed give the same folds on every machine. Of each class, every fold has as many rows as any other,
or one more (as scikit-learn's StratifiedKFold). Groups are given to folds one after the other, those first whose
classes are the most uneven, each to the fold with which the shares of the classes differ least between folds
(StratifiedGroupKFold); without classes the largest first, to the smallest fold (GroupKFold).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textune.config import FoldOff
from textune.data.groups import combined, groups_in
from textune.data.reading import Rows
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import count

_DIGITS = 12
"""Values that differ only beyond these decimals are taken as equal."""


def folds_of(
    rows: Rows,
    indices: np.ndarray,
    targets: Mapping[str, np.ndarray],
    section: FoldOff,
    *,
    key: str,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """The fold of each of the examples whose rows are `indices` int64 [N]; int64 [N], each of 0, ..., folds - 1.

    `targets` by head, as for `split_rows`. DataError where there are fewer rows, groups, or rows of a class than
    folds: `key` is where the folds are asked for, such as `data.validation`.
    """
    num, folds = len(indices), section.folds
    if num < folds:
        raise DataError(
            f"{key}.folds = {folds}, but there are only {count(num, 'row')}.",
            hint=f"Set {key}.folds to {num} or less." if num > 1 else "",
            key=f"{key}.folds",
            value=folds,
            place=rows.source,
        )
    class_N = combined(targets, num // folds) if section.stratify else None
    if class_N is not None:
        class_N = class_N - class_N.min()  # a missing label is -1
        if len(targets) == 1:
            _require_rows_of_classes(np.bincount(class_N), rows, section, key=key, names=class_names)
    order = Draws.of_seed(section.seed).permutation(num)
    if section.group_by is not None:
        group_N = groups_in(rows, indices, section.group_by, key=key)
        return _grouped(group_N, class_N, rows, section, key=key)
    if class_N is not None:  # class by class, in random order within each
        order = order[np.argsort(class_N[order], kind="stable")]
    fold_N = np.empty(num, np.int64)
    fold_N[order] = np.arange(num) % folds
    return fold_N


def _require_rows_of_classes(
    sizes_C: np.ndarray, rows: Rows, section: FoldOff, *, key: str, names: Sequence[str]
) -> None:
    """DataError for the rarest class, if it has fewer rows than there are folds; one without any rows is none."""
    few = np.flatnonzero((sizes_C > 0) & (sizes_C < section.folds))
    if not few.size:
        return
    rarest = int(few[sizes_C[few].argmin()])
    name, num = names[rarest] if rarest < len(names) else str(rarest), int(sizes_C[rarest])
    others = f", and {count(len(few) - 1, 'other class', 'other classes')} too few as well" if len(few) > 1 else ""
    fewer = f"Set {key}.folds to {num} or less, or" if num > 1 else "Set"
    raise DataError(
        f"{key}.folds = {section.folds}, but the class {name!r} has only {count(num, 'row')}{others}.",
        hint=f"{fewer} {key}.stratify = false, or leave such rows out (data.train.where).",
        key=f"{key}.folds",
        value=section.folds,
        place=rows.source,
        reason=f"the class {name!r} has only {count(num, 'row')}",
    )


def _grouped(group_N: np.ndarray, class_N: np.ndarray | None, rows: Rows, section: FoldOff, *, key: str) -> np.ndarray:
    """The fold of each row, int64 [N], with whole groups in one fold."""
    folds, num_groups = section.folds, int(group_N.max()) + 1
    if num_groups < folds:
        raise DataError(
            f"{key}.folds = {folds}, but the rows form only {count(num_groups, 'group')} by {section.group_by!r}.",
            hint=f"Set {key}.folds to {num_groups} or less." if num_groups > 1 else "Choose another column.",
            key=f"{key}.folds",
            value=folds,
            place=rows.source,
            reason=f"only {count(num_groups, 'group')}",
        )
    order = Draws.of_seed(section.seed).permutation(num_groups)
    if class_N is None:
        sizes_G = np.bincount(group_N)
        fold_G = spread_sizes(sizes_G[order], folds)
    else:
        num_classes = int(class_N.max()) + 1
        counts_GC = np.bincount(group_N * num_classes + class_N, minlength=num_groups * num_classes)
        fold_G = spread_classes(counts_GC.reshape(num_groups, num_classes)[order], folds)
    of_group = np.empty(num_groups, np.int64)
    of_group[order] = fold_G
    fold_N = np.asarray(of_group[group_N])
    if len(np.unique(fold_N)) < folds:
        raise DataError(
            f"{key}: with {folds} folds of whole groups by {section.group_by!r}, one would have no rows.",
            hint=f"Set {key}.folds to fewer, or {key}.stratify = false.",
            key=f"{key}.folds",
            value=folds,
            place=rows.source,
        )
    return fold_N


def spread_sizes(sizes_G: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each group of so many rows, int64 [G]: the largest first, each to the smallest fold so far."""
    fold_G = np.empty(len(sizes_G), np.int64)
    size_F = np.zeros(folds, np.int64)
    for group in np.argsort(-sizes_G, kind="stable"):
        fold_G[group] = fold = size_F.argmin()
        size_F[fold] += sizes_G[group]
    return fold_G


def spread_classes(counts_GC: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each group with so many rows of each class, int64 [G].

    With x rows of a class in each fold, of n in all, F^2 n^2 var(x / n) = F sum(x^2) - sum(x)^2 is a whole number: two
    folds that are alike get equal values, bit for bit, on every machine.
    """
    counts_GC = counts_GC[:, counts_GC.any(axis=0)].astype(np.int64)  # classes without rows have no shares
    num_groups, num_classes = counts_GC.shape
    total_C, size_G = counts_GC.sum(axis=0), counts_GC.sum(axis=1)
    unevenness_G = num_classes * (counts_GC**2).sum(axis=1) - size_G**2
    fold_G = np.empty(num_groups, np.int64)
    count_FC = np.zeros((folds, num_classes), np.int64)
    size_F, sum_C, squares_C = (
        np.zeros(folds, np.int64),
        np.zeros(num_classes, np.int64),
        np.zeros(num_classes, np.int64),
    )
    for group in np.argsort(-unevenness_G, kind="stable"):
        more_C = counts_GC[group]
        with_group_FC = squares_C + more_C * (2 * count_FC + more_C)
        spread_FC = np.sqrt(folds * with_group_FC - (sum_C + more_C) ** 2) / total_C
        # Summed one class after the other: vectors of other lengths would round otherwise.
        unfit_F = np.round(np.cumsum(spread_FC, axis=1)[:, -1] / num_classes, _DIGITS)
        fold_G[group] = fold = np.lexsort((size_F, unfit_F))[0]
        squares_C = with_group_FC[fold]
        sum_C = sum_C + more_C
        count_FC[fold] += more_C
        size_F[fold] += size_G[group]
    return fold_G
