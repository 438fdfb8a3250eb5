"""Parquet and Arrow files piece by piece, in their own types; below `columnar.py` and `windows.py`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.reading.files import raw_blocks
from textune.data.reading.foreign import ARROW, HEAD_BYTES, PARQUET, refuse_foreign, refuse_foreign_file
from textune.errors import DataError
from textune.wording import listing, repeated_names

DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError, TypeError)
"""What pyarrow raises for damaged bytes."""
_BATCH_ROWS = 4096


def open_tables(
    path: Path, name: str, kind: Literal["parquet", "arrow"], *, max_rows: int = _BATCH_ROWS
) -> tuple[pa.Schema, Generator[pa.Table]]:
    """The columns of a file, and its rows in tables of at most `max_rows` (the first one is empty); DataError where
    damaged."""
    batches = (_parquet if kind == "parquet" else _arrow)(path, name, max_rows)
    tables = _tables(batches, name, kind)
    first = next(tables)
    if twice := repeated_names(first.column_names):
        tables.close()
        raise DataError(f"{name} has two columns of the same name: {listing(repr(one) for one in twice)}.")
    return first.schema, _chained(first, tables)


def _chained(first: pa.Table, rest: Generator[pa.Table]) -> Generator[pa.Table]:
    with closing(rest):
        yield from chain([first], rest)


def _tables(batches: Iterator[pa.Table], name: str, kind: str) -> Generator[pa.Table]:
    """The tables of a file; damage becomes a DataError whenever it is found."""
    try:
        yield from batches
    except DAMAGE as error:
        raise damaged(name, "parquet" if kind == "parquet" else "Arrow", error) from error


def _parquet(path: Path, name: str, max_rows: int) -> Iterator[pa.Table]:
    """First an empty table with the columns."""
    with pq.ParquetFile(as_source(path, name, PARQUET)) as file:
        yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(batch_size=max_rows):
            yield pa.Table.from_batches([batch], file.schema_arrow)


def _arrow(path: Path, name: str, max_rows: int) -> Iterator[pa.Table]:
    source = as_source(path, name, ARROW)
    with pa.memory_map(source) if isinstance(source, str) else source as buffer:
        head = buffer.read(6)
        buffer.seek(0)
        if head == b"ARROW1":
            reader = pa.ipc.open_file(buffer)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            batches = reader = pa.ipc.open_stream(buffer)
        yield reader.schema.empty_table()
        for batch in batches:
            for start in range(0, batch.num_rows, max_rows):
                yield pa.Table.from_batches([batch.slice(start, max_rows)])


def as_source(path: Path, name: str, expected: tuple[bytes, ...]) -> str | pa.BufferReader:
    """The path for mapping, or the unpacked bytes of a compressed file; DataError for another kind of file."""
    if path.suffix.lower() in {".gz", ".zst"} or not path.is_file():
        data = b"".join(raw_blocks(path))
        if not data:
            raise DataError(f"{name} is empty.")
        refuse_foreign(name, data[:HEAD_BYTES], expected=expected)
        return pa.BufferReader(data)
    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty.")
    refuse_foreign_file(path, name, expected=expected)
    return str(path)


def damaged(name: str, what: str, error: BaseException) -> DataError:
    """The error for a damaged file or table."""
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(
        f"{name} is not a whole {what} file: {reason or type(error).__name__}.", hint="Fetch or write the file again."
    )
