"""Parts into the output: one file as one process would have written it, or a folder with a file for each shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.atomic import publish, replace_folder, write_text
from textune.data import RowWriter, StreamOptions
from textune.jsontext import parse_json
from textune.partfiles import PartFiles, no_output
from textune.pipeline.sharded.plan import FileState, Plan
from textune.pipeline.sharded.settings import Settings

LISTING = "shards.json"
"""In a folder of outputs: which rows each file has."""
_ORDER = "the rows of these files, one file after the other, are those of the input in its order"


def assemble(parts: PartFiles, plan: Plan, settings: Settings, added: pa.Schema) -> list[Path]:
    """Write the output, complete or not at all; returns its files. DataError where the system refuses."""
    # Among the parts until it is complete: the next start removes what a process that is killed now leaves.
    aside = parts.path(0).with_name(f"whole{parts.target.suffix}")
    try:
        _write(aside, range(len(plan.shards)), parts, plan, settings.writing, added)
        if parts.target.exists():
            shutil.copymode(parts.target, aside)  # who may read it is the user's choice
        publish(aside, parts.target)
    except OSError as error:
        raise full(parts.target, error) from error
    return [parts.target]


def assemble_folder(parts: PartFiles, plan: Plan, settings: Settings, added: pa.Schema) -> list[Path]:
    """Write a folder with one file for each shard, and which rows it has; errors as `assemble`."""
    names = shard_names(len(plan.shards), settings.writing.format)

    def write(folder: Path) -> None:
        rows, num_skipped = [], plan.num_skipped
        for number, (name, shard) in enumerate(zip(names, plan.shards, strict=True)):
            _write(folder / name, [number], parts, plan, settings.writing, added)
            where = {"source": settings.paths[shard.source], "first": shard.first, "last": shard.last}
            facts = parts.facts(number) or {}
            num_skipped += len(facts["skipped"])
            rows.append({"file": name, **where, "rows": facts["rows"], "content": shard.content})
        listed = {
            "job": parts.job,
            "order": _ORDER,
            "unit": settings.reading.unit,
            "skipped": num_skipped,
            "inputs": [asdict(file) for file in plan.files],
            "shards": rows,
        }
        write_text(folder / LISTING, json.dumps(listed, indent=1, allow_nan=False))

    try:
        replace_folder(parts.target, write)
    except OSError as error:
        raise full(parts.target, error) from error
    return [parts.target / name for name in names]


def shard_names(num_shards: int, ending: str) -> list[str]:
    """Files of a folder of outputs: sorted, they are in the order of the shards."""
    width = max(5, len(str(num_shards - 1)))
    return [f"{number:0{width}d}.{ending}" for number in range(num_shards)]


@dataclass(frozen=True)
class Listing:
    """What a folder of outputs says of itself."""

    job: str
    inputs: tuple[FileState, ...]
    """As they were when they were read."""
    names: tuple[str, ...]
    """Of its files, in the order of the rows."""
    contents: tuple[str, ...]
    """Hashes of the input's rows, by file."""
    rows: int
    skipped: int


def read_listing(target: Path) -> Listing | None:
    """What a folder of outputs says of itself; None where it is no such folder."""
    try:
        found = parse_json((target / LISTING).read_bytes())
        shards = found["shards"]
        return Listing(
            str(found["job"]),
            tuple(FileState(**one) for one in found["inputs"]),
            tuple(str(one["file"]) for one in shards),
            tuple(str(one["content"]) for one in shards),
            sum(int(one["rows"]) for one in shards),
            int(found["skipped"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
