"""The weights of rows: a number for each row or, with several tasks, a list with one for each task; used by
`columns.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.reading import Fault, flat, is_list, is_text, read_lists, to_floats
from textune.wording import count, listing, shorten


def row_weights(column: pa.ChunkedArray, name: str, tasks: Sequence[str], bad: dict[int, Fault]) -> np.ndarray:
    """Weights of the rows, float32 [N], or [N, H] where the column has a list with a number for each of H `tasks`.

    What cannot be used is noted in `bad`, by row.
    """
    lists = _lists(column) if tasks else None
    return _one_each(column, name, bad) if lists is None else _by_task(lists, name, tasks, bad)


def _one_each(column: pa.ChunkedArray, name: str, bad: dict[int, Fault]) -> np.ndarray:
    value_N, number_N = to_floats(column)
    weight_N, usable_N = _checked(value_N, number_N)
    for index in np.flatnonzero(~usable_N):
        value = column[int(index)].as_py()
        reason = (
            "is missing"
            if value is None or value == ""
            else f"is {shorten(value, 30)}, not a finite number of at least zero"
        )
        bad[int(index)] = Fault(f"the weight in column {name!r} {reason}", value)
    return weight_N


def _lists(column: pa.ChunkedArray) -> pa.Array | None:
    """The lists of a column, also those that are written as text; None where it holds something else."""
    array = flat(column)
    if is_list(array.type):
        return array
    if not is_text(array.type):
        return None
    encoded = pc.dictionary_encode(pc.utf8_trim_whitespace(array.cast(pa.large_string())))
    lists = read_lists(encoded.dictionary.to_pylist(), None)
    return pa.array(lists, pa.large_list(pa.large_string())).take(encoded.indices) if lists else None


def _by_task(lists: pa.Array, name: str, tasks: Sequence[str], bad: dict[int, Fault]) -> np.ndarray:
    num_tasks = len(tasks)
    length_N = pc.fill_null(pc.list_value_length(lists).cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(length_N != num_tasks):
        found = f"has {count(int(length_N[row]), 'number')}" if length_N[row] >= 0 else "is missing"
        expected = f"there are {num_tasks} tasks ({listing(tasks, 8)})"
        bad[int(row)] = Fault(
            f"the list of weights in column {name!r} {found}, but {expected}", lists[int(row)].as_py()
        )
    is_whole_N = length_N == num_tasks
    values = lists.filter(pa.array(is_whole_N)).flatten()
    value_K, number_K = to_floats(pa.chunked_array([values]))
    weight_K, usable_K = _checked(value_K, number_K)
    row_K = np.repeat(np.flatnonzero(is_whole_N), num_tasks)
    for entry in np.flatnonzero(~usable_K):
        value = values[int(entry)].as_py()
        shown = "missing" if value is None else f"{shorten(value, 30)}, not a finite number of at least zero"
        reason = f"task {tasks[int(entry) % num_tasks]!r}: the weight in column {name!r} is {shown}"
        bad.setdefault(int(row_K[entry]), Fault(reason, value))
    weights_NH = np.zeros((len(lists), num_tasks), np.float32)
    weights_NH[is_whole_N] = weight_K.reshape(-1, num_tasks)
    return weights_NH


def _checked(values: np.ndarray, is_number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values as float32, and whether each can be a weight."""
    with np.errstate(over="ignore"):
        weights = values.astype(np.float32)
    return weights, is_number & np.isfinite(weights) & (weights >= 0)
