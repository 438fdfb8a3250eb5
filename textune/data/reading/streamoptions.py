"""How the rows that `textune predict` reads and writes are written: formats, what they are told by, and options; below
`windows.py` and `writer.py`."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from textune.config import FilesSource, OnExtraCells, Quoting
from textune.data.reading.archives import inside_archive
from textune.data.reading.delimited import CellOptions
from textune.data.reading.files import COMPRESSION, bare_suffix
from textune.data.reading.foreign import refuse_foreign_file
from textune.data.reading.formats import ENDINGS, require_fitting
from textune.errors import DataError, Setting, Words

StreamFormat = Literal["csv", "tsv", "jsonl", "parquet", "arrow", "text"]
STANDARD = "-"
"""The path that means standard input or output."""
_SPELLINGS = {"txt": "text", "ndjson": "jsonl", "pq": "parquet"}


@dataclass(frozen=True)
class StreamOptions:
    """How the rows of a stream are written."""

    format: StreamFormat
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Quoting = "auto"
    column_names: tuple[str, ...] = ()
    """Names for the columns of csv or tsv without a header, or for the values of jsonl rows that are lists. The only
    column of a text file is named like the model's text column."""
    pattern: str | None = None
    """For text: what turns a line into columns."""
    skip_lines: int = 0
    """Lines of csv, tsv and text to leave out before the header or the first row."""
    extra_cells: OnExtraCells = "error"
    """Rows of csv and tsv with more cells than columns: stop, or ignore the extra cells and count these rows."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise DataError(
                Words(Setting("delimiter", self.delimiter), " is not one character."),
                hint='Such as "," or ";" or a tab.',
                key="delimiter",
                value=self.delimiter,
            )

    @property
    def cells(self) -> CellOptions:
        """How csv and tsv are read."""
        tabs = self.format == "tsv"
        return CellOptions(tabs, self.delimiter, self.quoting, self.column_names, self.skip_lines, self.extra_cells)

    @property
    def separator(self) -> str:
        """Between two cells."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def quoted(self) -> bool:
        """Whether double quotes enclose cells."""
        return self.quoting == "standard" or (self.quoting == "auto" and self.format == "csv")

    @property
    def unit(self) -> str:
        """The unit in which rows are counted."""
        return "row" if self.format in {"parquet", "arrow"} else "line"


def stream_format(path: str, wanted: str | None, *, default: StreamFormat | None = None) -> StreamFormat:
    """The format of a path by its ending, unless one is wanted; DataError lists the formats."""
    suffix = bare_suffix(Path(path))
    name = _SPELLINGS.get(wanted, wanted) if wanted else ENDINGS.get(suffix, suffix.lstrip("."))
    for known in get_args(StreamFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    if default is not None and not wanted:
        return default
    refuse_foreign_file(Path(path), path)
    if name == "json":
        hint = "Write an object per line (jsonl), such as df.to_json('rows.jsonl', orient='records', lines=True)."
        raise DataError(f"{path}: a .json file is one document, but rows are predicted as they come.", hint=hint)
    known_formats = ", ".join(get_args(StreamFormat))
    advice = Words("Name one with ", Setting("format"), ".")
    raise DataError(
        f"{path}: the format {name!r} is not one of {known_formats}.", hint=advice, key="format", value=name
    )


def output_format_of(path: str, wanted: str | None, source: StreamFormat) -> StreamFormat:
    """The format to write: the one wanted, else by the ending of the path, else the input's; DataError lists the
    formats."""
    formats: tuple[StreamFormat, ...] = ("csv", "tsv", "jsonl", "parquet")
    suffix = "" if path == STANDARD else bare_suffix(Path(path))
    name = _SPELLINGS.get(wanted, wanted) if wanted else ENDINGS.get(suffix, suffix.lstrip("."))
    if not name:
        on_standard = source == "parquet" and path == STANDARD
        name = "jsonl" if source == "text" or on_standard else "parquet" if source == "arrow" else source
    for known in formats:
        if name == known == "parquet" and Path(path).suffix.lower() in COMPRESSION:
            raise DataError(
                f"--output {path}: parquet packs its columns itself.", hint="Name the file without that ending."
            )
        if name == known:
            return known
    hint = "Choose another ending, or name one of them with --output-format."
    raise DataError(f"--output {path}: {name!r} is not a format to write; those are {', '.join(formats)}.", hint=hint)


def stream_name(path: str) -> str:
    """The path for messages."""
    return "standard input" if path == STANDARD else path


def is_lasting(path: str) -> bool:
    """Whether the input can be read twice: a regular file."""
    if path == STANDARD:
        return False
    return inside_archive(Path(path)) is not None or stat.S_ISREG(Path(path).stat().st_mode)


def stream_options(
    source: str, target: str, files: FilesSource, output_format: str | None
) -> tuple[StreamOptions, StreamOptions]:
    """How `predict` reads its input and writes its output; DataError for what does not fit the formats."""
    wanted = None if files.format == "auto" else files.format
    source_format = stream_format(source, wanted, default="text" if source == STANDARD else None)
    require_fitting(files, {source_format}, stream_name(source))
    reading = StreamOptions(
        format=source_format,
        encoding=files.encoding,
        delimiter=files.delimiter,
        quoting=files.quoting,
        column_names=files.column_names,
        pattern=files.pattern,
        skip_lines=files.skip_lines,
        extra_cells=files.extra_cells,
    )
    target_format = output_format_of(target, output_format, source_format)
    if target_format != source_format:  # options of the input's format do not apply to another format
        return reading, StreamOptions(format=target_format)
    return reading, replace(reading, skip_lines=0)
