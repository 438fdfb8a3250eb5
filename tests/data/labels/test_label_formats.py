"""The same table of labels comes out of every format, or a sentence: training, evaluating and streams, every kind of
value."""

from __future__ import annotations

import csv
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.config.sources import Absent, Columns, DataSection, FilesSource, Labels, StreamSource
from textune.data.labels.map import LabelMap
from textune.data.prepare import prepare_data, prepare_held_out
from textune.errors import TextuneError

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow")
STREAMED = ("jsonl", "parquet")

_WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6) | st.sampled_from(
    [
        "true",
        "True",
        "no",
        "01",
        "1",
        "-1",
        "1.0",
        "0.5",
        "nan",
        "None",
        "[a]",
        "[1, 0]",
        "['x']",
        "a, b",
        "1,5",
        '"',
        "'",
        " x ",
    ]
)
_SCALARS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), _WORDS),
    "large text": (pa.large_string(), st.sampled_from(["neg", "pos", "neutral"])),
    "category": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["neg", "pos"])),
    "bytes": (pa.binary(), st.sampled_from([b"neg", b"pos"])),
    "int64": (pa.int64(), st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint64": (pa.uint64(), st.integers(0, 3) | st.integers(0, 2**63 - 1)),  # JSON refuses larger ones, by row
    "bool": (pa.bool_(), st.booleans()),
    "float": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "whole float": (pa.float64(), st.integers(-3, 3).map(float)),
    "float32": (pa.float32(), st.floats(-10, 10, width=32)),
    "decimal": (pa.decimal128(9, 2), st.integers(-500, 500).map(lambda number: Decimal(number) / 4)),
}


@st.composite
def _columns(draw: st.DrawFn) -> pa.Array:
    """Labels of one type, or lists of it; some are missing."""
    kind, values = _SCALARS[draw(st.sampled_from(sorted(_SCALARS)))]
    if draw(st.booleans()):
        values = draw(st.sampled_from([values, st.sampled_from(draw(st.lists(values, min_size=1, max_size=3)))]))
        return pa.array(
            draw(st.lists(st.none() | values if draw(st.booleans()) else values, min_size=2, max_size=12)), kind
        )
    size = draw(st.sampled_from([None, 2, 3]))
    lists = st.lists(values, max_size=4) if size is None else st.lists(values, min_size=size, max_size=size)
    return pa.array(draw(st.lists(lists, min_size=2, max_size=8)), pa.list_(kind))


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.decode() if isinstance(value, bytes) else value


def _write(folder: Path, label: pa.Array) -> None:
    texts = [f"text {index}" for index in range(len(label))]
    table = pa.table({"text": texts, "label": label})
    pq.write_table(table, folder / "d.parquet")
    with pa.OSFile(str(folder / "d.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    values = [_plain(value) for value in label.to_pylist()]
    if pa.types.is_float32(label.type):  # as NumPy and pandas write them: no more digits than they have
        values = [None if value is None else float(f"{value:.9g}") for value in values]
    records = [{"text": text, "label": value} for text, value in zip(texts, values, strict=True)]
    (folder / "d.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "d.json").write_text(json.dumps(records))
    for name, delimiter in (("d.csv", ","), ("d.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out, delimiter=delimiter, lineterminator="\n")
            rows.writerow(["text", "label"])
            rows.writerows(
                [text, "" if value is None else str(value)] for text, value in zip(texts, values, strict=True)
            )


def _source(folder: Path, name: str) -> FilesSource:
    return FilesSource(files=(str(folder / f"d.{name}"),), quoting="standard" if name in {"csv", "tsv"} else "auto")


def _named(label_map: LabelMap, texts: list[str], targets: Any) -> dict[str, Any]:
    """Each text with its label, by name."""
    names = [name.lower() if name.lower() in {"true", "false"} else name for name in label_map.names]
    if label_map.problem == "regression":
        return dict(zip(texts, targets.tolist(), strict=True))
    if label_map.problem == "multilabel":
        chosen = [frozenset(name for name, bit in zip(names, row, strict=True) if bit) for row in targets.tolist()]
        return dict(zip(texts, chosen, strict=True))
    return dict(zip(texts, [names[index] for index in targets.tolist()], strict=True))


def _trained(folder: Path, name: str) -> tuple[LabelMap, dict[str, Any]]:
    section = DataSection(train=_source(folder, name), validation=Absent(), on_bad_row="skip")
    data = prepare_data(section, kind="auto")
    return data.label_map, _named(data.label_map, data.train.examples.text.to_pylist(), data.train.targets["label"])


def _evaluated(folder: Path, name: str, label_map: LabelMap) -> dict[str, Any]:
    part = prepare_held_out(
        _source(folder, name),
        columns=Columns(),
        labels=Labels(),
        label_maps={"label": label_map},
        on_bad_row="skip",
        name="test",
    )
    return _named(label_map, part.examples.text.to_pylist(), part.targets["label"])


def _streamed(folder: Path, name: str, label_map: LabelMap) -> dict[str, Any]:
    names = () if label_map.problem == "regression" else label_map.names
    section = DataSection(
        train=StreamSource(files=(str(folder / f"d.{name}"),)),
        validation=Absent(),
        labels=Labels(names=names),
        on_bad_row="skip",
    )
    data = prepare_data(section, kind=label_map.problem)
    return _named(data.label_map, data.train.examples.text.to_pylist(), data.train.targets["label"])


@given(label=_columns())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_the_same_labels(tmp_path: Path, label: pa.Array) -> None:
    _write(tmp_path, label)
    found: dict[str, tuple[LabelMap, dict[str, Any]]] = {}
    for name in FORMATS:
        try:
            found[name] = _trained(tmp_path, name)
        except TextuneError as error:
            assert str(error)
    if not found:
        return
    first, (label_map, labels) = next(iter(found.items()))
    for name, (other_map, other) in found.items():
        assert other == labels, f"{first} and {name}"
        assert other_map.problem == label_map.problem
    for name in FORMATS:
        try:
            assert _evaluated(tmp_path, name, label_map) == labels, f"evaluated from {name}"
        except TextuneError as error:
            assert str(error)
    for name in STREAMED:
        try:
            assert _streamed(tmp_path, name, label_map) == labels, f"streamed from {name}"
        except TextuneError as error:
            assert str(error)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (pa.array(["neg", "pos", None, " pos "]), ["neg", "pos", "pos"]),
        (pa.array([1, 10, 2], pa.int8()), ["1", "10", "2"]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
        (pa.array([1.0, 0.0, None]), ["1", "0"]),
        (pa.array([0.1, 2.5, None], pa.float32()), [0.1, 2.5]),
        (pa.array([Decimal("1.25"), Decimal("2.50")]), [1.25, 2.5]),
        (pa.array([b"neg", b"pos"]), ["neg", "pos"]),
        (pa.array(["neg", "pos"]).dictionary_encode(), ["neg", "pos"]),
        (pa.array([["a", "b"], ["b"], []]), [{"a", "b"}, {"b"}, set()]),
        (pa.array([[0, 1, 1], [1, 0, 0]]), [{"1", "2"}, {"0"}]),
        (pa.array([[True, False], [False, True]]), [{"0"}, {"1"}]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
@pytest.mark.parity("AZ-03")
def test_labels_of_each_type_come_out(tmp_path: Path, name: str, label: pa.Array, expected: list[Any]) -> None:
    """What the other test compares is no two sentences: each format does read each type."""
    _write(tmp_path, label)
    label_map, found = _trained(tmp_path, name)
    got = list(found.values())
    if label_map.problem == "regression":
        assert all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(got, expected, strict=True))
    else:
        assert got == expected
    assert _evaluated(tmp_path, name, label_map) == found
