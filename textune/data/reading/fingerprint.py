"""A hash of a table's content that ignores how the content is stored: chunks, slices, integer widths, file format."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds


def fingerprint_table(table: pa.Table) -> str:
    """Hexadecimal hash of the column names and values, in row order; the order of columns does not matter."""
    total = hashlib.sha256(f"textune rows 1 {table.num_rows}".encode())
    for name in sorted(table.column_names):
        hasher = _ColumnHasher()
        for chunk in table.column(name).chunks:
            hasher.add("", chunk)
        total.update(json.dumps(name, allow_nan=False).encode() + hasher.digest())
    return total.hexdigest()[:32]


class _ColumnHasher:
    """One running hash per stream of a column: validity, lengths, bytes; so the cuts between chunks do not matter."""

    def __init__(self) -> None:
        self._streams: dict[str, Any] = {}

    def digest(self) -> bytes:
        total = hashlib.sha256()
        for name in sorted(self._streams):
            total.update(name.encode() + self._streams[name].digest())
        return total.digest()

    def _update(self, stream: str, data: Any) -> None:
        self._streams.setdefault(stream, hashlib.sha256()).update(data)

    def add(self, path: str, array: pa.Array) -> None:
        """Hash one chunk; `path` leads to the nested value."""
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        valid_N = np.ones(len(array), np.uint8) if array.null_count == 0 else _as_numpy(array.is_valid(), pa.uint8())
        self._update(path + "/valid", valid_N.tobytes())
        kind = array.type
        if kinds.is_null(kind):
            return
        if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
            lengths = pc.fill_null(pc.list_value_length(array), 0)
            self._update(path + "/lengths", _as_numpy(lengths, pa.int64()).astype("<i8", copy=False).tobytes())
            self.add(path + "/item", array.flatten())
        elif kinds.is_struct(kind):
            for name, child in sorted(
                zip((one.name for one in kind), array.flatten(), strict=True), key=lambda pair: pair[0]
            ):
                self.add(f"{path}/{json.dumps(name, allow_nan=False)}", child)
        else:
            self._add_plain(path, array)

    def _add_plain(self, path: str, array: pa.Array) -> None:
        kind = array.type
        if kinds.is_boolean(kind):
            self._update(path + "/bool", _as_numpy(pc.fill_null(array, False), pa.uint8()).tobytes())
        elif kinds.is_integer(kind) and kind != pa.uint64():
            self._update(
                path + "/int", _as_numpy(pc.fill_null(array, 0), pa.int64()).astype("<i8", copy=False).tobytes()
            )
        elif kinds.is_floating(kind):
            values_N = _as_numpy(pc.fill_null(array.cast(pa.float64()), 0.0), pa.float64())
            values_N = np.where(np.isnan(values_N), np.nan, values_N)
            self._update(path + "/float", values_N.astype("<f8", copy=False).tobytes())
        elif kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
            self._add_bytes(path + "/text", array.cast(pa.large_string()))
        elif kinds.is_binary(kind) or kinds.is_large_binary(kind):
            self._add_bytes(path + "/bytes", array.cast(pa.large_binary()))
        else:
            texts = pa.array(
                [None if value is None else repr(value) for value in array.to_pylist()], pa.large_string()
            )
            self._add_bytes(f"{path}/{kind}", texts)

    def _add_bytes(self, path: str, array: pa.Array) -> None:
        if array.null_count:
            array = pc.fill_null(array, pa.scalar("" if kinds.is_large_string(array.type) else b"", array.type))
        _, offsets, data = array.buffers()
        if len(array) == 0 or offsets is None:
            return
        offsets_N = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        self._update(path + "/lengths", np.diff(offsets_N).astype("<i8", copy=False).tobytes())
        if data is not None:
            self._update(path, memoryview(data)[int(offsets_N[0]) : int(offsets_N[-1])])


def _as_numpy(array: pa.Array, kind: pa.DataType) -> np.ndarray:
    return np.asarray(array.cast(kind).to_numpy(zero_copy_only=False))
