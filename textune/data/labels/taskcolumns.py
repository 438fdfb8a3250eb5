"""A label column for each of several tasks, as one column of lists; used by `columns.py`, before `bytask.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.config import columns_of_tasks
from textune.data.labels.values import MISSING, as_text, read_labels
from textune.data.reading import Rows, flat
from textune.errors import DataError, Setting, Words

_PLAIN = (str, int, float, bool, type(None))


def json_lists(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Lists of plain values of several kinds, which are kept as JSON text, as lists of texts; None where a value is
    something else."""
    encoded = pc.dictionary_encode(flat(column))
    lists = [json.loads(cell) for cell in encoded.dictionary.to_pylist()]
    if not all(isinstance(one, list) and all(isinstance(entry, _PLAIN) for entry in one) for one in lists):
        return None
    texts = [[None if one is None else as_text(one) for one in entries] for entries in lists]
    return pa.chunked_array([pa.array(texts, pa.large_list(pa.large_string())).take(encoded.indices)])


def columns_as_lists(rows: Rows, columns: Sequence[str], tasks: Sequence[str]) -> pa.ChunkedArray:
    """A column for each task as one list of texts per row, in the order of the tasks; an empty cell is a null.

    DataError where the columns are not those of the tasks, or cannot be labels.
    """
    try:
        names = columns_of_tasks(columns, tasks)
    except ValueError as error:
        raise DataError(
            Words(Setting("data.columns.labels"), f" {error}."),
            hint="Name one column for each task, in their order.",
            key="data.columns.labels",
            value=tuple(columns),
        ) from None
    entries = []
    for name in names:
        where = f"{rows.source}: label column {name!r}"
        values = read_labels(
            rows.table.column(name),
            delimiter=None,
            label_names=rows.class_names.get(name, ()),
            where=where,
            place=rows.place,
        )
        if values.is_lists:
            raise DataError(
                f"{where} holds lists, but it is the column of one task.",
                hint=Words(Setting("data.columns.label", name, "Set"), " for a column with a list for all tasks."),
                key="data.columns.labels",
                value=name,
            )
        codes = pa.array(values.code_K, mask=values.code_K == MISSING)
        entries.append(pa.array(values.texts, pa.large_string()).take(codes))
    num_tasks, num_rows = len(names), len(rows)
    by_row = np.arange(num_tasks * num_rows).reshape(num_tasks, num_rows).T.ravel()
    offsets = pa.array(np.arange(num_rows + 1) * num_tasks, pa.int64())
    return pa.chunked_array([pa.LargeListArray.from_arrays(offsets, pa.concat_arrays(entries).take(pa.array(by_row)))])
