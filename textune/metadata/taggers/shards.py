"""A file of pages in parts that are tagged one by one; before `worker.py`.

A part of jsonl is a few megabytes of whole lines, still as bytes: reading them costs the one process that reads a
small share of what tagging costs the others. A part of parquet is a few rows as an Arrow stream.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from textune.data import (
    COMPRESSION,
    ENDINGS,
    MAX_LINE_BYTES,
    bare_suffix,
    inside_archive,
    open_tables,
    raw_blocks,
    size_of,
    text_blocks,
)
from textune.errors import DataError

PART_BYTES = 4 << 20
"""A part of jsonl ends with the first line that reaches this size."""
PART_ROWS = 64
"""Rows in a part of parquet."""
_UNPACKED = 30
"""At most about so many bytes of pages are in one byte of a packed file."""
PageFormat = Literal["jsonl", "parquet"]


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a file."""

    number: int
    """From 0."""
    first: int
    """Number of its first line or row, from 1."""
    format: PageFormat
    data: bytes
    """Lines, or an Arrow stream."""


def page_format(path: Path, *, option: str) -> PageFormat:
    """The format of a file by its ending; DataError for one that pages are not kept in. `option`: the one that names
    the file."""
    kind = ENDINGS.get(bare_suffix(path), "")
    if kind == "parquet" and path.suffix.lower() in COMPRESSION:
        reason = "parquet packs its columns itself"
    elif kind == "jsonl" or kind == "parquet":
        return "jsonl" if kind == "jsonl" else "parquet"
    else:
        reason = "its name ends neither in .jsonl (.jsonl.gz, .jsonl.zst) nor in .parquet"
    raise DataError(
        f"--{option} {path}: {reason}.",
        hint="Pages are read from and written to jsonl and parquet.",
        key=option,
        value=str(path),
        place=str(path),
        reason=reason,
    )


def part_sizes() -> tuple[int, int]:
    """Bytes and rows: what decides how files are cut."""
    return PART_BYTES, PART_ROWS


def likely_parts(path: Path) -> int:
    """At most about so many parts has a file, before it is read."""
    packed = page_format(path, option="input") == "parquet" or path.suffix.lower() in COMPRESSION
    return file_state(path)[0] * (_UNPACKED if packed else 1) // PART_BYTES + 1


def file_state(path: Path) -> tuple[int, int]:
    """Bytes of a file, and when it changed, in nanoseconds; of one in an archive, when that changed."""
    archive = inside_archive(path)
    return size_of(path), (archive[0] if archive else path).stat().st_mtime_ns


def read_parts(path: Path) -> Generator[Part]:
    """The parts of a file in order, the same ones every time; DataError where it cannot be read or holds no rows."""
    if page_format(path, option="input") == "parquet":
        yield from _table_parts(path)
    else:
        _, blocks = text_blocks(path.name, raw_blocks(path), "utf-8")
        yield from _line_parts(path.name, blocks)


def _line_parts(name: str, blocks: Iterator[bytes]) -> Iterator[Part]:
    rest, number, first = b"", 0, 1
    for block in blocks:
        rest += block
        while len(rest) >= PART_BYTES and (end := rest.find(b"\n", PART_BYTES - 1) + 1):
            yield Part(number, first, "jsonl", rest[:end])
            first += rest.count(b"\n", 0, end)
            rest, number = rest[end:], number + 1
        if len(rest) > MAX_LINE_BYTES:
            line = first + rest.count(b"\n")
            raise DataError(
                f"{name}, line {line:,} has more than {MAX_LINE_BYTES:,} bytes.",
                hint="Write one object per line.",
                place=f"{name}, line {line:,}",
                reason="the line is too long",
            )
    if rest.strip():
        yield Part(number, first, "jsonl", rest)
    elif number == 0:
        raise _without_rows(name)


def _table_parts(path: Path) -> Iterator[Part]:
    _, tables = open_tables(path, path.name, "parquet", max_rows=PART_ROWS)
    number = first = 0
    for table in tables:
        if table.num_rows == 0:
            continue
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        yield Part(number, first + 1, "parquet", sink.getvalue().to_pybytes())
        number, first = number + 1, first + table.num_rows
    if number == 0:
        raise _without_rows(path.name)


def _without_rows(name: str) -> DataError:
    return DataError(f"{name} holds no rows.", hint="Leave the file out.", place=name, reason="it holds no rows")
