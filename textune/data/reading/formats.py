"""File formats: the table of them, and what follows from it; above the reader of each, below `sources.py`.

To add one: write its reader beside the others (`DataFile` to `Piece`), give it a row in `FORMATS`, and name it in
`FilesSource.format` of the configuration. A row that cannot be read goes into `Piece.bad`; a file that cannot be read
is a DataError. `textune predict` and streams read a piece at a time and know fewer formats: `windows.py`, `writer.py`
and `reader.py` of the shards say which.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from textune.config import FilesSource
from textune.data.reading.columnar import read_arrow, read_parquet
from textune.data.reading.delimited import read_delimited
from textune.data.reading.files import bare_suffix
from textune.data.reading.foreign import refuse_foreign_file
from textune.data.reading.jsonfiles import read_json, read_jsonl
from textune.data.reading.lines import read_text_file
from textune.data.reading.rows import Piece
from textune.errors import DataError, Setting, Words
from textune.wording import listing


@dataclass(frozen=True)
class DataFile:
    """One file to be read, and how."""

    path: Path
    name: str
    """Its name in messages."""
    source: FilesSource
    explains_bad_rows: bool
    """Whether a bad row ends the reading, so that its hint may cost time."""
    wanted: frozenset[str] | None
    """The columns that are needed; None for all."""
    labels: Path | None
    """The parallel file of labels of a text file."""


@dataclass(frozen=True)
class FileFormat:
    """A format of files with rows."""

    endings: tuple[str, ...]
    """Those of file names, with their dot, before `.gz` or `.zst`."""
    read: Callable[[DataFile], Piece]
    options: frozenset[str] = frozenset()
    """Keys of `FilesSource` that only some formats heed, and this is one of them."""


def _csv(file: DataFile) -> Piece:
    return read_delimited(file.path, file.name, file.source, tabs=False, compares=file.explains_bad_rows)


def _tsv(file: DataFile) -> Piece:
    return read_delimited(file.path, file.name, file.source, tabs=True, compares=file.explains_bad_rows)


_OPTIONS = ("pattern", "label_files", "column_names", "delimiter", "quoting", "skip_lines", "extra_cells", "split")
"""All such keys, in the order in which they are checked."""
_CELLS = frozenset({"column_names", "delimiter", "quoting", "skip_lines", "extra_cells"})

FORMATS: dict[str, FileFormat] = {
    "csv": FileFormat((".csv",), _csv, _CELLS),
    "tsv": FileFormat((".tsv", ".tab"), _tsv, _CELLS),
    "json": FileFormat(
        (".json",),
        lambda file: read_json(file.path, file.name, file.source, wanted=file.wanted),
        frozenset({"column_names", "split"}),
    ),
    "jsonl": FileFormat(
        (".jsonl", ".ndjson"),
        lambda file: read_jsonl(file.path, file.name, file.source, wanted=file.wanted),
        frozenset({"column_names"}),
    ),
    "parquet": FileFormat((".parquet", ".pq"), lambda file: read_parquet(file.path, file.name, wanted=file.wanted)),
    "arrow": FileFormat((".arrow", ".feather", ".ipc"), lambda file: read_arrow(file.path, file.name)),
    "text": FileFormat(
        (".txt", ".text"),
        lambda file: read_text_file(file.path, file.name, file.source, labels=file.labels),
        frozenset({"pattern", "label_files", "skip_lines"}),
    ),
}
"""Every file format, by its name in the configuration."""

ENDINGS = {ending: name for name, known in FORMATS.items() for ending in known.endings}
"""Endings of file names to the format."""


def format_of(path: Path, chosen: str) -> str:
    """The format chosen, or with `auto` the one that the file's name tells."""
    if chosen != "auto":
        return chosen
    try:
        return ENDINGS[bare_suffix(path)]
    except KeyError:
        refuse_foreign_file(path, path.name)
        raise DataError(
            f"{path.name}: the name does not show the format.",
            hint=Words(Setting("format", "...", "Set"), f" to one of {listing(sorted(FORMATS))}."),
            key="format",
            value=chosen,
            place=path.name,
        ) from None


def require_fitting(source: FilesSource, formats: Collection[str], name: str) -> None:
    """DataError for an option that does not apply to files of these formats; `name` is that of the first file."""
    for key in _OPTIONS:
        needs = {known for known, entry in FORMATS.items() if key in entry.options}
        others = set(formats) - needs
        if others and getattr(source, key) != FilesSource.model_fields[key].default:
            read_as = f"read as {' and '.join(sorted(others))}"
            raise DataError(
                Words(Setting(key), f" is for {' and '.join(sorted(needs))} files, but {name} is {read_as}."),
                hint=Words("Leave it out, or ", Setting("format", min(needs), "set"), "."),
                key=key,
                value=getattr(source, key),
                place=name,
                reason=read_as,
            )
