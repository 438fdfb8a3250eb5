"""Parts into the output: one file as one process would have written it, or a folder with a file for each shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.atomic import complete_folder, replace_folder, write_text
from textune.data import RowWriter, StreamOptions
from textune.jsontext import parse_json
from textune.partfiles import PartFiles, no_output
from textune.pipeline.sharded.plan import Plan
from textune.pipeline.sharded.settings import Settings

LISTING = "shards.json"
"""In a folder of outputs: which rows each file has."""
_ORDER = "the rows of these files, one file after the other, are those of the input in its order"


def assemble(parts: PartFiles, plan: Plan, settings: Settings, added: pa.Schema) -> list[Path]:
    """Write the output, complete or not at all; returns its files. DataError where the system refuses."""
    try:
        _write(parts.target, range(len(plan.shards)), parts, plan, settings.writing, added)
    except OSError as error:
        raise full(parts.target, error) from error
    return [parts.target]


def assemble_folder(parts: PartFiles, plan: Plan, settings: Settings, added: pa.Schema) -> list[Path]:
    """Write a folder with one file for each shard, and which rows it has; errors as `assemble`."""
    names = [f"{number:05d}.{settings.writing.format}" for number in range(len(plan.shards))]

    def write(folder: Path) -> None:
        rows = []
        for number, (name, shard) in enumerate(zip(names, plan.shards, strict=True)):
            _write(folder / name, [number], parts, plan, settings.writing, added)
            where = {"source": settings.paths[shard.source], "first": shard.first, "last": shard.last}
            rows.append({"file": name, **where, "rows": (parts.facts(number) or {})["rows"]})
        listed = {"job": parts.job, "order": _ORDER, "unit": settings.reading.unit, "shards": rows}
        write_text(folder / LISTING, json.dumps(listed, indent=1, allow_nan=False))

    try:
        replace_folder(parts.target, write)
    except OSError as error:
        raise full(parts.target, error) from error
    return [parts.target / name for name in names]


def complete_listing(target: Path) -> dict[str, Any] | None:
    """What a folder of outputs says of itself; None where it is no such folder."""
    folder = complete_folder(target)
    try:
        found = parse_json((folder / LISTING).read_bytes()) if folder is not None else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"job", "shards"} <= found.keys() else None


def _write(path: Path, numbers: Any, parts: PartFiles, plan: Plan, options: StreamOptions, added: pa.Schema) -> None:
    with RowWriter(str(path), options, schema=plan.schema, added=added) as writer:
        writer.settle()
        if options.format != "parquet":
            writer.write(writer.format([]))  # the header
        for number in numbers:
            for piece in _pieces(parts.path(number), options.format == "parquet"):
                writer.write(piece)


def _pieces(path: Path, as_table: bool) -> Iterator[str | pa.Table]:
    if not as_table:
        yield path.read_bytes().decode("utf-8")
        return
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        for batch in stream:
            yield pa.Table.from_batches([batch], stream.schema)


def full(target: Path, error: OSError) -> Exception:
    """The error for an output that the system does not let be written."""
    hint = "Make room, and start the same command again: what is done is kept."
    return no_output(target, f"it cannot be written: {error.strerror or error}", hint)
