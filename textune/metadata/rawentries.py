"""Entries of metadata as records have them, in flat columns: from JSON text or from Arrow's lists of objects.

The first step of `records.py`. Only the shape is judged here: a cell is a list of objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.data import flat, is_list, is_text
from textune.jsontext import parse_json

MISSING = int(np.iinfo(np.int64).min)
"""Where an entry has no such number."""
NOT_WHOLE = MISSING + 1
"""Where it has something else than a whole number of 64 bits."""

START, END, START_ORDER, END_ORDER = "char_start_idx", "char_end_idx", "relative_start_pos", "relative_end_pos"
NUMBERS = (START, END, START_ORDER, END_ORDER)
KEY, SCOPE, VALUE, ATTRIBUTES = "key", "type", "value", "html_attrs"
OBJECTS = (KEY, SCOPE, VALUE, ATTRIBUTES)

_Field: TypeAlias = "pa.Array | list[object] | None"
"""One key of all entries; None where no entry has it."""


@dataclass(frozen=True, eq=False)
class RawEntries:
    """E entries in the order of rows, then of the table's columns, then of their lists."""

    columns: tuple[str, ...]
    """Columns of the table that they come from."""
    column: np.ndarray
    """int64 [E] index into `columns`."""
    document: np.ndarray
    """int64 [E] row of the table."""
    index: np.ndarray
    """int64 [E] place in the list of the cell, from 0."""
    objects: dict[str, np.ndarray]
    """object [E] for each of OBJECTS: as the record has it, None where it does not."""
    numbers: dict[str, np.ndarray]
    """int64 [E] for each of NUMBERS, or MISSING, or NOT_WHOLE."""

    def __len__(self) -> int:
        return len(self.document)

    def take(self, chosen: np.ndarray) -> RawEntries:
        """The entries chosen, in that order; int64 [M] or bool [E]."""
        return RawEntries(
            self.columns,
            self.column[chosen],
            self.document[chosen],
            self.index[chosen],
            {name: values[chosen] for name, values in self.objects.items()},
            {name: values[chosen] for name, values in self.numbers.items()},
        )

    def unread(self, table: pa.Table, entry: int, key: str) -> object:
        """What the record itself has under a key of an entry, for messages."""
        cells = table.column(self.columns[self.column[entry]])
        value: object = _value_of(cells[int(self.document[entry])].as_py())[int(self.index[entry])].get(key)
        return value


@dataclass(frozen=True)
class Misshapen:
    """A cell that is no list, or an entry of one that is no object."""

    document: int
    field: str
    """Such as `metadata` or `metadata[2]`."""
    value: object
    reason: str


def raw_entries(table: pa.Table, chosen: dict[str, np.ndarray]) -> tuple[RawEntries, list[Misshapen]]:
    """The entries in some columns of a table, each in the rows chosen for it (bool [N])."""
    misshapen: list[Misshapen] = []
    none = np.zeros(0, np.int64)
    joined = RawEntries(
        tuple(chosen),
        none,
        none,
        none,
        {name: np.zeros(0, object) for name in OBJECTS},
        {name: none for name in NUMBERS},
    )
    found = [joined, *(_of_column(table, joined.columns, number, chosen, misshapen) for number in range(len(chosen)))]
    joined = RawEntries(
        joined.columns,
        np.concatenate([one.column for one in found]),
        np.concatenate([one.document for one in found]),
        np.concatenate([one.index for one in found]),
        {name: np.concatenate([one.objects[name] for one in found]) for name in OBJECTS},
        {name: np.concatenate([one.numbers[name] for one in found]) for name in NUMBERS},
    )
    if len(chosen) > 1:
        joined = joined.take(np.argsort(joined.document, kind="stable"))
    return joined, sorted(misshapen, key=lambda one: one.document)


def _of_column(
    table: pa.Table,
    names: tuple[str, ...],
    number: int,
    chosen: dict[str, np.ndarray],
    misshapen: list[Misshapen],
) -> RawEntries:
    name = names[number]
    array = flat(table.column(name))
    document_D = np.flatnonzero(chosen[name] & np.asarray(array.is_valid()))
    array = array.take(pa.array(document_D))
    entries: list[object] | pa.Array
    if is_list(array.type) and kinds.is_struct(array.type.value_type):
        length_D = np.asarray(pc.list_value_length(array)).astype(np.int64)
        entries = array.flatten()
        fields = {key: _of_structs(entries, key) for key in (*OBJECTS, *NUMBERS)}
        is_object_E = np.asarray(entries.is_valid())
    else:
        lists = _lists(array, document_D, name, misshapen)
        length_D = np.fromiter(map(len, lists), np.int64, len(lists))
        entries = [entry for one in lists for entry in one]
        is_object_E = np.fromiter((isinstance(entry, dict) for entry in entries), bool, len(entries))
        objects = [entry if isinstance(entry, dict) else {} for entry in entries]
        fields = {key: [one.get(key) for one in objects] for key in (*OBJECTS, *NUMBERS)}
    raw = RawEntries(
        names,
        np.full(len(entries), number),
        np.repeat(document_D, length_D),
        np.arange(len(entries)) - np.repeat(np.cumsum(length_D) - length_D, length_D),
        {key: _as_objects(fields[key], len(entries)) for key in OBJECTS},
        {key: _as_whole_numbers(fields[key], len(entries)) for key in NUMBERS},
    )
    for entry in np.flatnonzero(~is_object_E).tolist():
        value = entries[entry] if isinstance(entries, list) else None
        field = f"{name}[{raw.index[entry]}]"
        misshapen.append(Misshapen(int(raw.document[entry]), field, value, "it is not an object with key and value"))
    return raw if is_object_E.all() else raw.take(is_object_E)


def _lists(array: pa.Array, document_D: np.ndarray, name: str, misshapen: list[Misshapen]) -> list[list[object]]:
    """The cells as lists, empty where one is none; text is read as JSON."""
    lists: list[list[object]] = []
    for document, cell in zip(document_D.tolist(), array.to_pylist(), strict=True):
        try:
            value, reason = _value_of(cell), "it is not a list of entries"
        except ValueError as error:
            value, reason = cell, f"it is text that is not JSON ({error})"
        if isinstance(value, list):
            lists.append(value)
            continue
        if value is not None:
            misshapen.append(Misshapen(document, name, cell, reason))
        lists.append([])
    return lists


def _value_of(cell: Any) -> Any:
    """What a cell holds; text is JSON, and a column that also has other cells holds their JSON as JSON. ValueError for
    text that is not JSON."""
    for _ in range(2):
        cell = parse_json(cell) if isinstance(cell, str) else cell
    return cell


def _of_structs(structs: pa.StructArray, key: str) -> pa.Array | None:
    place = structs.type.get_field_index(key)  # -1 also where two fields have the name
    if place < 0:
        return None
    # Not `flatten`: only `field` with the parent's validity gives null for an object that is null.
    return structs.field(place) if not structs.null_count else pc.struct_field(structs, place)


def _as_objects(field: _Field, num: int) -> np.ndarray:
    """object [E]."""
    if field is None:
        return np.full(num, None)
    if isinstance(field, pa.Array):
        if is_text(field.type):
            return np.asarray(field.cast(pa.large_string()).to_numpy(zero_copy_only=False), object)
        field = field.to_pylist()
    return np.fromiter(field, object, num)


def _as_whole_numbers(field: _Field, num: int) -> np.ndarray:
    """int64 [E], MISSING where there is none, NOT_WHOLE where it is something else."""
    if field is None:
        return np.full(num, MISSING)
    if isinstance(field, pa.Array):
        if kinds.is_integer(field.type) and field.type != pa.uint64():
            number_E = np.asarray(pc.fill_null(field.cast(pa.int64()), MISSING), np.int64)
            if (number_E > NOT_WHOLE).sum() == num - field.null_count:
                return number_E
        field = field.to_pylist()
    elif set(map(type, field)) == {int} and min(field) > NOT_WHOLE and max(field) < -MISSING:
        return np.fromiter(field, np.int64, num)
    return np.fromiter(map(_whole_number, field), np.int64, num)


def _whole_number(value: object) -> int:
    """A whole number, also one that a table of numbers with gaps holds with decimals."""
    if value is None:
        return MISSING
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not NOT_WHOLE < value < -MISSING:
        return NOT_WHOLE
    return value
