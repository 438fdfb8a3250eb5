"""The fingerprint depends on the content and on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kits.rows import read, rows_of

from textune.data.reading.fingerprint import fingerprint_table

_COLUMNS: dict[str, Any] = {
    "text": pa.array(["a", None, "", "déjà", "x" * 50]),
    "number": pa.array([1, 2, None, 4, -5]),
    "float": pa.array([0.5, None, float("nan"), 1.0, -2.0]),
    "flag": pa.array([True, False, None, True, True]),
    "list": pa.array([[1, 2], [], None, [3], [4, None]]),
    "nested": pa.array(
        [{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}, {"a": 4, "b": None}, {"a": 5, "b": ["y", "z"]}]
    ),
    "bytes": pa.array([b"\xff", b"", None, b"ab", b"c"]),
    "kind": pa.array(["u", "v", "u", None, "u"]).dictionary_encode(),
}


def test_chunks_slices_and_storage_do_not_matter() -> None:
    table = pa.table(_COLUMNS)
    expected = fingerprint_table(table)
    assert fingerprint_table(pa.concat_tables([table.slice(0, 1), table.slice(1, 3), table.slice(4)])) == expected
    padded = pa.concat_tables([table, table, table])
    assert fingerprint_table(padded.slice(5, 5)) == expected
    assert fingerprint_table(table.select(sorted(table.column_names, reverse=True))) == expected
    stored = table.set_column(0, "text", table["text"].cast(pa.large_string())).set_column(
        1, "number", table["number"].cast(pa.int8())
    )
    plain = stored.set_column(7, "kind", table["kind"].cast(pa.string()))
    assert fingerprint_table(plain) == expected


@pytest.mark.parametrize("name", sorted(_COLUMNS))
def test_every_value_matters(name: str) -> None:
    table = pa.table(_COLUMNS)
    place = table.column_names.index(name)
    expected = fingerprint_table(table)
    reordered = table.set_column(place, name, table[name].take(pa.array([1, 0, 2, 3, 4])))
    assert fingerprint_table(reordered) != expected
    assert (
        fingerprint_table(table.rename_columns([f"{one}!" if one == name else one for one in table.column_names]))
        != expected
    )


def test_bytes_cannot_slip_from_one_cell_to_the_next() -> None:
    assert rows_of({"text": ["ab", "c"]}).fingerprint != rows_of({"text": ["a", "bc"]}).fingerprint
    assert rows_of({"text": ["a", None]}).fingerprint != rows_of({"text": ["a", ""]}).fingerprint
    assert rows_of({"a": ["x"], "b": ["y"]}).fingerprint != rows_of({"a": ["y"], "b": ["x"]}).fingerprint


def test_known_value() -> None:
    """The hash is part of cache keys and manifests: a change of it must be meant."""
    assert rows_of({"text": ["good", "bad"], "label": [1, 0]}).fingerprint == "2fed1290f2bf90a0435ea2d47af33bd3"


def test_paths_and_formats_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = read(tmp_path / "a.csv", "text,label\nx,1\ny,2\n")
    second = read(tmp_path / "other" / "b.tsv", "label\ttext\r\n1\tx\r\n2\ty\r\n")
    assert first.fingerprint == second.fingerprint
    assert read(tmp_path / "c.csv", "text,label\nx,1\ny,3\n").fingerprint != first.fingerprint
