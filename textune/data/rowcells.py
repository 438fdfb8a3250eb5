"""The cells that examples are made of, as JSON has them: `given.py` reads the same texts and fields back."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
from pydantic import JsonValue

from textune.config import Columns, MetadataPrefix
from textune.data.cells import text_cells
from textune.data.columns import Examples, text_columns

Cells = dict[str, JsonValue]
"""One row, by column: texts, whole numbers and truth values as they were, anything else as it is read as text; None
where the row has no value."""


def cells_of(examples: Examples, columns: Columns, prefix: MetadataPrefix | None) -> list[Cells]:
    """The cells of each example in the columns that texts and fields are made of."""
    rows = examples.rows.take(examples.indices)
    found: dict[str, pa.ChunkedArray] = {}
    if prefix is not None:
        for name, field in zip(prefix.columns, examples.fields, strict=True):
            start, column = len(name + prefix.key_value_separator), rows.table.column(name)
            found[name] = column if _is_plain(column.type) else pc.utf8_slice_codeunits(field, start)
    for name in text_columns(columns):
        column = rows.table.column(name)
        found[name] = column if _is_plain(column.type) else text_cells(rows, name, key="data.columns")
    values = [column.to_pylist() for column in found.values()]
    return [dict(zip(found, row, strict=True)) for row in zip(*values, strict=True)]


def _is_plain(kind: pa.DataType) -> bool:
    """Whether JSON has the values of a column, and they are the same text when they come back."""
    whole = kinds.is_integer(kind) and kind != pa.uint64()
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or whole or kinds.is_boolean(kind))
