"""Dictionaries to Arrow columns, for json, jsonl and Python sources: finds each column's kind and sets other rows
aside.

A column holds one kind of value: text, integers, numbers, true/false, lists of one of these, or anything else
("objects": kept as JSON text in a field marked with `JSON_FIELD`). The most frequent kind is the column's; rows of
another kind are bad rows. Lists with nulls among their entries are objects, but fit into a column of lists; empty
lists fit into a column of lists or objects, however many they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from textune.data.reading.rows import JSON_FIELD, Piece, Places, SkippedRow
from textune.errors import Advice, DataError
from textune.jsontext import is_unicode
from textune.wording import listing, shorten

MAX_COLUMNS = 1000
_BLOCK_ROWS = 20_000
_MAX_INT = 2**63

_SCALARS: dict[type, str] = {str: "text", int: "integer", float: "number", bool: "true/false"}
_GAPS = "gapped "
"""Begins the kind of a list with nulls among its entries."""
_ARROW: dict[str, pa.DataType] = {
    "text": pa.large_string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "true/false": pa.bool_(),
}
_PLURAL = {
    "text": "text",
    "integer": "integers",
    "number": "numbers",
    "true/false": "true/false",
    "object": "objects",
    "list of text": "lists of text",
    "list of integer": "lists of integers",
    "list of number": "lists of numbers",
    "list of true/false": "lists of true/false",
    "empty list": "empty lists",
}


@dataclass
class _Chunk:
    """The values of one column in one block: already an array if they are of one kind."""

    kind: str
    values: pa.Array | list[object]
    start: int


class RecordTable:
    """Collects records block by block; `finish` makes the piece."""

    def __init__(self, wanted: frozenset[str] | None = None) -> None:
        self._wanted = wanted
        self._chunks: dict[str, list[_Chunk]] = {}
        self._tally: dict[str, Counter[str]] = {}
        self._known: set[str] = set()
        self._rows: list[dict[str, object]] = []
        self._numbers: list[int] = []
        self._number_blocks: list[np.ndarray] = []
        self._total = 0
        self.bad: list[tuple[int, str, Advice]] = []
        """Number, reason and hint of rows set aside."""
        self.list_hint: Advice = ""
        """What to do about rows that are lists."""

    def add(self, record: Any, number: int) -> None:
        """Take one record; anything but a dictionary with text keys is set aside."""
        reason = self._refusal(record)
        if reason:
            self.bad.append((number, reason, self.list_hint if isinstance(record, list) else ""))
            return
        self._rows.append(record)
        self._numbers.append(number)
        if len(self._rows) >= _BLOCK_ROWS:
            self._flush()

    def add_all(self, records: Sequence[Any], numbers: Sequence[int]) -> None:
        """Take many records at once; the same as `add` for each."""
        plain = set(map(type, records)) == {dict} and all(records)
        if plain and not self._known:
            self._refusal(records[0])  # its keys are those of most files
        if not plain or not self._known.issuperset(chain.from_iterable(records)):
            for record, number in zip(records, numbers, strict=True):
                self.add(record, number)
            return
        self._rows.extend(records)
        self._numbers.extend(numbers)
        if len(self._rows) >= _BLOCK_ROWS:
            self._flush()

    def _refusal(self, record: Any) -> str:
        if not isinstance(record, Mapping):
            return f"{_show(record, 60)} is {_article(_kind(record))}, not an object with columns"
        if not record:
            return "it is an object without any columns"
        for key in record:
            if key in self._known:
                continue
            if not isinstance(key, str):
                return f"its key {shorten(repr(key))} is not text"
            if not is_unicode(key):
                return f"its key {shorten(ascii(key))} is not valid Unicode"
            self._known.add(key)
            if self._wanted is None or key in self._wanted:
                self._chunks[key], self._tally[key] = [], Counter()
        if len(self._chunks) > MAX_COLUMNS:
            hint = "Each row should be an object with the same few keys."
            raise DataError(f"The rows have more than {MAX_COLUMNS:,} different columns.", hint=hint)
        return ""

    def _flush(self) -> None:
        for key, chunks in self._chunks.items():
            values = [row.get(key) for row in self._rows]
            chunk = _to_chunk(values, self._total)
            if chunk.kind:
                self._tally[key][chunk.kind] += len(values)
            else:
                self._tally[key].update(_kind(value) for value in values if value is not None)
            chunks.append(chunk)
        self._total += len(self._rows)
        self._number_blocks.append(np.array(self._numbers, np.int64))
        self._rows, self._numbers = [], []

    def finish(self, name: str, unit: str) -> Piece:
        """The table of all good rows, with their places."""
        self._flush()
        number_N = np.concatenate(self._number_blocks)
        reasons: dict[int, str] = {}
        columns: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
        for key, chunks in self._chunks.items():
            kind = _prevailing(self._tally[key])
            arrays = [_convert(chunk, kind, reasons, key) for chunk in _padded(chunks, self._total)]
            kind_of_arrow = _arrow_type(kind)
            metadata = JSON_FIELD if kind == "object" else None
            columns[key] = (pa.field(key, kind_of_arrow, metadata=metadata), pa.chunked_array(arrays, kind_of_arrow))
        bad = self.bad + [(int(number_N[index]), reason, "") for index, reason in reasons.items()]
        bad.sort(key=lambda one: one[0])
        skipped = tuple(SkippedRow(f"{name}, {unit} {number}", reason, hint) for number, reason, hint in bad)
        schema = pa.schema([one for one, _ in columns.values()])
        table = pa.Table.from_arrays([values for _, values in columns.values()], schema=schema)
        piece = Piece(table, Places.of_file(name, unit, number_N), skipped)
        if not reasons:
            return piece
        keep_N = np.ones(len(number_N), bool)
        keep_N[list(reasons)] = False
        return piece.take(np.flatnonzero(keep_N))


def records_piece(records: Iterable[object], name: str, unit: str, *, wanted: frozenset[str] | None = None) -> Piece:
    """Records numbered from 1 to a piece."""
    table = RecordTable(wanted)
    for number, record in enumerate(records, 1):
        table.add(record, number)
    return table.finish(name, unit)


def _padded(chunks: list[_Chunk], total: int) -> list[_Chunk]:
    """The chunks of a column, with nulls for the rows before its first appearance."""
    start = chunks[0].start if chunks else total
    return [_Chunk("null", [None] * start, 0), *chunks] if start else chunks


def _kind(value: Any) -> str:
    kind = _SCALARS.get(type(value))
    if kind:
        return kind
    if isinstance(value, (list, tuple)):
        if not value:
            return "empty list"
        inner = {_SCALARS.get(type(item), "object") for item in value if item is not None}
        gaps = _GAPS if any(item is None for item in value) else ""
        if not inner:
            return f"{gaps}empty list"
        if inner == {"integer", "number"}:
            return f"{gaps}list of number"
        return f"{gaps}list of {inner.pop()}" if len(inner) == 1 and "object" not in inner else "object"
    return "object"


def _uniform_kind(values: list[Any]) -> str:
    """The kind of all values that are not None, found without looking at each; empty if that is not enough to tell."""
    types = set(map(type, values)) - {type(None)}
    if not types:
        return "null"
    if len(types) == 1:
        only = types.pop()
        if only in _SCALARS:
            return _SCALARS[only]
        if only is list:
            inner = set(map(type, chain.from_iterable(value for value in values if value is not None)))
            if not inner:
                return "empty list"
            if len(inner) == 1 and (item := inner.pop()) in _SCALARS:
                return f"list of {_SCALARS[item]}"
    return ""


def _to_chunk(values: list[object], start: int) -> _Chunk:
    kind = _uniform_kind(values)
    if kind in {"", "null", "empty list"}:
        return _Chunk(kind, values, start)
    try:
        return _Chunk(kind, pa.array(values, _arrow_type(kind)), start)
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
        return _Chunk("", values, start)


def _prevailing(tally: Counter[str]) -> str:
    """The kind of a column: integers join numbers, empty lists join lists, null joins everything."""
    counts: Counter[str] = Counter()
    for kind, num in tally.items():
        counts["object" if kind.startswith(_GAPS) else kind] += num
    counts.pop("null", None)
    for prefix in ("", "list of "):
        if counts[f"{prefix}integer"] and counts[f"{prefix}number"]:
            counts[f"{prefix}number"] += counts.pop(f"{prefix}integer")
    empty = counts.pop("empty list", 0)
    lists = [kind for kind in counts if kind.startswith("list of ") and counts[kind]]
    if empty and lists:
        counts[max(lists, key=counts.__getitem__)] += empty
    elif empty:
        counts["object" if counts["object"] else "empty list"] += empty
    return max(counts, key=counts.__getitem__) if +counts else "null"


def _arrow_type(kind: str) -> pa.DataType:
    if kind == "null":
        return pa.null()
    if kind == "empty list":
        return pa.large_list(pa.null())
    if kind.startswith("list of "):
        return pa.large_list(_ARROW[kind.removeprefix("list of ")])
    return _ARROW.get(kind, pa.large_string())


def _convert(chunk: _Chunk, kind: str, reasons: dict[int, str], column: str) -> pa.Array:
    """The chunk as the column's Arrow type; values that do not fit become null and are noted in `reasons` by row."""
    wanted = _arrow_type(kind)
    if isinstance(chunk.values, pa.Array):
        if chunk.kind == kind:
            return chunk.values
        values: list[object] = chunk.values.to_pylist()
    else:
        values = chunk.values
    convert = _converter(kind)
    result: list[object] = []
    for index, value in enumerate(values):
        try:
            result.append(None if value is None else convert(value))
        except _Misfit as misfit:
            result.append(None)
            reasons.setdefault(chunk.start + index, f"column {column!r} {misfit}")
    return pa.array(result, wanted)


class _Misfit(Exception):
    """Why a value does not fit its column."""


def _converter(kind: str) -> Callable[[object], object]:
    if kind == "object":
        return _json
    if kind.startswith("list of ") or kind == "empty list":
        inner = kind.removeprefix("list of ")

        def convert_list(value: Any) -> list[Any]:
            own = _kind(value).removeprefix(_GAPS)
            if own != "empty list" and own != kind and not (own == "list of integer" and inner == "number"):
                raise _Misfit(_other_kind(value, own, kind))
            return [None if item is None else _scalar(item, inner) for item in value]

        return convert_list

    def convert(value: Any) -> Any:
        own = _kind(value)
        if own != kind and not (own == "integer" and kind == "number"):
            raise _Misfit(_other_kind(value, own, kind))
        return _scalar(value, kind)

    return convert


def _scalar(value: Any, kind: str) -> Any:
    if kind == "integer" and not -_MAX_INT <= value < _MAX_INT:
        raise _Misfit(f"holds an integer of more than 64 bits, {_show(value, 30)}")
    if kind == "number":
        try:
            return float(value)
        except OverflowError:
            raise _Misfit(f"holds a number that is too large, {_show(value, 30)}") from None
    if kind == "text" and not is_unicode(value):
        raise _Misfit(f"holds text that is not valid Unicode (half of a surrogate pair), {shorten(ascii(value), 40)}")
    return value


def _other_kind(value: object, own: str, kind: str) -> str:
    return f"holds {_article(own)}, {_show(value, 40)}, where most rows hold {_PLURAL.get(kind, kind)}"


def _article(kind: str) -> str:
    kind = "object" if kind.startswith(_GAPS) else kind
    if kind in {"text", "true/false"}:
        return {"text": "text", "true/false": "a true/false value"}[kind]
    if kind.startswith("list of "):
        return _PLURAL[kind].replace("lists", "a list", 1)
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _json(value: Any) -> str:
    """JSON text (escaped where it would not be valid Unicode); other values are written as Python shows them."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
        return text if is_unicode(text) else json.dumps(value, default=repr)
    except RecursionError:
        raise _Misfit("is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise _Misfit(f"cannot be written as JSON: {error}") from None


def json_texts(cells: pa.ChunkedArray) -> pa.Array:
    """Cells of any type as JSON text, as a column of objects has them; dates and the like as they are usually
    written."""
    values = cells.to_pylist()
    return pa.array([None if one is None else json.dumps(one, default=str) for one in values], pa.large_string())


def _show(value: object, width: int) -> str:
    """A value for a message."""
    try:
        return shorten(_json(value), width)
    except _Misfit as misfit:
        return f"which {misfit}"


def plain_value(value: Any) -> Any:
    """NumPy and Arrow values of a Python source as plain Python values, dates and times as text."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, date | time):
        return str(value) if value == value else None  # NaT of pandas is a date, too
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, list)):
        return list(value)
    return value


def describe_keys(records: Mapping[str, object]) -> str:
    """The first keys of an object, for a message."""
    return listing((shorten(key, 20) for key in records), 5)
