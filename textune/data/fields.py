"""The fields before a text: columns of `data.metadata`, rendered as `source: imdb`; between `cells.py` and
`columns.py`."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.config import MetadataPrefix
from textune.data.cells import TEXT, text_cells
from textune.data.reading import Rows
from textune.errors import DataError
from textune.wording import listing, nearest

KEY = "data.metadata.columns"
_ZONE = r"Z|[+-]\d{4}|"
"""What Arrow writes behind a point of time; nothing without a time zone."""


def select_fields(
    rows: Rows, prefix: MetadataPrefix | None, *, missing: Collection[str] = ()
) -> tuple[pa.ChunkedArray, ...]:
    """The field of each row and column, large_string [N] each in the order of the prefix, null where a row has no
    value; none without a prefix.

    White space around a value is left out, and a number that is none (NaN) is no value. DataError for a column that is
    missing, unless it is one of `missing`, or that cannot be text.
    """
    if prefix is None:
        return ()
    none = pa.chunked_array([pa.nulls(len(rows), TEXT)])
    return tuple(
        none if name in missing else _rendered(rows, name, prefix.key_value_separator) for name in prefix.columns
    )


def fields_in(
    found: Collection[str], texts: Collection[str], prefix: MetadataPrefix | None, *, source: str
) -> tuple[str, ...]:
    """The columns of the prefix that rows to be predicted have; `found` are all of theirs, `texts` those of the text.

    DataError for a column that is missing although no training row went without it by design: the model knows no row
    without it. Texts alone go without any.
    """
    if prefix is None:
        return ()
    present = tuple(name for name in prefix.columns if name in found)
    for name in prefix.columns:
        if name in present or prefix.dropout_of(name) or set(found) <= set(texts):
            continue
        reason = "there is no such column, and the model was trained on rows that have it (data.metadata.dropout = 0)"
        close = nearest(name, [column for column in map(str, found) if column not in texts])
        raise DataError(
            f"{source} has no column {name!r}, which stands before each text; its columns are:"
            f" {listing(map(repr, found)) or 'none'}.",
            hint=f"{f'Rename {close!r}, or add' if close else 'Add'} the column, or predict the texts alone; a model"
            f" trained with data.metadata.dropout above 0 does without.",
            key=KEY,
            value=name,
            place=source,
            reason=reason,
        )
    return present


def going_without(prefix: MetadataPrefix, num_without: Collection[int], num_rows: int) -> str:
    """A sentence about rows to be predicted that lack fields, of `num_rows`; `num_without` for each column. Empty
    where no row does."""
    listed = [
        f"{name!r} in {num:,} of {num_rows:,} rows"
        for name, num in zip(prefix.columns, num_without, strict=True)
        if num
    ]
    return f"predicted without columns that the model was trained with: {listing(listed)}" if listed else ""


def _rendered(rows: Rows, name: str, separator: str) -> pa.ChunkedArray:
    value = pc.utf8_trim_whitespace(text_cells(rows, name, key=KEY))
    kind, none = rows.table.schema.field(name).type, pa.scalar(None, TEXT)
    if kinds.is_floating(kind):
        value = pc.if_else(pc.equal(value, "nan"), none, value)
    if kinds.is_timestamp(kind) or kinds.is_time(kind):  # of seconds, milliseconds, ...: the same point of time
        value = pc.replace_substring_regex(value, rf"(\.\d{{6}})000({_ZONE})$", r"\1\2")
        value = pc.replace_substring_regex(value, rf"\.0+({_ZONE})$", r"\1")
    value = pc.if_else(pc.equal(value, ""), none, value)
    return pc.binary_join_element_wise(pa.scalar(name + separator, TEXT), value, pa.scalar("", TEXT))
