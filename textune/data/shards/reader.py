"""One shard of a stream, read from any position: jsonl by byte, packed jsonl by unpacking up to it, parquet by row
group.

After `remote.py`, before `blocks.py`. Continuing from a position costs at most a row group, or unpacking one shard.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Generator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from textune.data.reading import (
    COMPRESSION,
    DAMAGE,
    ENDINGS,
    HEAD_BYTES,
    PARQUET,
    Blocks,
    Piece,
    RecordTable,
    add_lines,
    arrow_piece,
    bare_suffix,
    damaged,
    refuse_foreign,
    text_blocks,
    undecodable,
)
from textune.data.shards.remote import open_shard
from textune.data.shards.shard import Shard
from textune.errors import DataError

MAX_LINE_BYTES = 64 << 20
"""A longer line is not a row: the file is of another kind."""
PARQUET_ROWS = 4096
"""Rows of parquet unpacked at once."""
_UNPACK_BYTES = 1 << 20

ShardFormat = Literal["jsonl", "parquet", "rows"]
"""`rows`: in memory, where there is no file to be read."""


class Position(NamedTuple):
    """Where in a shard the next row begins."""

    offset: int
    """jsonl: the byte in the unpacked text; parquet: the row."""
    number: int
    """Lines or rows before it."""


BEGINNING = Position(0, 0)


class ShardReader(Protocol):
    """Rows of one shard in order."""

    position: Position
    """After the rows read so far."""

    def read(self, num_rows: int) -> tuple[Piece, int]:
        """The next rows, and how many were taken: fewer than asked for only at the end of the shard. Bad rows count as
        taken.

        DataError for a shard that is damaged, gone or changed.
        """

    def all_columns(self) -> Piece:
        """A piece that has every column of the shard, for messages."""

    def close(self) -> None:
        """Close the file."""


def shard_format(shard: Shard, chosen: Literal["auto", "jsonl", "parquet"]) -> ShardFormat:
    """The chosen format, or with `auto` the one that the name suggests; DataError for one that cannot be streamed."""
    path = Path(shard.name)
    kind = ENDINGS.get(bare_suffix(path), "") if chosen == "auto" else chosen
    if kind not in ("jsonl", "parquet"):
        what = f"is a {kind} file" if kind else "has a name that does not show its format"
        raise DataError(
            f"{shard.name} {what}; a stream is read from jsonl or parquet.",
            hint='Set data.train.format if it is either, convert it to either, or read it with kind = "files".',
        )
    if kind == "parquet" and path.suffix.lower() in COMPRESSION:
        raise DataError(
            f"{shard.name}: packed parquet cannot be read in parts.", hint="Unpack it: parquet is compressed inside."
        )
    return "parquet" if kind == "parquet" else "jsonl"


def open_reader(shard: Shard, kind: ShardFormat, position: Position, *, wanted: frozenset[str]) -> ShardReader:
    """A reader of the wanted columns from `position` on; DataError as `ShardReader.read`."""
    reader = _ParquetReader if kind == "parquet" else _JsonlReader
    return reader(shard, position, wanted=wanted)


class _JsonlReader:
    """One object per line; blank lines are not rows."""

    def __init__(self, shard: Shard, position: Position, *, wanted: frozenset[str] | None) -> None:
        self._shard = shard
        self._wanted = wanted
        self._segment = self.position = position
        self._raw = open_shard(shard)
        self._unpacking: Generator[bytes] | None = None
        try:
            self._lines = self._unpacked()
        except BaseException:
            self._raw.close()
            raise

    def _unpacked(self) -> io.BufferedReader:
        """The text from the position on."""
        packed = COMPRESSION.get(Path(self._shard.name).suffix.lower())
        if packed is None:
            self._raw.seek(self.position.offset)
            lines = self._raw
        else:
            self._unpacking = self._blocks(packed)
            lines = io.BufferedReader(Blocks(self._unpacking), _UNPACK_BYTES)
            left = self.position.offset
            while left and (skipped := len(lines.read(min(left, _UNPACK_BYTES)))):
                left -= skipped
        if self.position.offset == 0 and (head := lines.peek(16)[:_UNPACK_BYTES]):
            # Only what the first bytes show: a file of another kind, or UTF-16.
            text_blocks(self._shard.name, iter([head]), "utf-8")
        return lines

    def _blocks(self, packed: str) -> Generator[bytes]:
        try:
            with pa.CompressedInputStream(pa.PythonFile(self._raw, "r"), packed) as stream:
                while block := stream.read(_UNPACK_BYTES):
                    yield block
        except (OSError, pa.ArrowException, EOFError) as error:
            raise DataError(
                f"{self._shard.name} cannot be unpacked: it is truncated or damaged ({error}).",
                hint="Fetch or write the file again.",
            ) from error

    def read(self, num_rows: int) -> tuple[Piece, int]:
        self._segment = self.position
        table = RecordTable(self._wanted)
        texts: list[str] = []
        numbers: list[int] = []
        while len(texts) + len(table.bad) < num_rows and (data := self._line()):
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                reason = undecodable(data, self.position.offset - len(data))
                table.bad.append((self.position.number, reason, "Shards of a stream are UTF-8."))
                continue
            if text.strip(" \t\r\n"):
                texts.append(text.removesuffix("\n").removesuffix("\r"))
                numbers.append(self.position.number)
        num_taken = len(texts) + len(table.bad)
        if texts:
            add_lines(table, texts, numbers)
        return table.finish(self._shard.name, "line"), num_taken

    def _line(self) -> bytes:
        try:
            data = self._lines.readline(MAX_LINE_BYTES)
        except OSError as error:
            raise DataError(f"{self._shard.name} cannot be read: {error.strerror or error}.") from error
        if len(data) == MAX_LINE_BYTES and not data.endswith(b"\n"):
            raise DataError(
                f"{self._shard.name}, line {self.position.number + 1} has more than {MAX_LINE_BYTES:,} bytes.",
                hint="Each line must be one JSON object.",
            )
        at_start = self.position.offset == 0
        self.position = Position(self.position.offset + len(data), self.position.number + bool(data))
        return data.removeprefix(codecs.BOM_UTF8) if at_start else data

    def all_columns(self) -> Piece:
        other = _JsonlReader(self._shard, self._segment, wanted=None)
        try:
            return other.read(100)[0]
        finally:
            other.close()

    def close(self) -> None:
        self._lines.close()
        if self._unpacking is not None:
            self._unpacking.close()
        self._raw.close()


class _ParquetReader:
    """Row group after row group, a few thousand rows at once."""

    def __init__(self, shard: Shard, position: Position, *, wanted: frozenset[str]) -> None:
        self._shard = shard
        self.position = position
        self._raw = open_shard(shard)
        self._rest: pa.Table | None = None
        try:
            # A local file is read as needed; elsewhere each read is a request, so the reads of a row group are
            # combined.
            source = shard.location if shard.is_local else pa.PythonFile(self._raw, "r")
            self._file = pq.ParquetFile(source, pre_buffer=not shard.is_local)
            self._schema = self._file.schema_arrow
            self._columns = [name for name in self._schema.names if name in wanted]
            self._batches = self._from_position()
        except DAMAGE as error:
            try:
                self._raw.seek(0)
                refuse_foreign(shard.name, self._raw.read(HEAD_BYTES), expected=PARQUET)
            except OSError:  # it cannot be read at all
                pass
            finally:
                self._raw.close()
            raise damaged(shard.name, "parquet", error) from error

    def _from_position(self) -> Generator[pa.Table]:
        before, metadata = 0, self._file.metadata
        for group in range(metadata.num_row_groups):
            num_rows = metadata.row_group(group).num_rows
            if before + num_rows > self.position.offset:
                skip = max(0, self.position.offset - before)
                for batch in self._file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=self._columns):
                    if skip < batch.num_rows:
                        yield pa.Table.from_batches([batch.slice(skip)])
                    skip = max(0, skip - batch.num_rows)
            before += num_rows

    def read(self, num_rows: int) -> tuple[Piece, int]:
        tables: list[pa.Table] = []
        missing = num_rows
        try:
            while missing:
                table = self._rest if self._rest is not None else next(self._batches, None)
                if table is None:
                    break
                tables.append(table.slice(0, missing))
                self._rest = table.slice(missing) if table.num_rows > missing else None
                missing -= tables[-1].num_rows
            schema = pa.schema([self._schema.field(name) for name in self._columns])
            whole = pa.concat_tables(tables) if tables else schema.empty_table()
        except DAMAGE as error:
            raise damaged(self._shard.name, "parquet", error) from error
        first = self.position.number + 1
        self.position = Position(*(number + num_rows - missing for number in self.position))
        return arrow_piece(
            whole.replace_schema_metadata(self._schema.metadata), self._shard.name, first=first
        ), num_rows - missing

    def all_columns(self) -> Piece:
        return arrow_piece(self._schema.empty_table(), self._shard.name)

    def close(self) -> None:
        self._batches.close()
        self._file.close()
        self._raw.close()
