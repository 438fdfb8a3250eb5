"""Labels in columns of 0 and 1 side by side, one per label (`data.columns.labels`); used by `columns.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.data.reading import NUMBER, Fault, Rows, flat, is_text, to_names
from textune.errors import DataError
from textune.wording import listing, repeated_names, shorten

_BITS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1, "n": 0, "y": 1, "f": 0, "t": 1}
_MISSING, _NEITHER = -1, -2
_CLASSES = 'Where each column holds the classes of a task, set task.kind = "multitask".'


def side_by_side(rows: Rows, names: Sequence[str], bad: dict[int, Fault]) -> pa.ChunkedArray:
    """The columns as one list of true and false per row, in their order; rows with other values are noted in `bad`.

    DataError for fewer than two columns, one named twice, or one whose values cannot be 0 or 1.
    """
    if len(names) < 2:
        raise DataError(
            f"data.columns.labels names only one column, {names[0]!r}; multilabel needs two or more.",
            hint=f'Set data.columns.label = "{names[0]}" instead.',
        )
    if twice := repeated_names(names):
        raise DataError(f"data.columns.labels names {listing(map(repr, twice))} more than once.")
    bits = np.zeros((len(rows), len(names)), bool)
    for index, name in enumerate(names):
        column = rows.table.column(name)
        bit_N = _bits(column, rows.class_names.get(name, ()), f"{rows.source}: label column {name!r}")
        hint = _CLASSES if (bit_N == _NEITHER).any() else ""
        for row in np.flatnonzero(bit_N < 0).tolist():
            value = None if bit_N[row] == _MISSING else column[row].as_py()
            what = "is missing" if value is None else f"is {shorten(value, 30)}, which is neither 0 nor 1"
            bad.setdefault(row, Fault(f"the label in column {name!r} {what}", value, hint))
        bits[:, index] = bit_N == 1
    offsets = pa.array(np.arange(len(rows) + 1) * len(names), pa.int64())
    return pa.chunked_array([pa.LargeListArray.from_arrays(offsets, pa.array(bits.ravel()))])


def _bits(column: pa.ChunkedArray, names: tuple[str, ...], where: str) -> np.ndarray:
    """0 or 1 for each row, or what is wrong there; int64 [N]."""
    if names and all(name.lower() in _BITS for name in names):  # such as no and yes, in either order
        column = to_names(column, names)
    kind = column.type
    if kinds.is_null(kind):
        return np.full(len(column), _MISSING)
    if kinds.is_decimal(kind):
        column = column.cast(pa.float64())
    elif is_text(kind):
        column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
        raise DataError(f"{where} holds {kind}, not 0 and 1.", hint="Set data.columns.labels to columns of 0 and 1.")
    encoded = pc.dictionary_encode(flat(column))
    table = np.array([_bit_of(value) for value in encoded.dictionary.to_pylist()] + [_MISSING])
    index_N = pc.fill_null(encoded.indices.cast(pa.int64()), len(table) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(table[index_N])


def _bit_of(value: object) -> int:
    text = str(value).lower()
    if text in {"", "nan"}:
        return _MISSING
    if text in _BITS:
        return _BITS[text]
    return int(float(text)) if NUMBER.fullmatch(text) and float(text) in (0.0, 1.0) else _NEITHER
