"""Reads a file to its end and keeps what reveals the role of each column: lengths, kinds, distinct values; for
`guess.py`.

Memory is bounded for files of any size, except `.json`, which can only be read as a whole: a column keeps counts and
at most `MAX_DISTINCT` distinct values.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.config import FilesSource
from textune.data.reading import (
    INTEGER,
    NUMBER,
    BadLine,
    TextLines,
    format_of,
    open_cells,
    raw_blocks,
    read_json,
    skip_lines,
    table_batches,
)

MAX_DISTINCT = 20_000
_MAX_COUNTED = 200
"""Most characters of a value that is counted; a longer one is not a label."""
_BLOCK_ROWS = 4096

_WORD = re.compile(r"[\w./:#@-]+", re.ASCII)
_DATE = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}(?: \d{1,2}:\d{2}.*)?|\d{4}/\d{1,2}/\d{1,2}.*"
    r"|\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?"
    r"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d{1,2}:\d{2}.*"
)
_LIST = re.compile(r"\[.*\]", re.S)


@dataclass
class Column:
    """What all rows reveal about a column."""

    name: str
    num_rows: int = 0
    num_values: int = 0
    """Values that are not empty. The counts below are shares of them."""
    num_characters: int = 0
    num_texts: int = 0
    """Values that are text in the file, numbers written as text included."""
    num_numbers: int = 0
    """Numbers, or text written as numbers."""
    num_fractions: int = 0
    """Numbers that are not whole."""
    num_words: int = 0
    """Text without spaces."""
    num_dates: int = 0
    num_lists: int = 0
    """Lists, or text written as lists."""
    num_objects: int = 0
    num_foreign: int = 0
    """Non-ASCII letters."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often each value occurs; not all of them where `is_open`."""
    is_open: bool = False
    """Whether there are more distinct values than are counted."""

    @property
    def mean_length(self) -> float:
        return self.num_characters / max(self.num_values, 1)

    @property
    def num_distinct(self) -> int:
        return len(self.counts)

    @property
    def num_empty(self) -> int:
        return self.num_rows - self.num_values

    @property
    def is_number(self) -> bool:
        return self.num_values > 0 and self.num_numbers == self.num_values

    @property
    def is_binary(self) -> bool:
        """0 and 1, or true and false, in every row, both of them."""
        known = {"0", "1", "0.0", "1.0", "true", "false"}
        values = {value.lower() for value in self.counts}
        return not self.is_open and self.num_empty == 0 and len(values) == 2 and values <= known

    @property
    def is_list(self) -> bool:
        return self.num_values > 0 and self.num_lists == self.num_values

    def add(self, values: Sequence[object]) -> None:
        """Take the values of some rows."""
        self.num_rows += len(values)
        for value, num in _count(values).items():
            self._add_value(value, num)

    def _add_value(self, value: object, num: int) -> None:
        text = value.strip() if isinstance(value, str) else "" if value is None or value != value else _as_text(value)
        if not text:
            return
        self.num_values += num
        self.num_characters += num * len(text)
        if isinstance(value, (_List, _Object)):
            self.num_lists += num * isinstance(value, _List)
            self.num_objects += num * isinstance(value, _Object)
        elif isinstance(value, str):
            self._add_text(text, num)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._add_number(text, num)
        elif not isinstance(value, bool):
            self.num_dates += num * bool(_DATE.fullmatch(text))
        if len(text) > _MAX_COUNTED or (len(self.counts) >= MAX_DISTINCT and text not in self.counts):
            self.is_open = True
        else:
            self.counts[text] += num

    def _add_text(self, text: str, num: int) -> None:
        self.num_texts += num
        if not text.isascii():
            self.num_foreign += num * sum(1 for character in text if character > "\x7f" and character.isalpha())
        if text[0] == "[" and _LIST.fullmatch(text):
            self.num_lists += num
        elif len(text) <= _MAX_COUNTED and NUMBER.fullmatch(text):
            self._add_number(text, num)
        elif len(text) <= _MAX_COUNTED and _DATE.fullmatch(text):
            self.num_dates += num
        if _WORD.fullmatch(text):
            self.num_words += num

    def _add_number(self, text: str, num: int) -> None:
        self.num_numbers += num
        if not INTEGER.fullmatch(text) and not float(text).is_integer():
            self.num_fractions += num


class _List(str):
    """A list as JSON text."""


class _Object(str):
    """An object as JSON text."""


def _count(values: Iterable[object]) -> Counter[object]:
    """The values with their numbers, lists and objects as text."""
    try:
        return Counter(values)
    except TypeError:
        return Counter(_hashable(value) for value in values)


def _hashable(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return _List(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, Mapping):
        return _Object(json.dumps(value, ensure_ascii=False, default=str))
    return value


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass
class Profile:
    """What all rows of a file reveal."""

    columns: list[Column]
    num_rows: int
    num_bad: int = 0
    """Rows that cannot be read this way."""
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names that the file itself gives to the integers of a column."""


def profile_file(path: Path, source: FilesSource) -> Profile:
    """Every row of one file, read as the section says. DataError where that is impossible for the file as a whole."""
    kind = format_of(path, source.format)
    names: dict[str, tuple[str, ...]] = {}
    if kind in {"csv", "tsv"}:
        blocks = _delimited_blocks(path, source, tabs=kind == "tsv")
    elif kind == "jsonl":
        blocks = _jsonl_blocks(path, source)
    elif kind == "text":
        blocks = _text_blocks(path, source)
    else:
        blocks = _table_blocks(path, source, kind, names)
    return _profile(blocks, names)


def profile_table(table: pa.Table) -> list[Column]:
    """Every column of a table in memory."""
    return _profile(_blocks_of(table, 0), {}).columns


_Block = tuple[dict[str, Sequence[object]], int, int]
"""Values by column, the number of rows, and how many more rows could not be read."""


def _profile(blocks: Iterable[_Block], class_names: dict[str, tuple[str, ...]]) -> Profile:
    columns: dict[str, Column] = {}
    num_rows = num_bad = 0
    for values, size, bad in blocks:
        for name, cells in values.items():
            columns.setdefault(name, Column(name, num_rows=num_rows)).add(cells)
        num_rows += size
        num_bad += bad
        for column in columns.values():
            column.num_rows = num_rows
    return Profile(list(columns.values()), num_rows, num_bad, class_names)


def _delimited_blocks(path: Path, source: FilesSource, *, tabs: bool) -> Iterator[_Block]:
    cells = open_cells(path, path.name, source, tabs=tabs)
    return _cut(cells.names, cells)


def _cut(names: Sequence[str], rows: Iterable[tuple[int, Sequence[str] | BadLine]]) -> Iterator[_Block]:
    block: list[Sequence[str]] = []
    bad = 0
    for _, cells in rows:
        if isinstance(cells, BadLine):
            bad += 1
        else:
            block.append(cells)
        if len(block) == _BLOCK_ROWS:
            yield dict(zip(names, zip(*block, strict=True), strict=True)), len(block), bad
            block, bad = [], 0
    cells_of = zip(*block, strict=True) if block else ((),) * len(names)
    yield dict(zip(names, cells_of, strict=True)), len(block), bad


def _jsonl_blocks(path: Path, source: FilesSource) -> Iterator[_Block]:
    lines = TextLines(path.name, raw_blocks(path), source.encoding)
    block: list[dict[str, object]] = []
    bad = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, list) and len(record) == len(source.column_names):
            record = dict(zip(source.column_names, record, strict=True))
        if isinstance(record, dict):
            block.append(record)
        else:
            bad += 1
        if len(block) == _BLOCK_ROWS:
            yield _by_column(block), len(block), bad
            block, bad = [], 0
    yield _by_column(block), len(block), bad


def _by_column(records: Sequence[Mapping[str, object]]) -> dict[str, Sequence[object]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _text_blocks(path: Path, source: FilesSource) -> Iterator[_Block]:
    """Lines, or the groups of the pattern."""
    matcher = re.compile(source.pattern) if source.pattern else re.compile(r"(?P<text>.*)", re.S)
    names = list(matcher.groupindex)

    def rows() -> Iterator[tuple[int, Sequence[str] | BadLine]]:
        lines = TextLines(path.name, raw_blocks(path), source.encoding)
        skip_lines(lines, source.skip_lines, path.name)
        for line in lines:
            match = matcher.fullmatch(line.removesuffix("\n").removesuffix("\r"))
            yield lines.number, [match[name] or "" for name in names] if match else BadLine(lines.number, "")

    return _cut(names, rows())


def _table_blocks(
    path: Path, source: FilesSource, kind: str, class_names: dict[str, tuple[str, ...]]
) -> Iterator[_Block]:
    if kind == "json":
        piece = read_json(path, path.name, source, wanted=None)
        pieces: Iterable[Any] = [piece]
    else:
        pieces = table_batches(path, path.name, arrow=kind == "arrow", max_rows=_BLOCK_ROWS)
    for piece in pieces:
        class_names.update(piece.class_names)
        yield from _blocks_of(piece.table, len(piece.bad))


def _blocks_of(table: pa.Table, bad: int) -> Iterator[_Block]:
    for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
        columns = dict(zip(batch.schema.names, (column.to_pylist() for column in batch.columns), strict=True))
        yield columns, batch.num_rows, bad
        bad = 0
