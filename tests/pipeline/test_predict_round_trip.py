"""What predict writes reads back equal to its input and its own columns, for every table, or is refused by its row."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import json
import math
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.predictions import Parrot, predict

from textune.data.reading.streamoptions import StreamOptions
from textune.data.reading.windows import read_rows
from textune.errors import DataError
from textune.tasks.decision import Decision

ADDED = {"predicted_label": "pos", "predicted_score": 0.876543}
TARGETS = ["csv", "tsv", "jsonl", "parquet"]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the third row comes late."""
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 2)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def written(source: Path, ending: str) -> list[dict[str, Any]]:
    """The rows of the output as a reader without textune finds them."""
    target = source.with_name(f"{uuid.uuid4().hex}.{ending}")
    predict(Parrot(), source, target)
    if ending == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1]]
    else:
        options = StreamOptions(format="csv" if ending == "csv" else "tsv")
        rows = [row for _, row in read_rows(str(target), options, text_column="text")]
    return rows


# --- late types ------------------------------------------------------------------------------------------------------

LATE: dict[str, tuple[list[Any], Any]] = {
    "a fraction after integers": ([1, 2, 2.75], pa.float64()),
    "a key after others": (
        [{"a": 1}, {"a": 2}, {"a": 3, "b": "x"}],
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
    ),
    "a key inside a list": (
        [[{"a": 1}], [], [{"b": 2.5}]],
        pa.list_(pa.struct([("a", pa.int64()), ("b", pa.float64())])),
    ),
    "text after nothing": ([None, None, "x"], pa.string()),
    "an object after nothing": ([None, None, {"a": [1]}], pa.struct([("a", pa.list_(pa.int64()))])),
    "items after empty lists": ([[], [], ["x"]], pa.list_(pa.string())),
    "a fraction inside lists": ([[1], [2], [0.5]], pa.list_(pa.float64())),
    "an integer above int64": ([1, 2, 2**64 - 1], pa.uint64()),
    "integers after a fraction": ([0.5, 1, 2], pa.float64()),
}


@pytest.mark.parametrize("name", [*LATE])
@pytest.mark.usefixtures("small_windows")
def test_late_values_widen_the_type(tmp_path: Path, name: str) -> None:
    values, kind = LATE[name]
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "x": value} for value in values])
    predict(Parrot(), source, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("x").type == kind
    assert [without_nulls(value) for value in table.column("x").to_pylist()] == [
        without_nulls(value) for value in values
    ]


MISFITS: dict[str, tuple[list[Any], str]] = {
    "text among integers": ([1, 2, "x"], "column 'x' holds 'x', where the rows before hold integers"),
    "true among integers": ([1, 2, True], "column 'x' holds 'True', where the rows before hold integers"),
    "a list among texts": (["a", "b", ["c"]], "column 'x' holds .*, where the rows before hold text"),
    "an integer too large": ([1, 2, 2**70], "column 'x' holds .*, which 64 bits cannot hold"),
    "both ends": ([-1, 2, 2**63], "which 64 bits cannot hold together with those of the rows before"),
    "a large integer among fractions": (
        [0.5, 1, 2**53 + 1],
        f"column 'x' holds {2**53 + 1}, which .* cannot hold exactly",
    ),
    "a fraction after a large integer": ([2**53 + 1, 1, 0.5], f"a row before holds {2**53 + 1}"),
    "half a character": (["a", "b", "\ud800"], "column 'x' holds text that is not valid Unicode"),
    "deep inside": ([{"a": [1]}, {"a": []}, {"a": [2, "x"]}], "column 'x', key 'a', item 2 holds 'x', where"),
    "a bottomless list": ([1, 2, 0], "nested more than 64 levels deep"),
}


@pytest.mark.parametrize("name", [*MISFITS])
@pytest.mark.usefixtures("small_windows")
def test_what_no_type_holds_is_refused_at_its_row_before_the_work(tmp_path: Path, name: str) -> None:
    values, reason = MISFITS[name]
    if name == "a bottomless list":
        values = [json.loads("[" * depth + "]" * depth) for depth in (1, 2, 70)]
    source, parrot = write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "x": value} for value in values]), Parrot()
    with pytest.raises(DataError, match=rf"in.jsonl, line 3 cannot be written as parquet: .*{reason}.*Write jsonl"):
        predict(parrot, source, tmp_path / "out.parquet")
    assert parrot.texts == [] and [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    predict(parrot, source, tmp_path / "out.jsonl")
    assert [json.loads(line)["x"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == values


def test_an_object_that_never_has_a_key_names_its_row(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "b", "x": {}}])
    with pytest.raises(
        DataError, match=r"in.jsonl, line 2 cannot be written as parquet: it holds an object without keys"
    ):
        predict(Parrot(), source, tmp_path / "out.parquet")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.usefixtures("small_windows")
def test_numbers_that_json_lacks_are_refused_there_and_kept_elsewhere(tmp_path: Path, value: float) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "x": 1.0}, {"text": "b"}, {"text": "c", "x": value}])
    with pytest.raises(DataError, match=r"line 3 cannot be written as jsonl: it holds NaN or an infinite number"):
        written(source, "jsonl")
    assert str(written(source, "parquet")[2]["x"]) == str(value)
    assert str(float(written(source, "csv")[2]["x"])) == str(value)


# --- tables in the types of their file -------------------------------------------------------------------------------

TYPED = pa.table(
    {
        "text": pa.array(["a", "b"], pa.large_string()),
        "uint64": pa.array([2**64 - 1, None], pa.uint64()),
        "float32": pa.array([0.1, None], pa.float32()),
        "nanoseconds": pa.array([1_000_000_007, None], pa.timestamp("ns", "UTC")),
        "time": pa.array([1_000_000_007, None], pa.time64("ns")),
        "date": pa.array([datetime.date(2024, 1, 2), None]),
        "duration": pa.array([datetime.timedelta(seconds=1), None]),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "word": pa.array(["x", None]).dictionary_encode(),
        "bytes": pa.array([b"\xff", None]),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "nested": pa.array([[{"a": datetime.datetime(2024, 1, 2)}], None]),
        "nothing": pa.nulls(2),
    }
).replace_schema_metadata({"huggingface": "{}"})


def test_every_type_of_a_parquet_file_stays(tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "in.parquet")
    predict(Parrot(), tmp_path / "in.parquet", tmp_path / "out.parquet")
    wanted, found = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert found.select(wanted.column_names).equals(wanted) and found.schema.metadata == wanted.schema.metadata
    assert found.select([*ADDED]).to_pylist() == [ADDED] * 2


def test_an_arrow_file_keeps_its_types_too(tmp_path: Path) -> None:
    for number, new in enumerate((pa.ipc.new_file, pa.ipc.new_stream)):
        source, target = tmp_path / f"{number}.arrow", tmp_path / f"{number}.parquet"
        with new(source, TYPED.schema) as writer:
            writer.write_table(TYPED)
        predict(Parrot(), source, target)
        assert pq.read_table(target).select(TYPED.column_names).cast(TYPED.schema).equals(TYPED)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_dates_and_decimals_are_text_in_full_and_bytes_are_refused(tmp_path: Path, ending: str) -> None:
    pq.write_table(TYPED.drop_columns(["bytes"]), tmp_path / "in.parquet")
    row = written(tmp_path / "in.parquet", ending)[0]
    found = {name: row[name] for name in ("uint64", "nanoseconds", "time", "date", "price", "word")}
    found["uint64"] = int(found["uint64"])
    assert found == {
        "uint64": 2**64 - 1,
        "nanoseconds": "1970-01-01 00:00:01.000000007Z",
        "time": "00:00:01.000000007",
        "date": "2024-01-02",
        "price": "1.50",
        "word": "x",
    }
    pq.write_table(TYPED, tmp_path / "bytes.parquet")
    parrot = Parrot()
    with pytest.raises(DataError, match=rf"bytes.parquet, row 1 cannot be written as {ending}: it holds bytes"):
        predict(parrot, tmp_path / "bytes.parquet", tmp_path / f"out.{ending}")
    assert parrot.texts == []


def test_a_packed_parquet_file_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    (tmp_path / "in.parquet.gz").write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    assert written(tmp_path / "in.parquet.gz", "jsonl") == [{"text": "a", **ADDED}]


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path: Path) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"text": ["1", "2", "3"], "x": broken}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in.parquet, row 2: column 'x': byte 0xff .* is not UTF-8.*--skip-bad-rows"):
        predict(Parrot(), tmp_path / "in.parquet", tmp_path / "out.parquet")
    predict(Parrot(), tmp_path / "in.parquet", tmp_path / "out.parquet", on_bad_row="skip")
    assert pq.read_table(tmp_path / "out.parquet").column("x").to_pylist() == ["a", "c"]


# --- generated tables ------------------------------------------------------------------------------------------------


def without_nulls(value: Any) -> Any:
    """A value without the keys that hold nothing: where types widen, an object that lacks a key has a null there."""
    if isinstance(value, dict):
        return {key: inner for key, item in value.items() if (inner := without_nulls(item)) is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def as_text(value: Any) -> str:
    """What a cell of csv holds of a value of JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats(allow_nan=False, allow_infinity=False) | words
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2), max_leaves=4
)
kinds = [
    st.none() | st.integers(-5, 2**64) | st.floats(-9, 9),
    st.none() | st.lists(st.none() | st.integers() | st.floats(-9, 9), max_size=2),
    st.none() | st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(0, 9) | st.just(0.5), max_size=2),
    st.none() | words,
    values,
]


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows whose columns appear late, and whose values are mostly of one kind."""
    columns = {
        name: draw(st.sampled_from(kinds)) for name in draw(st.sets(st.sampled_from(["x", "y", "ö z"]), max_size=2))
    }
    return [
        {"text": draw(words), **{name: draw(kind) for name, kind in columns.items() if draw(st.booleans())}}
        for _ in range(draw(st.integers(1, 6)))
    ]


@pytest.mark.slow
@given(tables(), st.sampled_from(TARGETS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@pytest.mark.usefixtures("small_windows")
def test_what_is_written_reads_back_equal(tmp_path: Path, rows: list[dict[str, Any]], ending: str) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    source = write_jsonl(folder / "in.jsonl", rows)
    try:
        found = written(source, ending)
    except DataError as error:
        assert ending in {"parquet", "tsv"} and "in.jsonl, line " in str(error), error
        assert [path.name for path in folder.iterdir()] == ["in.jsonl"]
        return
    names = list(dict.fromkeys(key for row in rows for key in row))
    if ending == "jsonl":
        assert found == [row | ADDED for row in rows]
    elif ending == "parquet":
        assert [list(row) for row in found] == [[*names, *ADDED]] * len(rows)
        assert [without_nulls(row) for row in found] == [without_nulls(row | ADDED) for row in rows]
    else:
        wanted = [{name: as_text(row.get(name)) for name in names} for row in rows]
        assert [own(names)(row) for row in found] == wanted
        assert {(row["predicted_label"], row["predicted_score"]) for row in found} == {("pos", "0.876543")}


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)


@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=6),
    st.sampled_from(["csv", "tsv"]),
    st.sampled_from(TARGETS),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@pytest.mark.usefixtures("small_windows")
def test_cells_read_back_equal(tmp_path: Path, pairs: list[tuple[str, str]], source_format: str, ending: str) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    source = folder / f"in.{source_format}"
    if source_format == "tsv":
        pairs = [tuple(cell.translate(str.maketrans("\t\n\r", "   ")) for cell in pair) for pair in pairs]  # type: ignore[misc]
        source.write_text("text\tx\n" + "".join(f"{text}\t{x}\n" for text, x in pairs), encoding="utf-8", newline="")
    else:
        with source.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "x"), *pairs])
    try:
        found = written(source, ending)
    except DataError as error:
        assert ending == "tsv" and source_format == "csv" and "in.csv, line " in str(error), error
        return
    assert [own(["text", "x"])(row) for row in found] == [{"text": text, "x": x} for text, x in pairs]


def own(names: list[str]) -> Any:
    return lambda row: {name: row[name] for name in names if name in row}


# --- answers that are withheld ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", TARGETS)
def test_a_withheld_answer_is_empty_in_every_format(tmp_path: Path, ending: str) -> None:
    source, target = write_jsonl(tmp_path / "rows.jsonl", [{"text": "one"}, {"text": "two"}]), tmp_path / f"x.{ending}"
    predict(Parrot(decision=Decision(abstain_below=0.9)), source, target)
    if ending == "parquet":
        rows = pq.read_table(target).to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    else:
        lines = target.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, delimiter="," if ending == "csv" else "\t"))
    wanted = None if ending in ("parquet", "jsonl") else ""
    assert [row["predicted_label"] for row in rows] == [wanted, wanted]
    assert [float(row["predicted_score"]) for row in rows] == [0.876543, 0.876543]
