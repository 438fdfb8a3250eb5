"""Small rows and examples for the tests of the data room."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from textune.config.sources import FilesSource
from textune.config.values import OnBadRow
from textune.data.columns import Examples
from textune.data.reading.fingerprint import fingerprint_table
from textune.data.reading.rows import Places, Rows
from textune.data.reading.sources import read_source


def rows_of(columns: dict[str, Any], *, source: str = "train.csv", **more: Any) -> Rows:
    """Rows without a file behind them; the first stands in line 2."""
    table = pa.table(columns)
    places = Places.of_file(source, "line", np.arange(2, table.num_rows + 2))
    return Rows(table, source, fingerprint_table(table), (), places, **more)


def examples_of(
    labels: Sequence[Any] | pa.Array,
    *,
    texts: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    source: str = "train.csv",
    **more: Any,
) -> Examples:
    """Examples with these labels and any texts."""
    words = pa.array(
        texts if texts is not None else [f"text {index}" for index in range(len(labels))], pa.large_string()
    )
    label = labels if isinstance(labels, pa.Array) else pa.array(labels)
    rows = rows_of({"text": words, "label": label}, source=source)
    return Examples(
        rows=rows,
        text=pa.chunked_array([words]),
        text_pair=None if pairs is None else pa.chunked_array([pa.array(pairs, pa.large_string())]),
        label=pa.chunked_array([label]),
        weight=None,
        indices=np.arange(len(words)),
        **more,
    )


def read(
    path: Path | str, content: bytes | str | None = None, *, on_bad_row: OnBadRow = "error", **options: Any
) -> Rows:
    """Write the content, if any, and read the file."""
    if content is not None:
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_source(FilesSource(files=(str(path),), **options), on_bad_row=on_bad_row)


def cells(rows: Rows) -> dict[str, list[Any]]:
    """The table as lists."""
    return dict(rows.table.to_pydict())


def packed_rows(name: str) -> bytes:
    """A few hundred rows, packed as the ending of the name says."""
    content = "text,label\n" + "".join(f"row {index},{index % 2}\n" for index in range(300))
    if name.endswith(".gz"):
        return gzip.compress(content.encode())
    if name.endswith(".zst"):
        return bytes(zstandard.compress(content.encode()))
    table = pa.table({"text": [f"row {index}" for index in range(50)], "label": [index % 2 for index in range(50)]})
    stream = io.BytesIO()
    if name.endswith(".parquet"):
        pq.write_table(table, stream)
    else:
        with pa.ipc.new_file(stream, table.schema) as file:
            file.write_table(table)
    return bytes(stream.getvalue())
