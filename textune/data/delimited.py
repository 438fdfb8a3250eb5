"""Reader of csv and tsv: blocks of the file through the fast `scan.py`, odd quoting through a cell-by-cell reader.

Every cell is text, exactly as it stands. A blank line is no row. With quoting, a cell that begins with a double quote ends at
the next single double quote and may span lines; a quote inside a cell that did not begin with one is a plain character. After a
row that cannot be read, reading goes on at the next line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config.schema import FilesSource
from textune.data.files import BLOCK_BYTES, ENCODING_HINT, text_blocks
from textune.data.rows import Piece, Places, SkippedRow, count, listing, repeated_names, shorten
from textune.data.scan import NUL_HINT, BadLine, Scan, ragged, scan_block, undecodable
from textune.errors import DataError

_SLOW_BYTES = 4 << 20
"""How far the cell-by-cell reader goes before the fast one is tried again."""

_HEADER_BYTES = 1 << 20
"""A header row longer than this is none."""

_MAX_COLUMNS = 10_000

_DELIMITERS = {"\t": '"\\t"', ",": '","', ";": '";"', "|": '"|"'}


@dataclass
class _Result:
    """What has been read so far; lines are counted from the start of the file."""

    columns: list[list[pa.Array]]
    lines: list[np.ndarray] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)

    def add(self, scan: Scan, line: int) -> None:
        for chunks, column in zip(self.columns, scan.columns, strict=True):
            chunks.append(column)
        self.lines.append(scan.line_R + line)
        self.bad.extend(BadLine(bad.line + line, bad.reason, bad.hint) for bad in scan.bad)


def read_delimited(path: Path, name: str, section: FilesSource, *, tabs: bool) -> Piece:
    """One csv (or with `tabs`, tsv) file; DataError where it has no usable header or is damaged as a whole."""
    delimiter = section.delimiter or ("\t" if tabs else ",")
    if delimiter in '"\n\r\0':
        raise DataError(f"delimiter = {delimiter!r} cannot separate columns.")
    quoting = section.quoting == "standard" or (section.quoting == "auto" and not tabs)
    feed = _Feed(*text_blocks(path, section.encoding))
    names, header_bytes, header_lines = _header(feed, name, section, delimiter, quoting)
    feed.advance(header_bytes, header_lines)
    result = _Result([[] for _ in names])
    _read_rows(feed, result, delimiter.encode(), quoting=quoting)
    columns = [pa.chunked_array(chunks, pa.large_string()) for chunks in result.columns]
    line_N = np.concatenate(result.lines) if result.lines else np.zeros(0, np.int64)
    hint = _delimiter_hint(names, delimiter)
    bad = tuple(SkippedRow(f"{name}, line {bad.line}", _explain(bad.reason, names), bad.hint or hint) for bad in result.bad)
    return Piece(pa.table(columns, names=list(names)), Places.of_file(name, "line", line_N), bad, hint=hint)


def _explain(reason: str, names: tuple[str, ...]) -> str:
    return f"{reason} ({listing(names, 6)})" if "expected" in reason else reason


def _delimiter_hint(names: tuple[str, ...], delimiter: str) -> str:
    """What to say when the header is one column that another delimiter would cut."""
    if len(names) != 1:
        return ""
    best = max(_DELIMITERS, key=names[0].count)
    if best == delimiter or best not in names[0]:
        return ""
    shown, num = _DELIMITERS[best], names[0].count(best) + 1
    return f"The delimiter looks wrong: {shown} would make {num} columns of the header; set delimiter = {shown}."


class _Feed:
    """The bytes not yet used, topped up from the file."""

    def __init__(self, offset: int, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.data = b""
        self.offset = offset
        self.line = 1
        self.final = False
        self.pull()

    def pull(self) -> None:
        """Add a block, or more where a long row needs it: what is there is at least doubled, so that rescanning stays cheap."""
        wanted, pieces = len(self.data), [self.data]
        size = 0
        while not self.final and size < max(wanted, BLOCK_BYTES):
            piece = next(self._blocks, None)
            if piece is None:
                self.final = True
                # The last row may lack its line feed.
                if sum(map(len, pieces)) and not next(one for one in reversed(pieces) if one).endswith(b"\n"):
                    pieces.append(b"\n")
            else:
                pieces.append(piece)
                size += len(piece)
        self.data = b"".join(pieces)

    def advance(self, num_bytes: int, num_lines: int) -> None:
        self.data = self.data[num_bytes:]
        self.offset += num_bytes
        self.line += num_lines


def _header(feed: _Feed, name: str, section: FilesSource, delimiter: str, quoting: bool) -> tuple[tuple[str, ...], int, int]:
    """Column names, and the bytes and lines that the header takes (none with `column_names`)."""
    start = _skip_blank(feed, name)
    if section.column_names:
        return _given_names(feed, section, start, delimiter, quoting), 0, 0
    parsed = _first_row(feed, start, delimiter, quoting)
    if feed.data.find(b"\n", start, start + _HEADER_BYTES) < 0:
        hint = 'For a file without header set column_names; for lines of text set format = "text".'
        raise DataError(f"{name}: its first line is longer than {_HEADER_BYTES:,} bytes, which is no header.", hint=hint)
    if isinstance(parsed, str):
        raise DataError(f"{name}, line 1: the header cannot be read: {parsed}.", hint=_QUOTE_HINT)
    raw, end = parsed
    line = feed.data.count(b"\n", 0, start) + 1
    reason = undecodable(feed.data, start, end, feed.offset) or ("it holds a NUL byte" if b"\0" in feed.data[start:end] else "")
    if reason:
        raise DataError(f"{name}, line {line}: {reason}.", hint=NUL_HINT if "NUL" in reason else ENCODING_HINT)
    if any(b"\r" in cell for cell in raw) and b"\n" not in feed.data[:-1]:
        raise DataError(f"{name} ends its lines with carriage returns only.", hint="Save it with line feeds.")
    names = tuple(cell.decode("utf-8").strip() for cell in raw)
    return _check_names(names, f"{name}, line {line}"), end, feed.data.count(b"\n", 0, end)


def _skip_blank(feed: _Feed, name: str) -> int:
    """Where the first line that is not blank begins."""
    start = 0
    while True:
        while feed.data[start : start + 1] in {b"\n", b"\r"}:
            start += 1
        if start < len(feed.data):
            return start
        if feed.final:
            raise DataError(f"{name} is empty: it holds blank lines only.")
        feed.pull()


def _first_row(feed: _Feed, start: int, delimiter: str, quoting: bool) -> tuple[list[bytes], int] | str:
    """The cells of the first row and its end, or why there are none within the first bytes."""
    while True:
        data = feed.data[: start + _HEADER_BYTES]
        parsed = _parse_row(data, start, delimiter.encode(), quoting=quoting)
        whole = not isinstance(parsed, str) and parsed[1] <= len(data)
        if whole or feed.final or len(feed.data) > start + _HEADER_BYTES:
            return parsed
        feed.pull()


def _given_names(feed: _Feed, section: FilesSource, start: int, delimiter: str, quoting: bool) -> tuple[str, ...]:
    parsed = _first_row(feed, start, delimiter, quoting)
    if not isinstance(parsed, str) and [cell.decode("utf-8", "replace") for cell in parsed[0]] == list(section.column_names):
        raise DataError("The first line of the file repeats column_names: it is a header.", hint="Remove column_names.")
    return _check_names(section.column_names, "column_names")


def _check_names(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if len(names) > _MAX_COLUMNS:
        raise DataError(
            f"{where}: {len(names):,} columns are more than the limit of {_MAX_COLUMNS:,}.", hint="Is the delimiter right?"
        )
    twice = repeated_names(names)
    if twice:
        what = listing(shorten(one) for one in twice)
        hint = "Rename them, or set column_names if the file has no header line."
        raise DataError(
            f"{where}: {count(len(twice), 'column name stands', 'column names stand')} there twice: {what}.", hint=hint
        )
    return names


def _read_rows(feed: _Feed, result: _Result, delimiter: bytes, *, quoting: bool) -> None:
    num_columns = len(result.columns)
    fast = len(delimiter) == 1
    while feed.data:
        scan = None
        if fast:
            scan = scan_block(
                feed.data,
                num_columns,
                delimiter=delimiter[0],
                quoting=quoting,
                keep_blank=False,
                offset=feed.offset,
                final=feed.final,
            )
            _use(feed, result, scan)
        if scan is None or scan.stuck:
            limit = _SLOW_BYTES if fast else len(feed.data)
            scan = _scan_slowly(feed, num_columns, delimiter, quoting=quoting, limit=limit)
            _use(feed, result, scan)
        if feed.final and not scan.consumed:
            break
        if not scan.consumed or len(feed.data) < BLOCK_BYTES // 2:
            feed.pull()


def _use(feed: _Feed, result: _Result, scan: Scan) -> None:
    result.add(scan, feed.line)
    feed.advance(scan.consumed, scan.num_lines)


def _scan_slowly(feed: _Feed, num_columns: int, delimiter: bytes, *, quoting: bool, limit: int) -> Scan:
    """Rows from the start of the data, cell by cell, until `limit` bytes are used or a row's end is not there yet."""
    data, position, line = feed.data, 0, 0
    columns: list[list[str]] = [[] for _ in range(num_columns)]
    lines: list[int] = []
    bad: list[BadLine] = []
    while position < min(limit, len(data)):
        line_end = data.find(b"\n", position)
        if line_end < 0:
            break
        parsed = _parse_row(data, position, delimiter, quoting=quoting)
        if parsed == _UNCLOSED and not feed.final:
            break
        if isinstance(parsed, str):
            bad.append(BadLine(line, parsed, _QUOTE_HINT))
            position, line = line_end + 1, line + 1
            continue
        cells, end = parsed
        if cells != [b""] or data[position : position + 1] == b'"':
            problem = _problem(data, cells, position, end, num_columns, feed.offset)
            if problem:
                bad.append(BadLine(line, *problem))
            else:
                lines.append(line)
                for column, cell in zip(columns, cells, strict=True):
                    column.append(cell.decode("utf-8"))
        line += data.count(b"\n", position, end)
        position = end
    arrays = [pa.array(column, pa.large_string()) for column in columns]
    return Scan(arrays, np.array(lines, np.int64), bad, position, line, stuck=False)


def _problem(data: bytes, cells: list[bytes], start: int, end: int, num_columns: int, offset: int) -> tuple[str, str] | None:
    """Reason and hint for a row whose quotes are in order but which cannot be used."""
    if len(cells) != num_columns:
        return ragged(len(cells), num_columns), ""
    if b"\0" in data[start:end]:
        return "it holds a NUL byte", NUL_HINT
    reason = undecodable(data, start, end, offset)
    return (reason, ENCODING_HINT) if reason else None


_UNCLOSED = "a quote opens a cell here and is never closed"
_QUOTE_HINT = 'If quotes are plain characters in this file, set quoting = "none".'


def _parse_row(data: bytes, start: int, delimiter: bytes, *, quoting: bool) -> tuple[list[bytes], int] | str:
    """The cells of the row at `start` and the place after its line feed, or the reason why it cannot be read."""
    line_end = data.find(b"\n", start)
    line_end = len(data) if line_end < 0 else line_end
    if not quoting or data.find(b'"', start, line_end) < 0:
        return data[start:line_end].removesuffix(b"\r").split(delimiter), line_end + 1
    cells: list[bytes] = []
    position = start
    while True:
        if data[position : position + 1] != b'"':
            end = data.find(delimiter, position, line_end)
            if end < 0:
                cells.append(data[position:line_end].removesuffix(b"\r"))
                return cells, line_end + 1
            cells.append(data[position:end])
            position = end + len(delimiter)
            continue
        close = data.find(b'"', position + 1)
        while close >= 0 and data[close + 1 : close + 2] == b'"':
            close = data.find(b'"', close + 2)
        if close < 0:
            return _UNCLOSED
        cells.append(data[position + 1 : close].replace(b'""', b'"'))
        if close > line_end:
            line_end = data.find(b"\n", close)
            if line_end < 0:
                return _UNCLOSED
        position = close + 1
        if data.startswith(delimiter, position):
            position += len(delimiter)
        elif position >= line_end or (data[position] == 13 and position + 1 == line_end):
            return cells, line_end + 1
        else:
            rest = data[position : min(line_end, position + 20)].decode("utf-8", "replace")
            lines = data.count(b"\n", start, position)
            span = f" {count(lines, 'line')} further on" if lines else ""
            return f"a quoted cell is followed by {shorten(rest, 20)}{span}, not by a delimiter or the end of the line"
