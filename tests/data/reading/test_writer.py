"""Rows written: what goes in comes out, in the same form, or a sentence with its line; a file is complete or
absent."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.data.reading.streamoptions import StreamOptions
from textune.data.reading.windows import read_rows
from textune.data.reading.writer import RowWriter
from textune.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"id": "01", "text": 'he said "no", twice', "note": ""},
    {"id": "NA", "text": "two\nlines", "note": "ä€😀"},
    {"id": "3", "text": "", "note": "tab\there"},
]


def read(path: Path, options: StreamOptions) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(str(path), options, text_column="text")]


def put(writer: RowWriter, rows: list[dict[str, Any]], places: list[str] | None = None) -> None:
    writer.write(writer.format(rows) if places is None else writer.format(rows, {}, places.__getitem__))


@pytest.mark.parametrize(
    ("format_", "ending"), [("csv", ""), ("csv", ".gz"), ("jsonl", ""), ("jsonl", ".gz"), ("parquet", "")]
)
def test_rows_survive_a_round_trip(tmp_path: Path, format_: Any, ending: str) -> None:
    path, options = tmp_path / f"rows.{format_}{ending}", StreamOptions(format=format_)
    with RowWriter(str(path), options) as writer:
        put(writer, ROWS[:2])
        put(writer, ROWS[2:])
    assert read(path, options) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


cell = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_survives_csv(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    rows = [{"text": a, "other": b} for a, b in cells]
    options = StreamOptions(format="csv")
    with RowWriter(str(tmp_path / "x.csv"), options) as writer:
        put(writer, rows)
    assert read(tmp_path / "x.csv", options) == rows


def test_a_plain_tsv_keeps_its_quotes_and_stays_one_line_a_row(tmp_path: Path) -> None:
    path, options = tmp_path / "x.tsv", StreamOptions(format="tsv")
    path.write_text('text\tn\nsay "hi\t1\n', encoding="utf-8")
    assert read(path, options) == [{"text": 'say "hi', "n": "1"}]
    with RowWriter(str(tmp_path / "y.tsv"), options) as writer:
        put(writer, [{"text": 'say "hi', "n": "a\rb"}, {"text": "x", "n": "y\u2028"}])
    assert (tmp_path / "y.tsv").read_bytes().decode() == 'text\tn\nsay "hi\ta\rb\nx\ty\u2028\n'
    assert read(tmp_path / "y.tsv", options) == [{"text": 'say "hi', "n": "a\rb"}, {"text": "x", "n": "y\u2028"}]


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\r\nb", "end\r"])
def test_a_cell_that_only_quotes_could_hold_is_refused_without_them(tmp_path: Path, value: str) -> None:
    reason = r"line 7 cannot be written as tsv: column 'n' holds a delimiter or a line end.* Write jsonl"
    with (
        pytest.raises(DataError, match=reason),
        RowWriter(str(tmp_path / "x.tsv"), StreamOptions(format="tsv")) as writer,
    ):
        put(writer, [{"text": "x", "n": value}], ["in.jsonl, line 7"])
    assert list(tmp_path.iterdir()) == []
    with RowWriter(str(tmp_path / "x.tsv"), StreamOptions(format="tsv", quoting="standard")) as writer:
        put(writer, [{"text": "x", "n": value}])
    assert read(tmp_path / "x.tsv", StreamOptions(format="tsv", quoting="standard")) == [{"text": "x", "n": value}]


def test_a_failed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), RowWriter(str(path), StreamOptions(format="csv")) as writer:
        put(writer, ROWS)
        raise RuntimeError
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["x.csv"]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([7], pa.int16()), "l": [[1, 2]]}), tmp_path / "x.parquet")
    options = StreamOptions(format="parquet")
    rows = read(tmp_path / "x.parquet", options)
    assert rows == [{"text": "a", "n": 7, "l": [1, 2]}]
    table, score = pq.read_table(tmp_path / "x.parquet"), pa.field("score", pa.float64())
    with RowWriter(str(tmp_path / "y.parquet"), options, schema=table.schema, added=pa.schema([score])) as writer:
        writer.write(writer.format(table, {"score": [0.5]}))
    assert pq.read_table(tmp_path / "y.parquet").equals(table.append_column(score, [[0.5]]))


def test_what_is_written_is_what_csv_readers_read(tmp_path: Path) -> None:
    with RowWriter(str(tmp_path / "x.csv"), StreamOptions(format="csv")) as writer:
        put(writer, [{"text": "a", "list": ["x", "y"], "none": None, "n": 1.5}])
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text()))
    assert (row["none"], row["n"], json.loads(row["list"])) == ("", "1.5", ["x", "y"])


@pytest.mark.parametrize("format_", ["csv", "tsv", "parquet"])
def test_a_key_that_the_first_window_lacks_is_never_dropped(tmp_path: Path, format_: Any) -> None:
    rows = [{"text": "a", "id": "1"}, {"text": "b"}, {"text": "c", "id": "3", "extra": "x"}]
    places = ["in.jsonl, line 1", "in.jsonl, line 2", "in.jsonl, line 7"]
    path = tmp_path / f"x.{format_}"
    with (
        pytest.raises(
            DataError, match=r"^in.jsonl, line 7 cannot be written as .*: the key 'extra' .* Write jsonl instead"
        ) as caught,
        RowWriter(str(path), StreamOptions(format=format_)) as writer,
    ):
        put(writer, rows[:2], places[:2])
        put(writer, rows[2:], places[2:])
    assert format_ in str(caught.value) and list(tmp_path.iterdir()) == []
    with RowWriter(str(path), StreamOptions(format=format_)) as writer:
        put(writer, rows[:2])
    lacking = None if format_ == "parquet" else ""
    assert read(path, StreamOptions(format=format_)) == [rows[0], {"text": "b", "id": lacking}]


def test_jsonl_writes_whatever_keys_a_row_has(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b", "extra": 1}, {"text": "\ud800"}]
    with RowWriter(str(tmp_path / "x.jsonl"), StreamOptions(format="jsonl")) as writer:
        put(writer, rows)
    assert read(tmp_path / "x.jsonl", StreamOptions(format="jsonl")) == rows


@pytest.mark.parametrize(
    ("format_", "value"), [("csv", "\ud800"), ("tsv", "\ud800"), ("parquet", "\ud800"), ("parquet", 2**70)]
)
def test_a_value_that_a_format_cannot_hold_is_a_sentence(tmp_path: Path, format_: Any, value: Any) -> None:
    with (
        pytest.raises(DataError, match=f"cannot be written as {format_}.*Write jsonl instead"),
        RowWriter(str(tmp_path / "x"), StreamOptions(format=format_)) as writer,
    ):
        put(writer, [{"text": value, "n": 1}])
    assert list(tmp_path.iterdir()) == []


def test_names_of_columns_stay_on_their_line(tmp_path: Path) -> None:
    names = "the names of the columns cannot be written as tsv"
    with (
        pytest.raises(DataError, match=names),
        RowWriter(str(tmp_path / "x.tsv"), StreamOptions(format="tsv")) as writer,
    ):
        put(writer, [{"te\txt": "a", "n": "1"}])


def test_no_rows_are_an_empty_parquet_file(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    with RowWriter(str(tmp_path / "x.parquet"), StreamOptions(format="parquet"), schema=schema):
        pass
    assert pq.read_table(tmp_path / "x.parquet").equals(schema.empty_table())


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_a_neighbour_of_a_similar_name_is_not_touched(tmp_path: Path, format_: Any) -> None:
    neighbour = tmp_path / f"rows.{format_}.writing"
    neighbour.write_text("mine")
    for _ in range(2):  # and two writers of one target do not meet
        with RowWriter(str(tmp_path / f"rows.{format_}"), StreamOptions(format=format_)) as writer:
            put(writer, ROWS)
    assert neighbour.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"rows.{format_}", neighbour.name]


def test_a_folder_that_is_missing_shows_before_the_first_row(tmp_path: Path) -> None:
    for format_ in ("jsonl", "csv", "parquet"):
        with (
            pytest.raises(DataError, match="cannot be written: No such file or directory"),
            RowWriter(str(tmp_path / "absent" / "x"), StreamOptions(format=format_)),  # type: ignore[arg-type]
        ):
            raise AssertionError("the writer was opened")
