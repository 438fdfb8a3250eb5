"""Entries of metadata as records have them, in flat columns: from JSON text or from Arrow's lists of objects.

The first step of `read.py`. Only the shape is judged here: a cell is a list of objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
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
    """object [E] for each of OBJECTS: as the record has it, None where it does not; attributes as a tuple of pairs
    wherever they have the shape for it."""
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
    has_objects = is_list(array.type) and kinds.is_struct(array.type.value_type)
    read = _of_objects if has_objects else _of_values
    document_E, index_E, fields = read(array, document_D, name, misshapen)
    return RawEntries(
        names,
        np.full(len(index_E), number),
        document_E,
        index_E,
        {key: _as_objects(fields[key], len(index_E)) for key in OBJECTS},
        {key: _as_whole_numbers(fields[key], len(index_E)) for key in NUMBERS},
    )


_Read = tuple[np.ndarray, np.ndarray, dict[str, _Field]]
"""Document and place of each object, int64 [E], and the fields of all of them."""


def _of_objects(array: pa.Array, document_D: np.ndarray, name: str, misshapen: list[Misshapen]) -> _Read:
    """From lists of objects in Arrow's own form."""
    length_D = np.asarray(pc.list_value_length(array)).astype(np.int64)
    objects = array.flatten()
    document_E = np.repeat(document_D, length_D)
    index_E = np.arange(len(objects)) - np.repeat(np.cumsum(length_D) - length_D, length_D)
    if objects.null_count:
        is_object_E = np.asarray(objects.is_valid())
        for entry in np.flatnonzero(~is_object_E).tolist():
            misshapen.append(_no_object(int(document_E[entry]), name, int(index_E[entry]), None))
        objects = objects.filter(pa.array(is_object_E))
        document_E, index_E = document_E[is_object_E], index_E[is_object_E]
    fields = {key: _of_structs(objects, key) for key in (*OBJECTS, *NUMBERS)}
    if (attributes := fields[ATTRIBUTES]) is not None:
        fields[ATTRIBUTES] = _pairs_of(attributes) or list(map(paired, attributes.to_pylist()))
    return document_E, index_E, fields


def _of_values(array: pa.Array, document_D: np.ndarray, name: str, misshapen: list[Misshapen]) -> _Read:
    """From anything else: text is read as JSON.

    Row by row, so that few objects are alive at once: many would be walked through by Python's garbage collector.
    """
    fields: dict[str, list[object]] = {key: [] for key in (*OBJECTS, *NUMBERS)}
    length_D = np.zeros(len(document_D), np.int64)
    index: list[int] = []
    for number, (document, cell) in enumerate(zip(document_D.tolist(), array.to_pylist(), strict=True)):
        entries = _list_of(cell, document, name, misshapen)
        objects = [entry for entry in entries if isinstance(entry, dict)]
        length_D[number] = len(objects)
        if len(objects) == len(entries):
            index += range(len(entries))
        else:
            for place, entry in enumerate(entries):
                if isinstance(entry, dict):
                    index.append(place)
                else:
                    misshapen.append(_no_object(document, name, place, entry))
        for key, values in fields.items():
            found = [entry.get(key) for entry in objects]
            values += found if key != ATTRIBUTES else map(paired, found)
    return np.repeat(document_D, length_D), np.array(index, np.int64), dict(fields)


def _no_object(document: int, name: str, index: int, value: object) -> Misshapen:
    return Misshapen(document, f"{name}[{index}]", value, "it is not an object with key and value")


def _list_of(cell: object, document: int, name: str, misshapen: list[Misshapen]) -> list[object]:
    """The entries of a cell, none where it is no list."""
    try:
        value, reason = _value_of(cell), "it is not a list of entries"
    except ValueError as error:
        value, reason = cell, f"it is text that is not JSON ({error})"
    if isinstance(value, list):
        return value
    if value is not None:
        misshapen.append(Misshapen(document, name, cell, reason))
    return []


def paired(attributes: object) -> object:
    """Names and values of a tag's attributes as a tuple of pairs; anything that is not two lists of equal length is
    left as it is."""
    if not isinstance(attributes, dict):
        return attributes
    names, values = ([] if (one := attributes.get(key)) is None else one for key in ("attrs", "values"))
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return attributes
    return tuple(zip(names, values, strict=True))


def _pairs_of(attributes: pa.Array) -> list[object] | None:
    """As `paired` of each, for lists of text in Arrow's own form; None for any other form, and for lists that do not
    fit."""
    if not kinds.is_struct(attributes.type):
        return None
    found = [_of_structs(attributes, key) for key in ("attrs", "values")]
    lists = [one for one in found if one is not None and is_list(one.type) and is_text(one.type.value_type)]
    if len(lists) < 2:
        return None
    length_2E = [np.asarray(pc.fill_null(pc.list_value_length(one), 0)).astype(np.int64) for one in lists]
    if not (length_2E[0] == length_2E[1]).all():
        return None
    pairs = list(zip(*(one.flatten().to_pylist() for one in lists), strict=True))
    bounds = pairwise([0, *np.cumsum(length_2E[0]).tolist()])
    is_there = attributes.is_valid().to_pylist()
    return [tuple(pairs[a:b]) if there else None for (a, b), there in zip(bounds, is_there, strict=True)]


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
