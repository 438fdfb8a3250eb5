"""Every kind of source, and the selection of rows."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from kits.errors import refused
from kits.rows import cells, read

from textune.config.sources import ConcatSource, FilesSource, HubSource, PythonSource, SavedSource
from textune.data.reading.sources import read_source
from textune.draws import Draws
from textune.errors import CodeError, DataError

_CSV = "text,label\ngood,1\nbad,0\nfine,1\n"


# --- formats ---------------------------------------------------------------------------------------------------------


def test_packed_files(tmp_path: Path) -> None:
    plain = read(tmp_path / "a.csv", _CSV)
    for name, content in (
        ("a.csv.gz", gzip.compress(_CSV.encode())),
        ("a.csv.zst", zstandard.compress(_CSV.encode())),
    ):
        packed = read(tmp_path / name, content)
        assert packed.fingerprint == plain.fingerprint
        assert packed.place(0) == f"{name}, line 2"
    two_members = gzip.compress(_CSV.encode()) + gzip.compress(b"more,1\n")
    assert len(read(tmp_path / "b.csv.gz", two_members)) == 4


def test_json_list_and_object_keyed_by_row(tmp_path: Path) -> None:
    records = [{"text": "a", "label": 1, "extra": None}, {"text": "b", "label": 0, "tags": ["x"]}]
    listed = read(tmp_path / "a.json", json.dumps(records))
    assert cells(listed) == {"text": ["a", "b"], "label": [1, 0], "extra": [None, None], "tags": [None, ["x"]]}
    assert listed.place(1) == "a.json, record 2"
    keyed = read(tmp_path / "b.json", json.dumps({"7": records[0], "12": records[1]}))
    assert keyed.fingerprint == listed.fingerprint
    assert keyed.place(1) == "b.json, key 12"
    named = read(tmp_path / "c.json", json.dumps({"x": records[0], "y": records[1]}))
    assert named.place(1) == "c.json, entry 2"


@pytest.mark.parity("TW-10", "jsonl")
def test_jsonl(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", '{"text": "a\\u0000", "n": 1}\n\n  {"n": 2.5, "text": "b\u2028c"}\r\n')
    assert cells(rows) == {"text": ["a\0", "b\u2028c"], "n": [1.0, 2.5]}
    assert [rows.place(0), rows.place(1)] == ["a.jsonl, line 1", "a.jsonl, line 3"]
    assert len(read(tmp_path / "named_json.json", '{"text": "a"}\n{"text": "b"}\n')) == 2
    with pytest.raises(DataError, match='Set format = "jsonl"'):
        read(tmp_path / "named_json.json", format="json")


@pytest.mark.parity("TW-10", "json")
def test_json_kinds(tmp_path: Path) -> None:
    """Rows of another kind than most are bad rows; what Arrow has no plain type for is kept as JSON text."""
    lines = [
        {"text": "a", "label": 1, "list": [1], "any": {"k": 1}, "flag": True},
        {"text": "b", "label": "one", "list": [], "any": [1, "x"], "flag": False},
        {"text": 3, "label": 2, "list": [2, 3], "any": {"k": "v"}, "flag": True},
        {"text": "d", "label": 3, "list": ["x"], "any": None, "flag": None},
        {"text": "e", "label": 2**70, "list": None, "any": "s", "flag": 1},
        {"text": "f", "label": 5, "list": [4], "any": {"deep": {"deep": []}}, "flag": False},
    ]
    rows = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)), on_bad_row="skip")
    assert cells(rows) == {
        "text": ["a", "f"],
        "label": [1, 5],
        "list": [[1], [4]],
        "any": ['{"k": 1}', '{"deep": {"deep": []}}'],
        "flag": [True, False],
    }
    assert [(row.place, row.reason) for row in rows.skipped] == [
        ("a.jsonl, line 2", "column 'label' holds text, '\"one\"', where most rows hold integers"),
        ("a.jsonl, line 3", "column 'text' holds an integer, '3', where most rows hold text"),
        ("a.jsonl, line 4", "column 'list' holds a list of text, '[\"x\"]', where most rows hold lists of integers"),
        ("a.jsonl, line 5", "column 'label' holds an integer of more than 64 bits, '1180591620717411303424'"),
    ]


def test_columns_that_are_not_selected_may_be_mixed(tmp_path: Path) -> None:
    content = '{"text": "a", "id": 1}\n{"text": "b", "id": "x"}\n'
    with pytest.raises(DataError, match=r"a.jsonl, line 2: column 'id' holds text"):
        read(tmp_path / "a.jsonl", content)
    assert cells(read(tmp_path / "a.jsonl", select=("text",))) == {"text": ["a", "b"]}


def test_json_kinds_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.data.reading.records._BLOCK_ROWS", 2)
    values: list[Any] = [None, None, 1, 2, 2.5, None, "odd", 3]
    content = "\n".join(
        json.dumps({"n": value} if index < 6 else {"n": value, "late": [index]}) for index, value in enumerate(values)
    )
    rows = read(tmp_path / "a.jsonl", content, on_bad_row="skip")
    assert cells(rows) == {"n": [None, None, 1.0, 2.0, 2.5, None, 3.0], "late": [None] * 6 + [[7]]}
    assert [row.place for row in rows.skipped] == ["a.jsonl, line 7"]


@pytest.mark.parity("parquet")
def test_parquet_and_arrow(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None, "c"]),
            "label": pa.array([2, 0, 1], pa.int8()),
            "kind": pa.array(["u", "u", "v"]).dictionary_encode(),
            "tags": [["x"], [], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=1)
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as stream:
        stream.write_table(table)
    expected = {"text": ["a", None, "c"], "label": [2, 0, 1], "kind": ["u", "u", "v"], "tags": [["x"], [], None]}
    found = [read(tmp_path / name) for name in ("a.parquet", "a.arrow", "b.arrow")]
    for rows in found:
        assert cells(rows) == expected
        assert rows.table.schema.field("text").type == pa.large_string()
    assert len({rows.fingerprint for rows in found}) == 1
    assert found[0].place(2) == "a.parquet, row 3"
    assert cells(read(tmp_path / "a.parquet", select=("label",))) == {"label": [2, 0, 1]}
    packed = read(tmp_path / "c.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert packed.fingerprint == found[0].fingerprint


@pytest.mark.parity("TW-10")
def test_text_lines(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.txt", "one\n\nthree \u2028 \x85 x\r\nlast")
    assert cells(rows) == {"text": ["one", "", "three \u2028 \x85 x", "last"]}
    assert rows.place(3) == "a.txt, line 4"


def test_text_with_pattern(tmp_path: Path) -> None:
    content = "NUM:dist How far ?\nLOC:city What county ?\nno label here\n".encode("latin-1")
    pattern = r"(?P<label>[A-Z]+):\S+ (?P<text>.*)"
    rows = read(tmp_path / "a.label", content, format="text", encoding="latin-1", pattern=pattern, on_bad_row="skip")
    assert cells(rows) == {"label": ["NUM", "LOC"], "text": ["How far ?", "What county ?"]}
    assert rows.skipped[0].place == "a.label, line 3"
    with pytest.raises(DataError, match="line 3: 'no label here' does not fit the pattern"):
        read(tmp_path / "a.label", format="text", pattern=pattern)
    with pytest.raises(DataError, match="group 'label', and label_files is also set"):
        read(tmp_path / "a.label", format="text", pattern=pattern, label_files=(str(tmp_path / "a.label"),))


def test_text_with_parallel_labels(tmp_path: Path) -> None:
    (tmp_path / "a_labels.txt").write_text("1\n0\n1")
    options: Any = {"label_files": (str(tmp_path / "a_labels.txt"),)}
    assert cells(read(tmp_path / "a_text.txt", "x\ny\nz\n", **options)) == {
        "text": ["x", "y", "z"],
        "label": ["1", "0", "1"],
    }
    rows = read(tmp_path / "b_text.txt", b"x\n\xffy\nz\n", on_bad_row="skip", **options)
    assert cells(rows) == {"text": ["x", "z"], "label": ["1", "1"]}
    with pytest.raises(DataError, match=r"c_text.txt has 2 lines, its label file a_labels.txt has 3"):
        read(tmp_path / "c_text.txt", "x\ny\n", **options)


# --- several files ---------------------------------------------------------------------------------------------------


@pytest.mark.parity("TW-10")
def test_patterns_lists_and_places(tmp_path: Path) -> None:
    for name, text in (("b/x.csv", "b"), ("a/x.csv", "a"), ("a/y.csv", "c")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text,label\n{text},1\n")
    rows = read_source(FilesSource(files=(str(tmp_path / "*" / "*.csv"),)))
    assert cells(rows)["text"] == ["a", "c", "b"]
    assert [rows.place(index) for index in range(3)] == ["a/x.csv, line 2", "y.csv, line 2", "b/x.csv, line 2"]
    assert rows.source == "a/x.csv and 2 more files"
    # The order of a list is kept; a file that two patterns match is read once.
    listed = read_source(FilesSource(files=(str(tmp_path / "b" / "x.csv"), str(tmp_path / "*" / "x.csv"))))
    assert cells(listed)["text"] == ["b", "a"]


def test_columns_that_differ_between_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,only_a\nx,1,2\n")
    (tmp_path / "b.csv").write_text("label,text\n0,y\n")
    section = FilesSource(files=(str(tmp_path / "*.csv"),))
    rows = read_source(section)
    assert cells(rows) == {"text": ["x", "y"], "label": ["1", "0"]}
    with pytest.raises(DataError, match=r"column 'only_a' cannot be used: it is in a.csv but not in b.csv"):
        read_source(section.model_copy(update={"select": ("only_a",)}))
    (tmp_path / "c.jsonl").write_text('{"text": "z", "label": 2.5}\n')
    mixed = read_source(FilesSource(files=(str(tmp_path / "*.*"),)))
    assert list(cells(mixed)) == ["text"]
    assert mixed.dropped["label"] == "it holds large_string in a.csv but double in c.jsonl"


def test_json_numbers_of_different_files_join(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1, "l": []}\n')
    (tmp_path / "b.jsonl").write_text('{"n": 2.5, "l": ["x"]}\n')
    rows = read_source(FilesSource(files=(str(tmp_path / "*.jsonl"),)))
    assert cells(rows) == {"n": [1.0, 2.5], "l": [[], ["x"]]}


def test_files_without_rows_have_no_say(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "c.csv").write_text("other\n")
    assert cells(read_source(FilesSource(files=(str(tmp_path / "*"),)))) == {"text": ["x"]}


def test_objects_of_different_files_join_or_are_dropped(tmp_path: Path) -> None:
    for name, value in (("a", {"x": 1}), ("b", {"x": "one"})):
        pq.write_table(pa.table({"text": [name], "object": [value]}), tmp_path / f"{name}.parquet")
    rows = read_source(FilesSource(files=(str(tmp_path / "*.parquet"),)))
    assert cells(rows) == {"text": ["a", "b"]}
    assert rows.dropped["object"] == "it holds struct<x: int64> in a.parquet but struct<x: string> in b.parquet"


def test_parquet_joins_csv(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["1"]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("text,label\nb,0\n")
    rows = read_source(FilesSource(files=(str(tmp_path / "*.*"),)))
    assert cells(rows) == {"text": ["a", "b"], "label": ["1", "0"]}
    (tmp_path / "c.csv").write_text("other\nb\n")
    with pytest.raises(
        DataError,
        match=r"share no column: a.parquet has 'text', 'label', b.csv has 'text', 'label', c.csv has 'other'",
    ):
        read_source(FilesSource(files=(str(tmp_path / "*.*"),)))


def test_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(_CSV,))
    writer.start()
    rows = read(path)
    writer.join()
    assert cells(rows)["text"] == ["good", "bad", "fine"]


@pytest.mark.parity("TW-11")
def test_concat(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(_CSV)
    (tmp_path / "b.tsv").write_text("sentence\tlabel\nmeh\t0\n")
    first = FilesSource(files=(str(tmp_path / "a.csv"),), take=2)
    second = FilesSource(files=(str(tmp_path / "b.tsv"),), rename={"sentence": "text"})
    rows = read_source(ConcatSource(sources=(first, second), select=("text",)))
    assert cells(rows) == {"text": ["good", "bad", "meh"]}
    assert rows.place(2) == "b.tsv, line 2"
    assert rows.source == "a.csv + b.tsv"


# --- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parity("TW-11")
def test_where_rename_select_take(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(_CSV)
    rows = read(tmp_path / "a.csv", where={"label": ("1",)}, rename={"text": "body"}, select=("body",), take=5)
    assert cells(rows) == {"body": ["good", "fine"]}
    assert [rows.place(index) for index in range(2)] == ["a.csv, line 2", "a.csv, line 4"]
    assert cells(read(tmp_path / "a.csv", take=1))["text"] == ["good"]


def test_replace_gives_a_column_other_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("premise,gold\na,contradictory\nb,neutral\nc,contradictory\n")
    values = {"label": {"contradictory": "contradiction", "unseen": "other"}}
    rows = read(tmp_path / "a.csv", rename={"gold": "label"}, replace=values, select=("label",))
    assert cells(rows) == {"label": ["contradiction", "neutral", "contradiction"]}
    content = '{"n": 1, "flag": true}\n{"n": 2, "flag": null}\n'
    assert cells(read(tmp_path / "a.jsonl", content, replace={"n": {"1": "one"}}))["n"] == ["one", "2"]
    assert cells(read(tmp_path / "a.jsonl", replace={"flag": {"true": "yes"}}))["flag"] == ["yes", None]
    nested = '{"n": [1], "text": "a"}\n{"n": [2], "text": "b"}\n'
    with pytest.raises(DataError, match="replace needs a column of plain values"):
        read(tmp_path / "b.jsonl", nested, replace={"n": {"1": "one"}})


def test_where_compares_as_text(tmp_path: Path) -> None:
    content = '{"flag": true, "n": 1}\n{"flag": false, "n": 2}\n'
    assert cells(read(tmp_path / "a.jsonl", content, where={"flag": ("True",)}))["n"] == [1]
    assert cells(read(tmp_path / "a.jsonl", where={"n": ("2", "3")}))["n"] == [2]
    with pytest.raises(DataError, match="no row has '3' in column 'n'; found there: '1', '2'"):
        read(tmp_path / "a.jsonl", where={"n": ("3",)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"where": {"labl": ("1",)}},
            "a.csv has no column 'labl'; columns found: 'text', 'label'. Did you mean 'label'?",
        ),
        ({"select": ("texts",)}, "Did you mean 'text'? Set select"),
        ({"rename": {"x": "y"}}, "a.csv has no column 'x'"),
        ({"replace": {"labl": {"1": "one"}}}, "Did you mean 'label'? Set replace"),
        ({"rename": {"text": "label"}}, "rename makes two columns named 'label'"),
    ],
)
def test_selection_of_missing_columns(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv", _CSV, **options)
    assert message in str(caught.value)


def test_shuffle_is_seeded_and_keeps_places(tmp_path: Path) -> None:
    content = "text\n" + "".join(f"row {index}\n" for index in range(100))
    rows = read(tmp_path / "a.csv", content, shuffle=True, shuffle_seed=3, take=10)
    assert len(rows) == 10
    again = read(tmp_path / "a.csv", shuffle=True, shuffle_seed=3, take=10)
    assert again.fingerprint == rows.fingerprint
    assert read(tmp_path / "a.csv", shuffle=True, shuffle_seed=4, take=10).fingerprint != rows.fingerprint
    for index, text in enumerate(cells(rows)["text"]):
        assert rows.place(index) == f"a.csv, line {int(text.split()[1]) + 2}"


def test_permutation_is_the_same_everywhere() -> None:
    assert Draws.of_seed(0).permutation(8).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert Draws.of_seed(0).permutation(0).tolist() == []
    assert np.array_equal(np.sort(Draws.of_seed(7).permutation(1000)), np.arange(1000))


# --- saved and hub data sets, Python ---------------------------------------------------------------------------------


def test_saved_data_set(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    data.save_to_disk(str(tmp_path / "one"))
    rows = read_source(SavedSource(folder=str(tmp_path / "one")))
    assert cells(rows) == {"text": ["a", "b", "c"], "label": [1, 0, 1]}
    assert rows.class_names == {"label": ("neg", "pos")}
    assert rows.place(2) == "one, row 3"
    datasets.DatasetDict({"train": data, "test": data.select([2, 0])}).save_to_disk(str(tmp_path / "two"))
    assert cells(read_source(SavedSource(folder=str(tmp_path / "two"), split="test")))["text"] == ["c", "a"]
    renamed = read_source(SavedSource(folder=str(tmp_path / "two"), split="train", rename={"label": "y"}))
    assert renamed.class_names == {"y": ("neg", "pos")}
    replaced = read_source(SavedSource(folder=str(tmp_path / "one"), replace={"label": {"pos": "good"}}))
    assert cells(replaced)["label"] == ["good", "neg", "good"] and replaced.class_names == {}
    for section, message in (
        (SavedSource(folder=str(tmp_path / "two")), "holds the splits train, test"),
        (SavedSource(folder=str(tmp_path / "two"), split="dev"), "has no split 'dev'"),
        (SavedSource(folder=str(tmp_path / "one"), split="train"), "without splits"),
        (SavedSource(folder=str(tmp_path / "three")), "does not exist"),
        (SavedSource(folder=str(tmp_path)), "not a folder saved by the datasets library"),
    ):
        with pytest.raises(DataError, match=message):
            read_source(section)


def test_what_only_the_datasets_library_reads_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # as where it is not installed
    for section in (SavedSource(folder=str(tmp_path)), HubSource(name="somebody/something")):
        with pytest.raises(
            DataError, match=r"need the Python package datasets.*`pip install \"textune\[datasets\]\"`"
        ):
            read_source(section)


@pytest.mark.parity("HF-04")
def test_local_data_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text(_CSV)
    rows = read_source(HubSource(name=str(tmp_path / "set"), split="train"))
    assert cells(rows)["text"] == ["good", "bad", "fine"]
    with pytest.raises(DataError, match="cannot be loaded"):
        read_source(HubSource(name=str(tmp_path / "set"), split="dev"))
    with pytest.raises(DataError, match="cannot be loaded"):
        read_source(HubSource(name="nobody/nothing-at-all"))


_MODULE = """
import numpy as np, pyarrow as pa
def records(num=2):
    for index in range(num):
        yield {"text": f"row {index}", "label": np.int64(index), "scores": np.ones(2)}
def table(): return pa.table({"text": ["a"]})
class Source:
    def __init__(self, *, path): self.path = path
    def __iter__(self): return iter([{"text": self.path}])
def text(): return "abc"
def nothing(): return []
def odd(): return [{"text": "a"}, ["b"], {1: "c"}, {}]
def failing(): return 1 / 0
def failing_later():
    yield {"text": "a"}
    yield {"text": 1 / 0}
number = 3
def three(): return [("a", 0), {"text": "b", "label": 1}], [("c", 1)], None
"""


def test_python_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_source.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_source", None)

    def run(name: str, **options: Any) -> dict[str, list[Any]]:
        return cells(read_source(PythonSource(object=f"own_source:{name}", options=options)))

    assert run("records", num=1) == {"text": ["row 0"], "label": [0], "scores": [[1.0, 1.0]]}
    assert run("table") == {"text": ["a"]}
    assert run("Source", path="p") == {"text": ["p"]}
    odd = read_source(PythonSource(object="own_source:odd"), on_bad_row="skip")
    assert [row.place for row in odd.skipped] == [f"own_source:odd, row {row}" for row in (2, 3, 4)]
    for name, options, message, kind in (
        ("record", {}, "has no 'record'. Did you mean 'records'?", CodeError),
        ("records", {"n": 1}, "does not take (n=...)", CodeError),
        ("number", {}, "is an int, not a class or function", CodeError),
        ("text", {}, "returned a str, not a table", DataError),
        ("nothing", {}, "holds no rows", DataError),
    ):
        with pytest.raises(kind) as caught:
            run(name, **options)
        assert message in str(caught.value)
    for name, line in (("failing", 13), ("failing_later", 16)):
        with pytest.raises(CodeError) as failed:
            run(name)
        assert failed.value.place == f"{tmp_path / 'own_source.py'}, line {line}"
        assert "ZeroDivisionError" in failed.value.reason
    with pytest.raises(CodeError, match="cannot be imported: No module named 'no_such_module'"):
        read_source(PythonSource(object="no_such_module:x"))


def test_one_of_several_sets_of_rows_that_are_tuples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_parts", None)

    def run(part: int, *names: str, name: str = "three") -> dict[str, list[Any]]:
        return cells(read_source(PythonSource(object=f"own_parts:{name}", part=part, column_names=names)))

    assert run(0, "text", "label") == {"text": ["a", "b"], "label": [0, 1]}
    assert run(1, "text", "label") == {"text": ["c"], "label": [1]}
    for part, names, name, message in (
        (3, ("text", "label"), "three", "it returned 3 sets of rows, and part = 3 is asked for"),
        (0, ("text",), "three", "row 1 is 2 values, and column_names has 1 name"),
        (0, ("text",), "text", "it returned a str, and part = 0 is asked for"),
    ):
        with pytest.raises(CodeError) as caught:
            run(part, *names, name=name)
        assert message in str(caught.value)


# --- files left out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), ["a", "c", "b"]),
        (("y.csv",), ["a", "b"]),
        (("x.csv",), ["c"]),
        (("a/x.csv",), ["c", "b"]),
        (("a/*",), ["b"]),
        (("?/y.csv", "b/*.csv"), ["a"]),
        (("./b/[xz].csv",), ["a", "c"]),
    ],
)
def test_files_are_left_out_by_the_end_of_their_path(
    tmp_path: Path, exclude: tuple[str, ...], left: list[str]
) -> None:
    for name, text in (("b/x.csv", "b"), ("a/x.csv", "a"), ("a/y.csv", "c")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text,label\n{text},1\n")
    section = FilesSource(files=(str(tmp_path / "*" / "*.csv"),), exclude=exclude)
    rows = read_source(section)
    assert cells(rows)["text"] == left
    if len(left) == 1:  # as if the others had never been named
        assert rows.source in {"x.csv", "y.csv"}
    whole = read_source(section.model_copy(update={"exclude": (str(tmp_path / "a" / "x.csv"),)}))
    assert cells(whole)["text"] == ["c", "b"]


@pytest.mark.parametrize("exclude", ["z.csv", "c/x.csv", "x", "X.CSV", "", ".", "*/a/x.csv/*", "../x.csv"])
def test_a_pattern_that_leaves_out_nothing_is_refused(tmp_path: Path, exclude: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.csv").write_text("text,label\na,1\n")
    (tmp_path / "a" / "y.csv").write_text("text,label\na,1\n")
    section = FilesSource(files=(str(tmp_path / "*" / "*.csv"),), exclude=("y.csv", exclude))
    with refused(DataError, key="exclude", value=exclude, reason="it names no file"):
        read_source(section)


def test_files_that_are_all_left_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\na,1\n")
    (tmp_path / "y.csv").write_text("text,label\na,1\n")
    section = FilesSource(files=(str(tmp_path / "*.csv"),), exclude=("x.csv", "*.csv"))
    with refused(DataError, key="exclude", value="x.csv, *.csv", reason="no file is left"):
        read_source(section)


def test_a_file_left_out_takes_its_labels_with_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
        (tmp_path / f"{name}.label").write_text(f"{name.upper()}\n")
    section = FilesSource(
        files=(str(tmp_path / "*.txt"),), label_files=(str(tmp_path / "*.label"),), exclude=("b.txt",)
    )
    assert cells(read_source(section)) == {"text": ["a", "c"], "label": ["A", "C"]}
