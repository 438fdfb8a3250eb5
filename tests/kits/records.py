"""Records with metadata for tests, written as files of every format and read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textune.config.documents import MetadataSection
from textune.config.sources import Columns, FilesSource, GivenSource
from textune.data.reading.rows import Rows
from textune.data.reading.sources import read_source
from textune.metadata.documents import Documents
from textune.metadata.records.read import ReadDocuments, read_documents

Row = dict[str, Any]


def table_of(rows: Sequence[Row]) -> pa.Table:
    """The rows with every column that any of them has."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def write(path: Path, rows: Sequence[Row]) -> Path:
    """The rows as a file of the format that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(table_of(rows), path)
    elif path.suffix == ".arrow":
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, (table := table_of(rows)).schema) as file,
        ):
            file.write_table(table)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def given_rows(rows: Sequence[Row]) -> Rows:
    """The rows without a file."""
    return read_source(GivenSource(name="rows"), given={"rows": list(rows)})


def rows_in(tmp_path: Path, rows: Sequence[Row], name: str = "train.jsonl") -> Rows:
    """The rows written to a file of the format that the name says, and read from it."""
    return read_source(FilesSource(files=(str(write(tmp_path / name, rows)),)))


def read(rows: Rows, types: Sequence[str], **keys: Any) -> ReadDocuments:
    """The rows as documents; `keys` of the section `metadata`."""
    return read_documents(rows, Columns(), MetadataSection(types=tuple(types), **keys))


def listed(documents: Documents) -> list[tuple[Any, ...]]:
    """Each entry with all that is known of it."""
    entries = documents.entries
    columns = (entries.document, entries.start, entries.end, entries.start_order, entries.end_order)
    types = [documents.types[index] for index in entries.type]
    return list(zip(types, entries.value, *(one.tolist() for one in columns), entries.attributes, strict=True))
