"""Keys and layouts of files: lines before the header, extra cells, unnamed columns, `sep=`, splits and orientations of
JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.rows import cells, read

from textune.data.reading.streamoptions import StreamOptions
from textune.data.reading.windows import read_rows
from textune.errors import DataError

_TEXTS, _LABELS = ["a", "b", "c"], ["x", "y", "x"]
_ROWS = [{"text": text, "label": label} for text, label in zip(_TEXTS, _LABELS, strict=True)]
_TABLE = {"text": _TEXTS, "label": _LABELS}


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_skip_lines_leaves_lines_before_the_header_out(tmp_path: Path, ending: str, mark: str) -> None:
    content = f'"exported\nby a tool\ntext{mark}label\na{mark}x\n'
    rows = read(tmp_path / f"a.{ending}", content, skip_lines=2)
    assert cells(rows) == {"text": ["a"], "label": ["x"]} and rows.place(0) == f"a.{ending}, line 4"
    options = StreamOptions(ending, skip_lines=2)  # type: ignore[arg-type]
    assert list(read_rows(str(tmp_path / f"a.{ending}"), options, text_column="text")) == [
        (4, {"text": "a", "label": "x"})
    ]


def test_skip_lines_before_rows_without_a_header(tmp_path: Path) -> None:
    content = "Category\tText\nd\tstring\nclass\t\nearn\tfunny film\nacq\tsad film\n"
    rows = read(tmp_path / "a.tab", content, skip_lines=3, column_names=("label", "text"))
    assert cells(rows) == {"label": ["earn", "acq"], "text": ["funny film", "sad film"]}


def test_skip_lines_of_text_and_its_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("label\nx\ny\n")
    rows = read(tmp_path / "a.txt", "text\none\ntwo\n", skip_lines=1, label_files=(str(tmp_path / "labels.txt"),))
    assert cells(rows) == {"text": ["one", "two"], "label": ["x", "y"]} and rows.place(1) == "a.txt, line 3"
    options = StreamOptions("text", skip_lines=2)
    assert list(read_rows(str(tmp_path / "a.txt"), options, text_column="text")) == [(3, {"text": "two"})]
    with pytest.raises(DataError, match=r"a.txt has 3 lines, and skip_lines = 4 leaves none"):
        read(tmp_path / "a.txt", skip_lines=4)


def test_extra_cells_are_refused_or_ignored_and_counted(tmp_path: Path) -> None:
    content = "text,label\na,x\nb,y,2,3\nc,x,\n"
    with pytest.raises(DataError, match=r'line 3: 4 cells where 2 are expected.*set extra_cells = "ignore"'):
        read(tmp_path / "a.csv", content)
    rows = read(tmp_path / "a.csv", extra_cells="ignore")
    assert cells(rows) == _TABLE
    assert rows.notes == (
        "a.csv: 2 rows have more cells than columns; the extra cells are ignored (the first in line 3)",
    )
    with pytest.raises(DataError, match="1 cell where 2 are expected"):
        read(tmp_path / "b.tsv", "text\tlabel\na\n", extra_cells="ignore")
    said: list[str] = []
    options = StreamOptions("csv", extra_cells="ignore")
    streamed = [row for _, row in read_rows(str(tmp_path / "a.csv"), options, text_column="text", notice=said.append)]
    assert streamed == _ROWS and said[0].endswith(rows.notes[0]) and len(said) == 1


def test_keys_that_no_file_heeds_are_mistakes(tmp_path: Path) -> None:
    for name, key in (
        ("a.jsonl", "skip_lines"),
        ("a.parquet", "extra_cells"),
        ("a.csv", "split"),
        ("a.jsonl", "split"),
    ):
        (tmp_path / name).write_text("")
        with pytest.raises(DataError, match=f"^{key} is for "):
            read(tmp_path / name, **{key: {"skip_lines": 1, "extra_cells": "ignore", "split": "train"}[key]})


def test_columns_without_a_name_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "label,text,,,\nx,a,,,\ny,b,1,,\n")
    assert cells(rows) == {"label": ["x", "y"], "text": ["a", "b"]}
    assert rows.notes == ("a.csv: 3 columns without a name left out",)
    with pytest.raises(DataError, match="line 1: no column has a name"):
        read(tmp_path / "b.csv", ",,\na,b,c\n")
    # What predict writes keeps every cell.
    streamed = [row for _, row in read_rows(str(tmp_path / "a.csv"), StreamOptions("csv"), text_column="text")]
    assert streamed[1] == {"label": "y", "text": "b", "Unnamed: 2": "1", "Unnamed: 3": "", "Unnamed: 4": ""}


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_first_line_of_excel_names_the_delimiter(tmp_path: Path, mark: str) -> None:
    content = f"\ufeffsep={mark}\r\ntext{mark}label\r\na, b{mark}x\r\n"
    rows = read(tmp_path / "a.csv", content)
    assert cells(rows) == {"text": ["a, b"], "label": ["x"]} and rows.place(0) == "a.csv, line 3"
    assert cells(read(tmp_path / "a.csv", delimiter=mark)) == cells(rows)
    with pytest.raises(DataError, match=r"a.csv, line 1 says sep=.*, but delimiter = ','"):
        read(tmp_path / "a.csv", delimiter=",")
    streamed = [row for _, row in read_rows(str(tmp_path / "a.csv"), StreamOptions("csv"), text_column="text")]
    assert streamed == [{"text": "a, b", "label": "x"}]


_PANDAS: dict[str, Any] = {
    "records": _ROWS,
    "index": {str(number): row for number, row in enumerate(_ROWS)},
    "columns": {name: {str(number): value for number, value in enumerate(values)} for name, values in _TABLE.items()},
    "split": {"columns": ["text", "label"], "index": [0, 1, 2], "data": [list(row.values()) for row in _ROWS]},
    "tight": {"index": [0, 1, 2], "columns": ["text", "label"], "data": [list(row.values()) for row in _ROWS],
              "index_names": [None], "column_names": [None]},
    "list": _TABLE,
}  # fmt: skip


@pytest.mark.parametrize("orientation", _PANDAS)
def test_every_orientation_of_pandas_gives_the_same_rows(tmp_path: Path, orientation: str) -> None:
    rows = read(tmp_path / "a.json", json.dumps(_PANDAS[orientation]))
    assert cells(rows) == _TABLE


def test_other_orientations_of_pandas(tmp_path: Path) -> None:
    schema = {"fields": [{"name": "index", "type": "integer"}], "primaryKey": ["index"], "pandas_version": "1.4.0"}
    table = {"schema": schema, "data": [{"index": number, **row} for number, row in enumerate(_ROWS)]}
    assert cells(read(tmp_path / "table.json", json.dumps(table))) == {"index": [0, 1, 2], **_TABLE}
    values = json.dumps([list(row.values()) for row in _ROWS])
    with pytest.raises(DataError, match=r"The rows of v.json are lists.*column_names = \[\"text\", \"label\"\]"):
        read(tmp_path / "v.json", values)
    assert cells(read(tmp_path / "v.json", column_names=("text", "label"))) == _TABLE
    with pytest.raises(DataError, match=r"v.json, record 1: 2 values where 1 are expected"):
        read(tmp_path / "v.json", column_names=("text",))
    with pytest.raises(DataError, match="have their own names"):
        read(tmp_path / "table.json", column_names=("text", "label"))


def test_columns_of_more_than_a_thousand_rows(tmp_path: Path) -> None:
    columns = {"text": {str(n): f"row {n}" for n in range(1001)}, "label": {str(n): n % 2 for n in range(1001)}}
    rows = read(tmp_path / "a.json", json.dumps(columns))
    assert rows.table.num_rows == 1001 and rows.place(1000) == "a.json, key 1000"
    assert rows.table.column("text")[1000].as_py() == "row 1000"
    named = {name: {f"id{key}": value for key, value in values.items()} for name, values in columns.items()}
    with pytest.raises(DataError, match=r"a.json seems to hold columns.*df.to_json\(path, orient=\"records\"\)"):
        read(tmp_path / "a.json", json.dumps(named))


def test_an_object_that_may_be_turned_says_so_where_a_column_is_missing(tmp_path: Path) -> None:
    named = {name: dict(zip("pqr", values, strict=True)) for name, values in _TABLE.items()}
    with pytest.raises(DataError, match=r"no column 'text'.*other way round, write rows: df.to_json"):
        read(tmp_path / "a.json", json.dumps(named), select=("text",))


_SPLITS = {"train": [["a", "x"], ["b", "y"], ["c", "x"]], "val": [["d", "y"]]}


def test_a_split_of_pairs(tmp_path: Path) -> None:
    message = (
        r"an object with rows in 'train' \(3 rows\), 'val' \(1 row\).*split = \"train\""
        r".*column_names = \[\"text\", \"label\"\]"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.json", json.dumps(_SPLITS))
    with pytest.raises(DataError, match=r"The rows of a.json are lists, such as"):
        read(tmp_path / "a.json", split="train")
    names = {"column_names": ("text", "label")}
    assert cells(read(tmp_path / "a.json", split="train", **names)) == _TABLE
    assert cells(read(tmp_path / "a.json", split="val", **names)) == {"text": ["d"], "label": ["y"]}
    with pytest.raises(DataError, match=r"no split 'vall'; it holds 'train', 'val'. Did you mean 'val'\?"):
        read(tmp_path / "a.json", split="vall")


def test_splits_further_in_are_found_by_their_path(tmp_path: Path) -> None:
    nested = json.dumps({"version": 2, "data": {"train": _ROWS, "val": _ROWS[:1]}})
    with pytest.raises(DataError, match=r'a.json is an object with rows in \'data\'. Set split = "data"'):
        read(tmp_path / "a.json", nested)
    with pytest.raises(DataError, match=r"rows in 'train' \(3 rows\), 'val' \(1 row\). Set split = \"data.train\""):
        read(tmp_path / "a.json", split="data")
    assert cells(read(tmp_path / "a.json", split="data.train")) == _TABLE
    with pytest.raises(DataError, match=r"a.json, split 'data', has no split 'x'; it holds 'train', 'val'"):
        read(tmp_path / "a.json", split="data.x")
    assert cells(read(tmp_path / "b.json", json.dumps({"a.b": _ROWS, "c": _ROWS}), split="a.b")) == _TABLE


@pytest.mark.parametrize("rows", [_ROWS, _PANDAS["index"], _PANDAS["columns"], _PANDAS["split"]])
def test_a_split_may_be_turned_like_a_whole_file(tmp_path: Path, rows: Any) -> None:
    assert cells(read(tmp_path / "a.json", json.dumps({"version": 1, "train": rows}), split="train")) == _TABLE
    with refused(DataError, key="split", value="train", place="b.json"):
        read(tmp_path / "b.json", json.dumps(_ROWS), split="train")
    with pytest.raises(DataError, match=r"b.json holds one JSON value per line, not splits"):
        read(tmp_path / "b.json", "".join(json.dumps(row) + "\n" for row in _ROWS), split="train")


def test_lists_in_lines_are_named(tmp_path: Path) -> None:
    content = "".join(json.dumps(list(row.values())) + "\n" for row in _ROWS)
    assert cells(read(tmp_path / "a.jsonl", content, column_names=("text", "label"))) == _TABLE
    with pytest.raises(DataError, match=r"a.jsonl, line 1: .* is a list of text.*column_names"):
        read(tmp_path / "a.jsonl")


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns of different lengths: 'text' has 2, 'label' has 1"):
        read(tmp_path / "a.json", '{"text": ["a", "b"], "label": ["x"]}')


@pytest.mark.parametrize("orientation", ["index", "columns", "split", "list"])
def test_a_whole_table_in_a_file_of_lines_is_named(tmp_path: Path, orientation: str) -> None:
    with pytest.raises(DataError, match=r"a.jsonl holds a whole table in one object .* lines=True"):
        read(tmp_path / "a.jsonl", json.dumps(_PANDAS[orientation]) + "\n")
    assert cells(read(tmp_path / "a.jsonl", format="json")) == _TABLE
    with pytest.raises(DataError, match=r'JSON over several lines needs format = "json"'):
        read(tmp_path / "b.jsonl", json.dumps(_PANDAS[orientation], indent=1))
    # A single row may well hold lists beside its text.
    assert len(read(tmp_path / "c.jsonl", '{"text": "a", "labels": ["x", "y"]}\n')) == 1


def test_a_wrong_delimiter_is_named_without_a_header_too(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r'The delimiter looks wrong: ";" would make 2 cells of it; set delimiter = ";"'
    ):
        read(tmp_path / "a.csv", "a;x\nb;y\n", column_names=("text", "label"))
    with pytest.raises(
        DataError, match=r"line 3: 1 cell where 2 are"
    ) as caught:  # the header has proven the delimiter
        read(tmp_path / "b.csv", "text,label\na,x\nb; c\n")
    assert "delimiter" not in str(caught.value)
