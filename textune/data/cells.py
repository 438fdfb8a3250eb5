"""The cells of a column as a source gives them, and as text; between `reading` and `columns.py`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as kinds

from textune.data.reading import JSON_FIELD, Rows, missing_column
from textune.errors import DataError, Setting, Words
from textune.wording import shorten

TEXT = pa.large_string()


def find_column(rows: Rows, name: str, *, key: str) -> pa.ChunkedArray:
    """A column as the source has it; DataError where there is none of that name."""
    if name not in rows.table.column_names:
        raise missing_column(name, rows, source=rows.source, key=key)
    return rows.table.column(name)


def is_json(rows: Rows, name: str) -> bool:
    """Whether the texts of a column are JSON."""
    return bool((rows.table.schema.field(name).metadata or {}).items() >= JSON_FIELD.items())


def refuse_objects(rows: Rows, name: str, what: str) -> None:
    """DataError for a column that holds objects or mixed lists; `what` they cannot be."""
    field = rows.table.schema.field(name)
    if kinds.is_struct(field.type) or kinds.is_map(field.type) or is_json(rows, name):
        first = shorten(rows.table.column(name)[0].as_py(), 40)
        raise DataError(
            f"{rows.source}: column {name!r} holds objects or mixed lists, such as {first}, which cannot be {what}."
        )


def text_cells(rows: Rows, name: str, *, key: str) -> pa.ChunkedArray:
    """A column as text, large_string [N]: numbers and dates as they are usually written, null where a cell is
    empty."""
    column = find_column(rows, name, key=key)
    refuse_objects(rows, name, "text")
    if kinds.is_nested(column.type):
        first = shorten(column[0].as_py(), 40)
        raise DataError(
            f"{rows.source}: column {name!r} holds lists, such as {first}, not text.",
            hint=Words(Setting(key, verb="Set"), " to a text column."),
            key=key,
            value=name,
            place=rows.source,
            reason="it holds lists",
        )
    try:
        return column if column.type == TEXT else column.cast(TEXT)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{rows.source}: column {name!r} ({column.type}) cannot be read as text: {error}.") from error
