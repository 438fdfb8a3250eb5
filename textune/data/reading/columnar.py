"""Readers of parquet and Arrow files, saved and hub data sets: tables that already have types.

A run keeps its rows to its end but maps none of the user's files: it must not matter if one is replaced or removed
meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from textune.config import HubSource, SavedSource
from textune.data.reading.classnames import class_names
from textune.data.reading.files import undecodable
from textune.data.reading.foreign import ARROW, PARQUET
from textune.data.reading.numeric import is_text
from textune.data.reading.rows import Piece, Places, SkippedRow
from textune.data.reading.tables import DAMAGE, as_source, damaged, open_tables
from textune.data.reading.unpack import unpacked
from textune.errors import DataError
from textune.inside import within
from textune.jsontext import parse_json
from textune.wording import listing, repeated_names


def read_parquet(path: Path, name: str, *, wanted: frozenset[str] | None) -> Piece:
    """A parquet file; only the wanted columns if it has all of them."""
    source = as_source(path, name, PARQUET)
    try:
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
        columns = [one for one in names if one in wanted] if wanted and wanted <= set(names) else None
        table = file.read(columns=columns)
    except DAMAGE as error:
        raise damaged(name, "parquet", error) from error
    return arrow_piece(table, name)


def read_arrow(path: Path, name: str) -> Piece:
    """An Arrow IPC file or stream."""
    source = as_source(path, name, ARROW)
    try:
        buffer = pa.OSFile(source) if isinstance(source, str) else source
        head = buffer.read(6)
        buffer.seek(0)
        reader = pa.ipc.open_file(buffer) if head == b"ARROW1" else pa.ipc.open_stream(buffer)
        table = reader.read_all()
    except DAMAGE as error:
        raise damaged(name, "Arrow", error) from error
    return arrow_piece(table, name)


def table_batches(path: Path, name: str, *, arrow: bool, max_rows: int) -> Iterator[Piece]:
    """The rows of a parquet (or with `arrow`, Arrow IPC) file, a few at a time, for `textune init`."""
    for table in open_tables(path, name, "arrow" if arrow else "parquet", max_rows=max_rows)[1]:
        yield arrow_piece(table, name)


def arrow_piece(table: pa.Table, name: str, *, first: int = 1) -> Piece:
    """A table of any origin as a piece: checked to its last byte, text as large_string, packed types unpacked.

    `first`: number of its first row.
    """
    try:
        names = table.column_names
        for one in table.schema:
            _read_names(one.type)
    except UnicodeDecodeError as error:
        raise damaged(name, "Arrow", error) from error
    twice = repeated_names(names)
    if twice:
        raise DataError(f"{name} has two columns of the same name: {listing(repr(one) for one in twice)}.")
    named = class_names(table.schema)
    broken: dict[int, str] = {}
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for one in table.schema:
        column = _checked(table.column(one.name), one.name, name, broken)
        columns.append(column)
        # Without the file's own metadata, which would make the field differ from the same column of other files.
        fields.append(pa.field(one.name, column.type))
    result = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    number_N = np.arange(first, first + result.num_rows)
    bad = tuple(SkippedRow(f"{name}, row {first + index}", broken[index]) for index in sorted(broken))
    piece = Piece(result, Places.of_file(name, "row", number_N), bad, named)
    if not broken:
        return piece
    keep_N = np.ones(len(number_N), bool)
    keep_N[list(broken)] = False
    return piece.take(np.flatnonzero(keep_N))


def _read_names(kind: pa.DataType) -> None:
    """UnicodeDecodeError where the name of a nested field is not UTF-8."""
    for index in range(kind.num_fields):
        inner = kind.field(index)
        _ = inner.name
        _read_names(inner.type)


def _checked(column: pa.ChunkedArray, column_name: str, name: str, broken: dict[int, str]) -> pa.ChunkedArray:
    """The column in a type that later steps know; rows whose text is not UTF-8 become null and are noted."""
    try:
        if not is_text(column.type):
            column.validate(full=True)
            column = unpacked(column)
        if not is_text(column.type):
            return column
        # Offsets first: the bytes may only be read once these are valid.
        column.validate()
        texts = (
            column.cast(pa.large_binary()) if not kinds.is_string_view(column.type) else column.cast(pa.large_string())
        )
        texts.validate(full=True)
        try:
            return texts.cast(pa.large_string())
        except pa.ArrowInvalid:
            return _readable(texts, column_name, broken)
    except DAMAGE as error:
        raise damaged(f"{name}, column {column_name!r},", "table in this", error) from error


def _readable(texts: pa.ChunkedArray, column_name: str, broken: dict[int, str]) -> pa.ChunkedArray:
    values: list[str | None] = []
    for index, data in enumerate(texts.to_pylist()):
        reason = undecodable(data) if data is not None else ""
        if reason:
            broken.setdefault(index, f"column {column_name!r}: {reason.replace('of the file', 'of the cell')}")
        values.append(None if data is None or reason else data.decode("utf-8"))
    return pa.chunked_array([pa.array(values, pa.large_string())])


def _datasets_library() -> ModuleType:
    """The library `datasets`, an extra for what only it can read, since it brings in pandas and more."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f'kind = "hub" and kind = "saved" need the Python package datasets, which cannot be imported: {error}.',
            hint='Install it with `pip install "textune[datasets]"`.',
        ) from error
    library: ModuleType = datasets
    return library


def read_saved(section: SavedSource) -> Piece:
    """A folder written by `save_to_disk`."""
    datasets = _datasets_library()
    folder = Path(section.folder)
    if not folder.is_dir():
        raise DataError(f"The data set folder {folder} does not exist.")
    try:
        _require_names_within(folder)
        loaded = datasets.load_from_disk(str(folder))
    except (*DAMAGE, RecursionError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder} is not a folder saved by the datasets library: {error}.") from error
    if isinstance(loaded, datasets.DatasetDict):
        splits = list(loaded)
        if section.split is None and len(splits) != 1:
            raise DataError(
                f"{folder} holds the splits {listing(splits)}.",
                hint="Set split to one of them.",
                key="split",
                place=str(folder),
            )
        split = section.split or splits[0]
        if split not in loaded:
            raise DataError(f"{folder} has no split {split!r}; it holds {listing(splits)}.")
        loaded, name = loaded[split], f"{folder.name}/{split}"
    elif section.split is not None:
        raise DataError(f"{folder} holds one data set without splits.", hint=f"Remove split = {section.split!r}.")
    else:
        name = folder.name
    return _dataset_piece(loaded, name)


def _require_names_within(folder: Path) -> None:
    """ValueError if the metadata in the folder names splits or files outside it."""
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        for name in parse_json(splits.read_text(encoding="utf-8"))["splits"]:
            _require_names_within(within(folder, name))
    state = folder / "state.json"
    if state.is_file():
        for file in parse_json(state.read_text(encoding="utf-8"))["_data_files"]:
            within(folder, file["filename"])


def read_hub(section: HubSource) -> Piece:
    """A data set by name, from the hub, its cache, or a local folder."""
    datasets = _datasets_library()
    name = f"{section.name}/{section.config or ''}/{section.split}".replace("//", "/")
    try:
        loaded = datasets.load_dataset(section.name, section.config, split=section.split, revision=section.revision)
    except (*DAMAGE, datasets.exceptions.DatasetsError, ImportError, NotImplementedError) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        hint = 'Check name, config, split and revision, and the network; a saved copy is read with kind = "saved".'
        raise DataError(
            f"The data set {section.name!r} (split {section.split!r}) cannot be loaded: {reason}.", hint=hint
        ) from error
    return _dataset_piece(loaded, name)


def _dataset_piece(loaded: Any, name: str) -> Piece:
    table = loaded.with_format("arrow")[:]
    metadata = loaded.features.arrow_schema.metadata
    return arrow_piece(_in_memory(table.replace_schema_metadata(metadata)), name)


def _in_memory(table: pa.Table) -> pa.Table:
    """A copy of a table, since its columns may be views of mapped files."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
