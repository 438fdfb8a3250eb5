"""The columns that taggers fill as Arrow types, for parquet."""

from __future__ import annotations

import pyarrow as pa

from textune.metadata.taggers.page import Kind

_TEXT = pa.large_string()
_ENTRY = [("key", _TEXT), ("type", _TEXT), ("value", _TEXT)]
_SPAN = [*_ENTRY, ("char_start_idx", pa.int64()), ("char_end_idx", pa.int64())]
_ORDERED = [*_SPAN, ("relative_start_pos", pa.int64()), ("relative_end_pos", pa.int64())]
_ATTRIBUTES = pa.struct([("attrs", pa.list_(_TEXT)), ("values", pa.list_(_TEXT))])

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "text": _TEXT,
    "texts": pa.list_(_TEXT),
    "error": pa.int64(),
    "global": pa.list_(pa.struct(_ENTRY)),
    "local": pa.list_(pa.struct(_SPAN)),
    "entity": pa.list_(pa.struct([*_SPAN, ("description", _TEXT)])),
    "ordered": pa.list_(pa.struct(_ORDERED)),
    "html": pa.list_(pa.struct([*_ORDERED, ("html_attrs", _ATTRIBUTES)])),
    "paragraph": pa.list_(pa.struct([*_SPAN, ("marker", _TEXT)])),
}
