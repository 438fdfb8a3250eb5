"""Decides the columns of JSON rows and their Parquet types without changing a value; between `windows.py` and
`writer.py`.

A type only widens: from nothing to anything, from integers to numbers, from an object to one with more keys. If that
would change a value (a large integer among decimals) or is impossible (text among integers), the row is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from textune.jsontext import is_unicode
from textune.wording import shorten

MAX_DEPTH = 64
"""Nested lists and objects: far more levels than data has, far fewer than what breaks a reader."""
_INT64, _UINT64 = 2**63, 2**64
_EXACT = 2**53
"""Integers up to this one are exact in double precision."""

_KINDS = {bool: "true/false", int: "integer", float: "number", str: "text", list: "list", dict: "object"}
_ARROW = {"null": pa.null(), "true/false": pa.bool_(), "number": pa.float64(), "text": pa.string()}
_PLURAL = {"integer": "integers", "number": "numbers", "list": "lists", "object": "objects"}

Where = Callable[[], str]
"""The place of a row, for messages."""


class Misfit(Exception):
    """Why a value does not fit its column; `path` leads to it from the column on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"{', '.join(reversed(self.path))} {self.reason}".strip()


class Unwritable(Exception):
    """A type that Parquet does not have, with the place of the first row that needs it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason


class _Type:
    """What all values of one column (or key, or list) have in common so far."""

    __slots__ = ("first", "high", "items", "keys", "kind", "large", "low")

    def __init__(self) -> None:
        self.kind = "null"
        self.low = self.high = 0
        self.large: int | None = None
        """The first integer that a number with decimals may not hold exactly."""
        self.items: _Type | None = None
        self.keys: dict[str, _Type] = {}
        self.first: Where = str
        """The first row with a value."""

    def take(self, value: Any, where: Where, *, fixed: bool, depth: int = 0) -> None:
        """Widen to include the value, unless the type is `fixed`; Misfit where that is impossible."""
        if value is None:
            return
        kind = _KINDS.get(type(value), "")
        if kind != self.kind:
            self._widen(value, kind, where, fixed=fixed)
        if kind == "integer":
            self._take_integer(value, fixed=fixed)
        elif kind == "text":
            if not value.isascii():
                _require_unicode(value)
        elif kind in {"list", "object"}:
            if depth == MAX_DEPTH:
                raise Misfit(f"is nested more than {MAX_DEPTH} levels deep")
            inner = enumerate(value) if kind == "list" else value.items()
            for key, item in inner:
                self._inner(key, where, fixed=fixed).take_inside(key, item, where, fixed=fixed, depth=depth + 1)

    def take_inside(self, key: str | int, value: object, where: Where, *, fixed: bool, depth: int) -> None:
        """`take` for a value inside a list or object."""
        try:
            self.take(value, where, fixed=fixed, depth=depth)
        except Misfit as misfit:
            misfit.path.append(f"item {key + 1}" if isinstance(key, int) else f"key {_name(key)}")
            raise

    def _widen(self, value: object, kind: str, where: Where, *, fixed: bool) -> None:
        if not kind:
            raise Misfit(f"holds a value of type {type(value).__name__}")
        shown = shorten(ascii(value)[1:-1] if isinstance(value, str) else value, 40)
        if self.kind == "null" and not fixed:
            self.kind, self.first = kind, where
        elif self.kind == "null":
            raise Misfit(f"holds {shown}, where all rows before it have no value")
        elif (self.kind, kind) == ("integer", "number") and not fixed:
            if self.large is not None:
                raise Misfit(
                    f"holds {shown}, and a row before holds {self.large}: no type of numbers holds both exactly"
                )
            self.kind = "number"
        elif (self.kind, kind) != ("number", "integer"):
            raise Misfit(f"holds {shown}, where the rows before hold {_PLURAL.get(self.kind, self.kind)}")

    def _take_integer(self, value: int, *, fixed: bool) -> None:
        if abs(value) > _EXACT:
            if self.kind == "number":
                raise Misfit(
                    f"holds {value}, which the type of the rows before (numbers with decimals) cannot hold exactly"
                )
            self.large = self.large if self.large is not None else value
        if self.kind != "integer" or self.low <= value <= self.high:
            return
        was = self._integer_type()
        self.low, self.high = min(self.low, value), max(self.high, value)
        now = self._integer_type()
        if now is None:
            together = "" if self.low == 0 or self.high == 0 else " together with those of the rows before"
            raise Misfit(f"holds {shorten(value, 30)}, which 64 bits cannot hold{together}")
        if fixed and now != was:
            raise Misfit(f"holds {value}, which the type of the rows before ({was}) cannot hold")

    def _integer_type(self) -> pa.DataType | None:
        if self.high < _INT64:
            return pa.int64() if self.low >= -_INT64 else None
        return pa.uint64() if self.low >= 0 and self.high < _UINT64 else None

    def _inner(self, key: str | int, where: Where, *, fixed: bool) -> _Type:
        """The type under a key, or of all items of a list."""
        if isinstance(key, int):
            self.items = self.items or _Type()
            return self.items
        if key not in self.keys:
            if fixed:
                raise Misfit(f"has the key {_name(key)}, which no object before has")
            _require_unicode(key)
            self.keys[key] = _Type()
        return self.keys[key]

    def arrow(self) -> pa.DataType:
        """The type as it is written."""
        if self.kind == "integer":
            return self._integer_type()
        if self.kind == "list":
            return pa.list_(pa.null() if self.items is None else self.items.arrow())
        if self.kind == "object":
            if not self.keys:
                raise Unwritable(self.first(), "it holds an object without keys, {}")
            return pa.struct([(key, inner.arrow()) for key, inner in self.keys.items()])
        return _ARROW[self.kind]


class RowTypes:
    """The columns of rows, in the order in which they first appear, and what their values have in common."""

    def __init__(self) -> None:
        self._columns: dict[str, _Type] = {}

    @property
    def names(self) -> list[str]:
        """The columns so far."""
        return list(self._columns)

    def take(self, row: Mapping[str, object], where: Where, *, fixed: bool = False) -> None:
        """Widen the types for a row; Misfit where that would change a value, or any type if they are `fixed`."""
        for name, value in row.items():
            column = self._columns.get(name)
            if column is None:
                if fixed:
                    raise Misfit(f"the key {_name(name)} is not among the columns, which the rows before gave")
                _require_unicode(name)
                column = self._columns[name] = _Type()
            try:
                column.take(value, where, fixed=fixed)
            except Misfit as misfit:
                misfit.path.append(f"column {_name(name)}")
                raise

    def schema(self) -> pa.Schema:
        """The columns with their types; `Unwritable` where Parquet has no such type."""
        return pa.schema([(name, column.arrow()) for name, column in self._columns.items()])


def columns_of(rows: Sequence[Mapping[str, object]], schema: Iterable[pa.Field]) -> list[pa.Array | pa.ChunkedArray]:
    """The values of rows in the types of a schema that `RowTypes` made of them."""
    return [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]


def _require_unicode(text: str) -> None:
    if not is_unicode(text):
        raise Misfit(f"holds text that is not valid Unicode (half of a surrogate pair), {shorten(ascii(text), 40)}")


def _name(key: str) -> str:
    return shorten(ascii(key)[1:-1], 40)
