"""What rows are set aside by: the groups of a column, and their classes; below `splits.py` and `folds.py`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.reading import Rows, flat, missing_column
from textune.errors import DataError


def groups_in(rows: Rows, indices: np.ndarray, column: str, *, key: str) -> np.ndarray:
    """The number of each example's group, int64 [N], from 0 on in the order in which groups occur; an example without
    a group has one of its own. `key`: where it is asked for, such as `data.validation`."""
    table = rows.table
    if column not in table.column_names:
        raise missing_column(column, rows, source=rows.source, key=f"{key}.group_by")
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


def combined(targets: Mapping[str, np.ndarray], wanted: int) -> np.ndarray | None:
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
