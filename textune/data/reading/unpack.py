"""Unpacks Arrow's encodings of a column (dictionaries, runs, views, extensions), inside lists and objects as well;
below `columnar.py`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.data.reading.numeric import is_list


def unpacked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in plain types; lists that held packed values, and views of lists, become large lists."""
    if not _is_packed(column.type):
        return column
    chunks = [_plain(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=chunks[0].type if chunks else _plain(pa.array([], column.type)).type)


def _is_packed(kind: pa.DataType) -> bool:
    if (
        isinstance(kind, pa.ExtensionType)
        or kinds.is_dictionary(kind)
        or kinds.is_run_end_encoded(kind)
        or _is_view(kind)
    ):
        return True
    if kinds.is_string_view(kind) or kinds.is_binary_view(kind):
        return True
    if kinds.is_struct(kind):
        return any(_is_packed(field.type) for field in kind)
    return is_list(kind) and _is_packed(kind.value_type)


def _is_view(kind: pa.DataType) -> bool:
    return bool(kinds.is_list_view(kind) or kinds.is_large_list_view(kind))


def _plain(array: pa.Array) -> pa.Array:
    kind = array.type
    if not _is_packed(kind):
        return array
    if isinstance(kind, pa.ExtensionType):
        return _plain(array.storage)
    if kinds.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if kinds.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if kinds.is_struct(kind):
        entries = [_plain(array.field(place)) for place in range(kind.num_fields)]
        fields = [field.with_type(one.type) for field, one in zip(kind, entries, strict=True)]
        return pa.StructArray.from_arrays(entries, fields=fields, mask=array.is_null() if array.null_count else None)
    if not is_list(kind):
        return array.cast(pa.large_string() if kinds.is_string_view(kind) else pa.large_binary())
    return with_entries(array, _plain(array.flatten()))


def with_entries(lists: pa.Array, entries: pa.Array) -> pa.LargeListArray:
    """Lists of the same lengths with other entries, one for each entry of `lists.flatten()`."""
    length_N = pc.fill_null(pc.list_value_length(lists).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(length_N)]))
    return pa.LargeListArray.from_arrays(offsets, entries, mask=lists.is_null() if lists.null_count else None)
