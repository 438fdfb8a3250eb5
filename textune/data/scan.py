"""Cuts a block of delimited text into cells with array operations; the fast half of `delimited.py`, the lines of `lines.py`.

A quote opens a cell only at its start; while the number of quotes so far is odd, delimiters and line feeds belong to the cell.
Where quotes stand in any other way the scan stops, and `delimited.py` goes on cell by cell.

Legend: E cells of the block, R rows of the block, M marks (delimiters, line feeds, quotes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.files import ENCODING_HINT, not_utf8

LINE_FEED, RETURN, QUOTE = 10, 13, 34


@dataclass(frozen=True)
class BadLine:
    """A row that cannot be read."""

    line: int
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Scan:
    """The rows of a block."""

    columns: list[pa.Array]
    """large_string [R] each."""
    line_R: np.ndarray
    """int64 [R] line where each row begins, counted from the start of the block (0 is its first line)."""
    bad: list[BadLine]
    """Rows left out, `line` counted like `line_R`."""
    consumed: int
    """Bytes that were used: everything up to the end of the last whole row."""
    num_lines: int
    """Line feeds among those bytes."""
    stuck: bool
    """Whether quotes at the end of these bytes need the slow reader."""


@dataclass(frozen=True)
class _Cells:
    buffer: np.ndarray
    end_E: np.ndarray
    start_E: np.ndarray
    last_R: np.ndarray
    """Index into E of each row's last cell."""
    line_feeds: np.ndarray
    consumed: int
    stuck: bool


def scan_block(
    data: bytes, num_columns: int, *, delimiter: int | None, quoting: bool, keep_blank: bool, offset: int, final: bool
) -> Scan:
    """Cut `data`, which begins at the start of a row, into columns.

    `delimiter` None: each line is one cell. `keep_blank`: an empty line is a row. `offset`: place of `data` in its file, for
    messages. `final`: nothing follows (then `data` must end in a line feed). Rows with another number of cells, NUL bytes or
    bytes that are not UTF-8 are left out and listed.
    """
    cells = _cut(data, delimiter=delimiter, quoting=quoting, final=final)
    counts_R = np.diff(cells.last_R, prepend=-1)
    first_R = cells.last_R - counts_R + 1
    begin_R = cells.start_E[first_R]
    line_R = np.searchsorted(cells.line_feeds, begin_R)
    good_R = counts_R == num_columns
    bad: list[BadLine] = []
    if not keep_blank:
        width_R = cells.end_E[cells.last_R] - begin_R
        blank_R = (width_R == 0) | ((width_R == 1) & (cells.buffer[begin_R] == RETURN))
        good_R &= ~blank_R
        ragged_R = ~blank_R & (counts_R != num_columns)
        bad = [BadLine(int(line_R[i]), ragged(int(counts_R[i]), num_columns)) for i in np.flatnonzero(ragged_R)]
    bad += _bad_bytes(data, cells, begin_R, line_R, good_R, offset)
    bad.sort(key=lambda item: item.line)
    columns = _extract(data, cells, None if good_R.all() else first_R[good_R], num_columns, quoting)
    num_lines = int(np.searchsorted(cells.line_feeds, cells.consumed))
    return Scan(columns, line_R[good_R], bad, cells.consumed, num_lines, cells.stuck)


def ragged(found: int, expected: int) -> str:
    """The reason for a row with a wrong number of cells."""
    return f"{found} {'cell' if found == 1 else 'cells'} where {expected} {'is' if expected == 1 else 'are'} expected"


def _cut(data: bytes, *, delimiter: int | None, quoting: bool, final: bool) -> _Cells:
    buffer = np.frombuffer(data, np.uint8)
    marks = buffer == LINE_FEED
    if delimiter is not None:
        marks |= buffer == delimiter
    quoted = quoting and b'"' in data
    if quoted:
        marks |= buffer == QUOTE
    at_M = np.flatnonzero(marks)
    kind_M = buffer[at_M]
    line_feeds = at_M[kind_M == LINE_FEED]
    limit = len(data)
    if quoted:
        quote_M = kind_M == QUOTE
        limit = _first_irregular(buffer, at_M[quote_M], delimiter, final)
        outside_M = ~quote_M & (np.cumsum(quote_M) % 2 == 0)
        at_M, kind_M = at_M[outside_M], kind_M[outside_M]
    last_R = np.flatnonzero(kind_M == LINE_FEED)
    last_R = last_R[: np.searchsorted(at_M[last_R], limit)]
    num_cells = int(last_R[-1]) + 1 if len(last_R) else 0
    end_E = at_M[:num_cells]
    start_E = np.concatenate([np.zeros(min(1, num_cells), np.int64), end_E[:-1] + 1])
    consumed = int(end_E[-1]) + 1 if num_cells else 0
    return _Cells(buffer, end_E, start_E, last_R, line_feeds, consumed, limit < len(data))


def _first_irregular(buffer: np.ndarray, quotes: np.ndarray, delimiter: int | None, final: bool) -> int:
    """Place of the first quote that neither encloses a cell nor is half of a doubled quote; the buffer's length if none."""
    size = len(buffer)
    if not final:
        quotes = quotes[quotes + 2 < size]
    before = buffer[np.maximum(quotes - 1, 0)]
    after = buffer[np.minimum(quotes + 1, size - 1)]
    beyond = buffer[np.minimum(quotes + 2, size - 1)]
    opens = (quotes == 0) | (before == delimiter) | (before == LINE_FEED) | (before == QUOTE)
    closes = (quotes + 1 >= size) | (after == delimiter) | (after == LINE_FEED) | (after == QUOTE)
    closes |= (after == RETURN) & (beyond == LINE_FEED)
    is_opening = np.arange(len(quotes)) % 2 == 0
    wrong = np.flatnonzero(~np.where(is_opening, opens, closes))
    if len(wrong):
        return int(quotes[wrong[0]])
    # An odd number of quotes at the end of the file: the last one never closes.
    return int(quotes[-1]) if final and len(quotes) % 2 else size


def _bad_bytes(
    data: bytes, cells: _Cells, begin_R: np.ndarray, line_R: np.ndarray, good_R: np.ndarray, offset: int
) -> list[BadLine]:
    """Take rows with NUL bytes or broken UTF-8 out of `good_R` (in place) and say why."""
    bad: list[BadLine] = []
    end_R = cells.end_E[cells.last_R]
    if data.find(b"\0", 0, cells.consumed) >= 0:
        at = np.flatnonzero(cells.buffer[: cells.consumed] == 0)
        for row in np.unique(np.searchsorted(end_R, at)):
            if good_R[row]:
                bad.append(BadLine(int(line_R[row]), "it holds a NUL byte", NUL_HINT))
                good_R[row] = False
    if not _is_valid_utf8(data, cells.consumed):
        at = np.flatnonzero(cells.buffer[: cells.consumed] >= 0x80)
        for row in np.unique(np.searchsorted(end_R, at)):
            reason = undecodable(data, int(begin_R[row]), int(end_R[row]), offset)
            if reason and good_R[row]:
                bad.append(BadLine(int(line_R[row]), reason, ENCODING_HINT))
                good_R[row] = False
    return bad


NUL_HINT = 'A text file holds none; if it is UTF-16, set encoding = "utf-16".'


def undecodable(data: bytes, start: int, end: int, offset: int) -> str:
    """Why `data[start:end]` is not UTF-8; empty if it is."""
    try:
        data[start:end].decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(data, start + error.start, offset)
    return ""


def _is_valid_utf8(data: bytes, size: int) -> bool:
    offsets = pa.py_buffer(np.array([0, size], np.int64).tobytes())
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _extract(data: bytes, cells: _Cells, first_R: np.ndarray | None, num_columns: int, quoting: bool) -> list[pa.Array]:
    """The columns, cut out of `data`: each cell with the mark that ends it, then without mark, carriage return and quotes."""
    num_cells = len(cells.end_E)
    if first_R is None:
        first_R = np.arange(0, num_cells, num_columns)
    # A missing first offset for the empty block: Arrow wants one offset more than cells.
    offsets = np.concatenate([np.zeros(1, np.int64), cells.end_E + 1])
    texts = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), num_cells, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    )
    columns = []
    for column in range(num_columns):
        index_R = first_R + column
        start_R, end_R = cells.start_E[index_R], cells.end_E[index_R]
        values = pc.binary_slice(texts.take(pa.array(index_R)), 0, -1)
        if column == num_columns - 1:
            returns_R = (cells.buffer[np.maximum(end_R - 1, 0)] == RETURN) & (end_R > start_R)
            if returns_R.any():
                values = pc.if_else(pa.array(returns_R), pc.binary_slice(values, 0, -1), values)
        if quoting:
            quoted_R = (cells.buffer[start_R] == QUOTE) & (end_R > start_R)
            if quoted_R.any():
                inner = pc.replace_substring(pc.binary_slice(values, 1, -1), '""', '"')
                values = pc.if_else(pa.array(quoted_R), inner, values)
        columns.append(values.view(pa.large_string()))
    return columns
