"""The finished parts of a file of pages beside its output (`textune/partfiles.py`): their counts, and the output that
they make."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from textune.atomic import written_aside
from textune.data import COMPRESSION
from textune.metadata.taggers.tagging import TagCounts
from textune.partfiles import PartFiles as AnyPartFiles
from textune.partfiles import unique_aside
from textune.partfiles import write_part as write_any_part

_GZIP_LEVEL = 6


@dataclass(frozen=True)
class PartFiles(AnyPartFiles):
    """The parts of one output, each with the ending of the output, which it becomes a piece of."""

    def counts(self, number: int) -> tuple[TagCounts, list[str]] | None:
        """Of a part that is done, with the rows that were left out; None where it is not."""
        found = self.facts(number)
        return None if found is None else (TagCounts.from_dict(found["counts"]), found["skipped"])

    def assemble(self, num_parts: int) -> None:
        """Make the output of its parts."""
        paths = [self.path(number) for number in range(num_parts)]
        with written_aside(self.target, unique_aside(self.target)) as aside:
            if self.target.suffix == ".parquet":
                _join_tables(paths, aside)
            else:  # packed files put one after the other are one packed file
                with aside.open("wb") as whole:
                    for path in paths:
                        with path.open("rb") as part:
                            shutil.copyfileobj(part, whole, 1 << 20)


def write_part(path: Path, content: bytes | pa.Table, counts: TagCounts, skipped: list[str]) -> None:
    """Write a part, which other processes may write, too."""
    facts = {"counts": counts.to_dict(), "skipped": skipped}
    write_any_part(path, partial(_write, content, path.suffix.lower()), facts)


def _write(content: bytes | pa.Table, suffix: str, path: Path) -> None:
    if isinstance(content, bytes):
        path.write_bytes(_packed(content, suffix))
    else:
        pq.write_table(content, path)


def _packed(text: bytes, suffix: str) -> bytes:
    packing = COMPRESSION.get(suffix)
    if packing == "gzip":
        return gzip.compress(text, _GZIP_LEVEL, mtime=0)
    return text if packing is None else pa.Codec(packing).compress(text, asbytes=True)


def _join_tables(paths: list[Path], aside: Path) -> None:
    with pq.ParquetWriter(aside, pq.read_schema(paths[0])) as whole:
        for path in paths:
            with pq.ParquetFile(path) as part:
                for group in range(part.num_row_groups):
                    whole.write_table(part.read_row_group(group))
