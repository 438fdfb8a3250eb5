"""Rows and values as text: what jsonl and csv hold of a table's types; between `windows.py` and `writer.py`."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid

import pyarrow as pa
import pyarrow.types as kinds

from textune.data.reading.unpack import unpacked
from textune.data.reading.windows import Row, RowBlock

_AS_TEXT = (decimal.Decimal, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)


def plain_rows(rows: RowBlock) -> list[Row]:
    """Rows as dictionaries; dates and times of a table as text, in full."""
    if isinstance(rows, list):
        return rows
    columns = [_plain(rows.column(index)).to_pylist() for index in range(rows.num_columns)]
    names = rows.column_names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = unpacked(column)
    wanted = _without_times(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column  # Python's own types are the next best


def _without_times(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of dates and times, since Python drops their nanoseconds."""
    if kinds.is_timestamp(kind) or kinds.is_time(kind) or kinds.is_date(kind):
        return pa.large_string()
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        inner = kind.value_field.with_type(_without_times(kind.value_type))
        return pa.list_(inner) if kinds.is_list(kind) else pa.large_list(inner)
    if kinds.is_struct(kind):
        return pa.struct([field.with_type(_without_times(field.type)) for field in kind])
    return kind


def _other(value: object) -> str:
    """Values that JSON has no form for; TypeError if text would not be the same value."""
    if isinstance(value, _AS_TEXT):
        return str(value)
    what = "bytes" if isinstance(value, bytes) else f"a value of type {type(value).__name__}"
    raise TypeError(f"it holds {what}, which only parquet can hold")


_PLAIN = json.JSONEncoder(ensure_ascii=False, default=_other, allow_nan=False).encode
_ESCAPED = json.JSONEncoder(default=_other, allow_nan=False).encode


def as_json(value: object, *, escape: bool = False) -> str:
    """JSON text, with `escape` in ASCII. ValueError for NaN and infinite numbers, TypeError for bytes and the like."""
    return (_ESCAPED if escape else _PLAIN)(value)


def as_cell(value: object) -> str:
    """A value as csv has it: text and numbers as they are, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if type(value) is float and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if type(value) is int or type(value) is float:
        return repr(value)  # the same as JSON, but faster
    if isinstance(value, bool | list | tuple | dict):
        return as_json(value)
    return _other(value)


def reason_of(error: Exception) -> str:
    """The reason of an error, for a sentence about a row or file."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, ValueError) and "JSON compliant" in str(error):
        return "it holds NaN or an infinite number, which JSON cannot represent"
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
