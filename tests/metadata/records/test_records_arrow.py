"""Entries in Arrow's own types, as parquet and Arrow files have them, are those that JSON would give."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest
from kits.errors import refused
from kits.records import Row, listed, read

from textune.config.sources import GivenSource
from textune.data.reading.rows import Rows
from textune.data.reading.sources import read_source
from textune.errors import DataError

TEXT = "An apple is an edible fruit."
ENTRIES: list[list[Row] | None] = [
    [
        {"key": "html", "type": "local", "value": "b", "char_start_idx": 3, "char_end_idx": 8}
        | {"relative_start_pos": 0, "relative_end_pos": 0}
        | {"html_attrs": {"attrs": ["class", "id"], "values": ["x", None]}},
        {"key": "url", "type": "global", "value": "http://a.b"},
        {"key": "mood", "type": "global", "value": None},
    ],
    None,
    [],
    [{"key": "url", "type": "global", "value": "é🙂"}],
]
TYPES = ("html", "url")


def entry_type(**changes: pa.DataType) -> pa.StructType:
    """The type of an entry, with some of its fields changed; a field of type None is left out."""
    attributes = pa.struct([("attrs", pa.list_(pa.string())), ("values", pa.list_(pa.string()))])
    fields = dict.fromkeys(("key", "type", "value"), pa.string())
    fields |= dict.fromkeys(("char_start_idx", "char_end_idx", "relative_start_pos", "relative_end_pos"), pa.int64())
    fields |= {"html_attrs": attributes} | changes
    return pa.struct([(name, kind) for name, kind in fields.items() if kind is not None])


def rows_of(column: pa.Array | pa.ChunkedArray, name: str = "metadata") -> Rows:
    table = pa.table({"text": pa.array([TEXT] * len(column)), name: column})
    return read_source(GivenSource(name="rows"), given={"rows": table})


def entries_as(kind: pa.DataType) -> pa.Array:
    return pa.array(ENTRIES, kind)


NUMBERS = ("char_start_idx", "char_end_idx", "relative_start_pos", "relative_end_pos")
COLUMNS: dict[str, pa.Array | pa.ChunkedArray] = {
    "list": entries_as(pa.list_(entry_type())),
    "large list": entries_as(pa.large_list(entry_type())),
    "list view": entries_as(pa.list_view(entry_type())),
    "small numbers": entries_as(pa.list_(entry_type(**dict.fromkeys(NUMBERS, pa.int8())))),
    "unsigned numbers": entries_as(pa.list_(entry_type(**dict.fromkeys(NUMBERS, pa.uint64())))),
    "numbers with a point": entries_as(pa.list_(entry_type(**dict.fromkeys(NUMBERS, pa.float64())))),
    "large text": entries_as(pa.list_(entry_type(key=pa.large_string(), value=pa.large_string()))),
    "text views": entries_as(pa.list_(entry_type(key=pa.string_view(), value=pa.string_view()))),
    "codes": entries_as(pa.list_(entry_type(key=pa.dictionary(pa.int8(), pa.string())))),
    "chunks": pa.chunked_array([entries_as(pa.list_(entry_type()))[:1], entries_as(pa.list_(entry_type()))[1:]]),
    "a slice": pa.concat_arrays([entries_as(pa.list_(entry_type()))] * 2)[4:],
    "json": pa.array([None if one is None else json.dumps(one) for one in ENTRIES]),
    "json twice": pa.array([None if one is None else json.dumps(json.dumps(one)) for one in ENTRIES]),
    "json in codes": pa.array([None if one is None else json.dumps(one) for one in ENTRIES]).dictionary_encode(),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_form_of_a_column_holds_the_same_entries(name: str) -> None:
    result = read(rows_of(COLUMNS[name]), TYPES)
    assert listed(result.documents) == [
        ("html", "b", 0, 3, 8, 0, 0, (("class", "x"), ("id", ""))),
        ("url", "http://a.b", 0, -1, -1, -1, -1, ()),
        ("url", "é🙂", 3, -1, -1, -1, -1, ()),
    ]
    assert result.not_named == {"mood": 1}


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([6], pa.int32(), "6"),
        ([2.5], pa.float32(), "2.5"),
        ([True], pa.bool_(), "true"),
        ([decimal.Decimal("1.50")], pa.decimal128(5, 2), "1.50"),
        ([datetime.datetime(2018, 12, 10, 13, 45)], pa.timestamp("us"), "2018-12-10 13:45:00"),
        ([datetime.date(2018, 12, 10)], pa.date32(), "2018-12-10"),
    ],
)
def test_values_of_other_types_are_text_by_rule(values: list[Any], kind: pa.DataType, expected: str) -> None:
    column = pa.array([[{"type": "global", "value": value}] for value in values], pa.list_(entry_type(value=kind)))
    assert read(rows_of(column, "metadata_url"), ("url",)).documents.entries.value == [expected]


WRONG: dict[str, tuple[pa.Array, str]] = {
    "null entries": (pa.array([[None]], pa.list_(entry_type())), "metadata[0]"),
    "an object": (pa.array([{"key": "url"}]), "metadata"),
    "numbers": (pa.array([3]), "metadata"),
    "a list of text": (pa.array([["url"]]), "metadata[0]"),
    "a list of lists": (pa.array([[["url"]]]), "metadata[0]"),
    "a list of nulls": (pa.array([[None]], pa.list_(pa.null())), "metadata[0]"),
    "bytes": (pa.array([b"[]"]), "metadata"),
    "a map": (pa.array([[[("key", "url")]]], pa.list_(pa.map_(pa.string(), pa.string()))), "metadata[0]"),
    "no json": (pa.array(["[{]"]), "metadata"),
    "too deep": (pa.array(["[" * 100_000]), "metadata"),
    "bytes as value": (
        pa.array([[{"key": "url", "type": "global", "value": b"\xff"}]], pa.list_(entry_type(value=pa.binary()))),
        "metadata[0].value",
    ),
    "no value at all": (
        pa.array([[{"key": "url", "type": "global"}]], pa.list_(entry_type(value=None))),
        "metadata[0].value",
    ),
    "two fields called value": (
        pa.ListArray.from_arrays(
            pa.array([0, 1], pa.int32()),
            pa.StructArray.from_arrays(
                [pa.array(["url"]), pa.array(["global"]), pa.array(["a"]), pa.array(["b"])],
                names=["key", "type", "value", "value"],
            ),
        ),
        "metadata[0].value",
    ),
    "attributes without values": (
        pa.array(
            [[ENTRIES[0][0] | {"html_attrs": {"attrs": ["id"], "values": []}}]],  # type: ignore[index]
            pa.list_(entry_type()),
        ),
        "metadata[0].html_attrs",
    ),
    "text as place": (
        pa.array(
            [[{"key": "html", "type": "local", "value": "b", "char_start_idx": "0"}]],
            pa.list_(entry_type(char_start_idx=pa.string())),
        ),
        "metadata[0].char_start_idx",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_column_of_anything_else_is_named(name: str) -> None:
    column, field = WRONG[name]
    with refused(DataError, key=field, place="rows, row 1"):
        read(rows_of(column), TYPES)


def test_columns_of_nothing_are_no_metadata() -> None:
    for column in (pa.nulls(2), pa.array([[], None], pa.list_(pa.null())), pa.array([None, "null"])):
        assert len(read(rows_of(column), TYPES).documents.entries) == 0


def test_a_null_entry_among_others_of_packed_types() -> None:
    kind = pa.list_(entry_type(key=pa.dictionary(pa.int8(), pa.string()), value=pa.string_view()))
    column = pa.array([[ENTRIES[0][1], None], [None, ENTRIES[3][0]]], kind)  # type: ignore[index]
    result = read(rows_of(column), TYPES, on_bad_metadata="report")
    assert [entry[:3] for entry in listed(result.documents)] == [("url", "http://a.b", 0), ("url", "é🙂", 1)]
    assert result.bad.counts == {"shape": 2}
