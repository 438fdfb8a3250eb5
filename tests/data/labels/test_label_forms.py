"""Labels as people and programs write them: one reading in every form, or a sentence that says what is wrong and what
to do."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kits.errors import refused
from kits.rows import examples_of, rows_of

from textune.config.sources import Absent, Columns, DataSection, FilesSource, Labels, StreamSource
from textune.data.columns import select_columns
from textune.data.inspect.audit import audit_data
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.labels.map import LabelMap
from textune.data.prepare import prepare_data, prepare_held_out
from textune.data.prepared import PreparedData
from textune.data.reading.listtext import read_lists
from textune.errors import DataError


def _csv(path: Path, labels: list[Any], column: str = "label") -> Path:
    pd.DataFrame({"text": [f"text {index} of {path.stem}" for index in range(len(labels))], column: labels}).to_csv(
        path, index=False
    )
    return path


def _source(*paths: Path) -> FilesSource:
    return FilesSource(files=tuple(map(str, paths)))


def _prepare(train: Path, *, validation: Path | None = None, kind: str = "auto", **section: Any) -> PreparedData:
    own = Absent() if validation is None else _source(validation)
    return prepare_data(DataSection(train=_source(train), validation=own, **section), kind=kind)


def _message(labels: list[Any], *, others: tuple[list[Any], ...] = (), kind: str = "auto", **section: Any) -> str:
    held_out = [examples_of(other, source="dev.csv") for other in others]
    with pytest.raises(DataError) as caught:
        infer_labels(examples_of(labels), held_out, Labels(**section), kind=kind)
    return str(caught.value)


# --- lists written as text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        ("[0, 1, 1]", ("0", "1", "1")),
        ("[0 1 1]", ("0", "1", "1")),
        ("[0. 1. 0.5]", ("0.0", "1.0", "0.5")),
        ("[ True False]", ("true", "false")),
        ("[true, false]", ("true", "false")),
        ("(0, 1)", ("0", "1")),
        ("(3,)", ("3",)),
        ("['joy', 'anger']", ("joy", "anger")),
        ('["joy", "anger"]', ("joy", "anger")),
        ("['joy' 'anger']", ("joy", "anger")),
        ("['joy'\n 'anger']", ("joy", "anger")),
        ("['very sad', \"don't care\"]", ("very sad", "don't care")),
        ("['a, b' 'c']", ("a, b", "c")),
        ('["caf\\u00e9", "say \\"x\\""]', ("café", 'say "x"')),
        ("{'joy', 'anger'}", ("joy", "anger")),
        ("array(['joy', 'anger'], dtype=object)", ("joy", "anger")),
        ("[np.int64(2), np.int64(0)]", ("2", "0")),
        ("[np.str_('joy')]", ("joy",)),
        ("[None, 'joy']", (None, "joy")),
        ("[]", ()),
        ("set()", ()),
        ("[joy, very sad]", ("joy", "very sad")),
        ("{joy,anger}", ("joy", "anger")),
        ("[very sad; joy]", ("very sad", "joy")),
        ('{joy,"very sad"}', ("joy", "very sad")),
    ],
)
def test_forms_of_lists(cell: str, entries: tuple[str | None, ...]) -> None:
    assert read_lists([cell], None) == [entries]


@pytest.mark.parametrize(
    "cell",
    [
        "[NEG]",
        "[very good]",
        "(bad)",
        "(good, bad)",
        "[0, [1]]",
        "{'a': 1}",
        "[0 1 ... 1]",
        "['joy",
        "joy]",
        "[a] or [b]",
        "",
    ],
)
def test_what_is_no_list(cell: str) -> None:
    assert read_lists([cell], None) in ([], [None])


def test_an_empty_list_tells_that_the_others_are_lists() -> None:
    for cells in (["[a]", "[b]", "[]"], ["{a}", "{b}", "{}"]):
        assert infer_labels(examples_of(cells), [], Labels())[0] == LabelMap("multilabel", ("a", "b"), multi_hot=False)


@pytest.mark.parametrize(
    "cells",
    [
        ["[[1], [2]]", "[[1]]"],
        ["{'a': 1}", "{'a': 0}"],
        ["[0 1 ... 1]", "[1 1 ... 0]"],
        ["tensor([0, 1])", "tensor([1, 0])"],
        ["['a']", "a", "b"],
        ["(good, bad)", "bad"],
    ],
)
def test_names_that_look_like_lists_are_told(cells: list[str]) -> None:
    _, notes = infer_labels(examples_of(["x", *cells] if cells[0] != "['a']" else cells), [], Labels())
    assert any(f"in train.csv, such as {cells[0]!r}" in note or f"such as '{cells[0]}'" in note for note in notes), (
        notes
    )
    held_out = examples_of(cells, source="dev.csv")
    assert any(
        "in dev.csv, such as" in note for note in infer_labels(examples_of([*cells, "x"]), [held_out], Labels())[1]
    )


def test_names_in_brackets_that_are_no_lists_are_not_told() -> None:
    for cells in (["[NEG]", "[POS]"], ["(bad)", "(good)"], ["good (very, very)", "bad"], ["a, b", "[c] or [d], e"]):
        assert infer_labels(examples_of(cells), [], Labels())[1] == ()


def test_hashes_are_ids_though_some_are_numbers() -> None:
    assert "looks like an id" in _message([f"{index:08x}" for index in range(40)])


def test_whole_numbers_name_the_file_that_has_them() -> None:
    _, notes = infer_labels(examples_of(["0", "1"]), [examples_of(["0.0", "1.0"], source="dev.csv")], Labels())
    assert "dev.csv: label column 'label' holds whole numbers such as '0.0'" in notes[0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("lists", "names", "targets", "multi_hot"),
    [
        ([[0, 1, 1], [1, 1, 0], [0, 0, 0]], ("0", "1", "2"), [[0, 1, 1], [1, 1, 0], [0, 0, 0]], True),
        ([["joy", "anger"], ["joy"], []], ("anger", "joy"), [[1, 1], [0, 1], [0, 0]], False),
        ([[2, 10], [0], [2]], ("0", "2", "10"), [[0, 1, 1], [1, 0, 0], [0, 1, 0]], False),
    ],
)
def test_lists_written_as_text_are_lists(
    tmp_path: Path, suffix: str, lists: list[Any], names: tuple[str, ...], targets: list[Any], multi_hot: bool
) -> None:
    path = tmp_path / f"d{suffix}"
    for write in (str, json.dumps, lambda one: str(np.array(one))):
        cells = [write(one) for one in lists]
        table = pd.DataFrame({"text": ["a", "b", "c"], "label": cells})
        if suffix == ".parquet":
            table.to_parquet(path)
        elif suffix == ".jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",", quoting=0)
        source = _source(path).model_copy(update={"quoting": "standard"} if suffix in {".csv", ".tsv"} else {})
        data = prepare_data(DataSection(train=source, validation=Absent()), kind="auto")
        assert data.label_map == LabelMap("multilabel", names, multi_hot=multi_hot)
        assert data.train.targets["label"].tolist() == targets
        assert any("holds lists written as text, such as '[" in note for note in data.notices)
        again = prepare_held_out(
            source, columns=Columns(), labels=Labels(), label_maps={"label": data.label_map}, on_bad_row="error"
        )
        assert again.targets["label"].tolist() == targets


def test_lists_as_text_and_a_delimiter_or_names() -> None:
    cells = ["[joy,anger]", "[joy]", "[]"]
    for section in ({"delimiter": ","}, {"delimiter": ";"}):
        label_map, _ = infer_labels(examples_of(cells), [], Labels(**section))
        assert label_map.names == ("anger", "joy")
    assert infer_labels(examples_of(["[a;b]", "[b]"]), [], Labels(delimiter=";"))[0].names == ("a", "b")
    # Names in brackets stay names where they are listed, and where each stands alone.
    assert infer_labels(examples_of(["[a, b]", "[c]"]), [], Labels(names=("[a, b]", "[c]")))[0].problem == "binary"
    assert infer_labels(examples_of(["[POS]", "[NEG]"]), [], Labels())[0].names == ("[NEG]", "[POS]")
    message = _message(["['a', 'b']", "['a']", "b", "['b']"])
    assert "holds lists written as text, such as '['a', 'b']', but also 'b' (train.csv, line 4). Write all" in message
    message = _message(["['a', 'b']", "['a']"], kind="multiclass")
    assert (
        "several labels per row (lists written as text, such as '['a', 'b']'), but task.kind is multiclass" in message
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_that_hold_a_python_list_are_read_as_python_reads_them(tmp_path: Path, suffix: str) -> None:
    """The form of AzureML's multilabel data, which it reads by `ast.literal_eval`."""
    lists = [["joy", "it's"], ["a,b"], [], ['so "called"', "joy"], ["joy"]]
    path = tmp_path / f"train{suffix}"
    frame = pd.DataFrame({"text": list("vwxyz"), "label": [str(one) for one in lists]})
    frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert [ast.literal_eval(cell) for cell in frame["label"]] == lists
    data = _prepare(path, kind="multilabel")
    names, hot = data.label_map.names, data.train.targets["label"]
    found = [{names[index] for index in np.flatnonzero(row)} for row in hot]
    order = [data.train.examples.text.to_pylist().index(text) for text in "vwxyz"]
    assert [found[index] for index in order] == [set(one) for one in lists]


@pytest.mark.parametrize(
    "cell",
    [
        "['a', 'b'",
        "['a', ['b']]",
        "{'a': 1}",
        "['a', __import__('os')]",
        "b",
        "['a' + 'b']",
        "['a', ...]",
        "['a'] * 2",
    ],
)
def test_a_cell_among_lists_that_is_none_is_refused_with_its_row(tmp_path: Path, cell: str) -> None:
    path = _csv(tmp_path / "train.csv", ["['a']", "['a', 'b']", cell, "['b']"])
    with refused(DataError, place="train.csv, line 4", value=cell):
        _prepare(path, kind="multilabel")


# --- a class for each of several tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[[2, 0, 1], [1, 1, 0], [0, 2, 2]], ["[2, 0, 1]", "[1, 1, 0]", "[0, 2, 2]"]])
@pytest.mark.parametrize("kind", ["auto", "multilabel"])
def test_a_class_for_each_of_several_tasks(labels: list[Any], kind: str) -> None:
    message = _message(labels, kind=kind)
    assert "lists of 3 integers, such as [1, 1, 0]: they seem to give one class for each of 3 tasks" in message
    assert 'task.kind = "multitask" and task.group_sizes = [3, 3, 3]' in message


def test_ids_of_one_length() -> None:
    labels = [[2, 0], [1, 3], [0, 1]]
    assert 'If they are ids of labels, set task.kind = "multilabel"' in _message(labels)
    label_map, _ = infer_labels(examples_of(labels), [], Labels(), kind="multilabel")
    assert label_map.names == ("0", "1", "2", "3")
    names = ("a", "b", "c", "d")
    assert infer_labels(examples_of(labels), [], Labels(names=names))[0] == LabelMap(
        "multilabel", names, multi_hot=False
    )


# --- true and false --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("true", "false")])
def test_true_and_false_are_one_pair_in_every_file(tmp_path: Path, turned: bool, words: tuple[str, str]) -> None:
    plain = tmp_path / "t.jsonl"
    plain.write_text("".join(json.dumps({"text": f"t {n}", "label": n % 2 == 0}) + "\n" for n in range(4)))
    written = _csv(tmp_path / "v.csv", [*words, *words])
    train, validation = (written, plain) if turned else (plain, written)
    data = _prepare(train, validation=validation)
    assert data.label_map == LabelMap("binary", ("false", "true"))
    assert data.validation is not None
    assert data.train.targets["label"].tolist() == data.validation.targets["label"].tolist() == [1, 0, 1, 0]
    both = prepare_data(DataSection(train=_source(train, validation), validation=Absent()), kind="auto")
    assert both.train.targets["label"].tolist() == [1, 0] * 4
    if words[0] != "true":
        assert "Labels are read as 'false' and 'true', ignoring case: " in " ".join(data.notices)


def test_truth_beside_a_model_of_another_spelling() -> None:
    names = ("False", "True")
    for labels in ([True, False], ["true", "FALSE"], ["True", "False"]):
        assert encode_labels(examples_of(labels), LabelMap("binary", names), Labels())[1].tolist() == [1, 0]
    # Alone, the file's own spelling stays.
    assert infer_labels(examples_of(["True", "False"]), [], Labels())[0].names == names


# --- labels that look alike ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "what"),
    [
        ("Pos", "pos", "Labels 'Pos' (3 rows) and 'pos' (2 rows) differ only in case, but count as 2 classes."),
        (
            "café",
            "cafe\u0301",
            "'café' (3 rows) and 'cafe\u0301' ('cafe\\u0301') (2 rows) differ only in Unicode form",
        ),
        ("ﬁne", "fine", "differ only in Unicode form"),
        (
            "pos",
            "pos\u200b",
            "'pos' (3 rows) and 'pos\\u200b' ('pos\\u200b') (2 rows) differ only in invisible characters",
        ),
        ("very good", "very\u00a0good", "differ only in Unicode form"),
        ("very good", "very  good", "'very good' (3 rows) and 'very  good' (2 rows) differ only in spaces"),
        ("True", "true", "'True' (3 rows) and 'true' (2 rows) differ only in case"),
        ("Straße", "strasse", "differ only in case"),
    ],
)
def test_labels_that_look_alike(tmp_path: Path, one: str, two: str, what: str) -> None:
    data = _prepare(_csv(tmp_path / "d.csv", [one, two, "other", one, two, one]))
    findings = [finding for finding in audit_data(data) if finding.code == "labels-alike"]
    assert [(finding.level, finding.count) for finding in findings] == [("warning", 5)]
    assert what in findings[0].message
    assert findings[0].message.endswith("If they mean the same, spell them alike in the data.")


def test_labels_that_do_not_look_alike(tmp_path: Path) -> None:
    data = _prepare(_csv(tmp_path / "d.csv", ["a-b", "ab", "a b", "-1x", "1x"] * 2))
    assert not [finding for finding in audit_data(data) if finding.code == "labels-alike"]


def test_integers_with_zeros_in_front_look_alike(tmp_path: Path) -> None:
    data = _prepare(_csv(tmp_path / "d.csv", ["01", "1", "2", "-1"] * 2))
    assert [finding.count for finding in audit_data(data) if finding.code == "labels-alike"] == [4]


def test_no_validation_label_occurs_in_training(tmp_path: Path) -> None:
    train, validation = (
        _csv(tmp_path / "t.csv", ["Pos", "Neg", "Pos"]),
        _csv(tmp_path / "v.csv", ["pos", "neg", "pos"]),
    )
    with pytest.raises(DataError) as caught:
        _prepare(train, validation=validation)
    assert str(caught.value).startswith(
        "No label of v.csv occurs in training: it has 'neg', 'pos', and t.csv has 'Neg', 'Pos'."
    )
    lists = [
        _csv(tmp_path / f"{name}.csv", ["a|b".upper() if name == "x" else "a|b", "b" if name == "y" else "A"])
        for name in "xy"
    ]
    with pytest.raises(DataError, match=r"No label of y.csv occurs in training"):
        _prepare(lists[0], validation=lists[1], labels=Labels(delimiter="|"))


def test_no_validation_label_occurs_in_the_first_rows_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        "".join(f'{{"text": "text {index}", "label": "{("pos", "neg")[index % 2]}"}}\n' for index in range(8))
    )
    held_out = _source(_csv(tmp_path / "v.csv", ["Pos", "Neg"]))
    data = prepare_data(DataSection(train=StreamSource(files=(str(path),)), validation=held_out), kind="auto")
    assert any(
        note.startswith("No label of v.csv occurs in the first 8 training rows: it has") for note in data.notices
    )


# --- ids and mixed kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [list(range(400)), [f"T-{n:05}" for n in range(400)], [2**63 + n for n in range(400)]])
def test_ids_as_labels_come_before_any_complaint_about_a_split(tmp_path: Path, ids: list[Any]) -> None:
    path = _csv(tmp_path / "tickets.csv", ids, column="ticket_id")
    with pytest.raises(DataError) as caught:
        prepare_data(DataSection(train=_source(path), columns=Columns(label="ticket_id")), kind="auto")
    assert str(caught.value).startswith(
        "`ticket_id` has 400 distinct values in 400 rows of tickets.csv. It looks like an id, not a label. Set data."
    )


def test_few_rows_of_as_many_classes_are_no_ids() -> None:
    assert len(infer_labels(examples_of([f"class {n}" for n in range(19)]), [], Labels())[0].names) == 19
    assert len(infer_labels(examples_of([n // 2 for n in range(40)]), [], Labels())[0].names) == 20


def test_mixed_kinds_name_the_file_that_holds_each(tmp_path: Path) -> None:
    train, validation = _csv(tmp_path / "t.csv", ["1", "0", "1"]), _csv(tmp_path / "v.csv", ["pos", "neg"])
    expected = "t.csv holds 3 numbers, such as '0', '1'; v.csv holds 2 names, such as 'neg', 'pos'."
    with pytest.raises(DataError) as caught:
        _prepare(train, validation=validation)
    assert str(caught.value).startswith(f"Labels of mixed kinds in column 'label': {expected}")
    with pytest.raises(DataError) as caught:
        prepare_data(DataSection(train=_source(train, validation), validation=Absent()), kind="auto")
    assert expected in str(caught.value)
    both = _csv(tmp_path / "w.csv", ["pos", "1", "pos"])
    with pytest.raises(DataError) as caught:
        _prepare(train, validation=both)
    assert "w.csv holds 1 number, such as '1', and 2 names, such as 'pos'" in str(caught.value)


# --- numbers as people write them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [["0", "1,000", "2,000"], ["0", "1.000,5", "2.000,5"], ["0", "1 000", "2\u00a0000"], ["0", "0,5", "1,5"]]
)
def test_numbers_with_commas_come_first(labels: list[str]) -> None:
    advice = "Write numbers plainly, with a decimal point and no thousands separator: 1000 or 0.5."
    message = _message(labels, kind="regression")
    assert (
        f"holds something other than numbers: 2 labels of 3, such as '{labels[1]}'; every number is 0. {advice}"
        in message
    )
    assert advice in _message(labels)
    assert advice in _message(labels[1:], kind="regression")
    with pytest.raises(DataError) as caught:
        encode_labels(examples_of([*labels, "3"]), LabelMap("regression", ("score",)), Labels())
    assert "is not a finite number" in str(caught.value)
    assert advice in str(caught.value)


def test_numbers_with_commas_only() -> None:
    message = _message(["0,5", "1,5", "0,5"])
    assert "holds values such as '0,5', which cannot be read as numbers. Write numbers plainly" in message
    assert "If a cell holds several labels, set data.labels.delimiter" in message
    assert infer_labels(examples_of(["0,5", "1,5"]), [], Labels(names=("0,5", "1,5")))[0].names == ("0,5", "1,5")


# --- types inside lists ----------------------------------------------------------------------------------------------

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_RUNS = pa.RunEndEncodedArray.from_arrays([1, 2, 4], pa.array(["a", "b", None]))


@pytest.mark.parametrize(
    "label",
    [
        pa.array([["a"], ["b"], ["a", "b"], []], pa.list_(_DICTIONARY)),
        pa.array([["a"], ["b"], ["a", "b"], []], pa.large_list(_DICTIONARY)),
        pa.array([["a"], ["b"], ["a", "b"], []], pa.list_view(pa.string())),
        pa.array([["a"], ["b"], ["a", "b"], []], pa.large_list_view(pa.string_view())),
        pa.array([[b"a"], [b"b"], [b"a", b"b"], []], pa.list_(pa.binary())),
        pa.array([["x", "b"], ["a"], ["b"], ["a", "b"], []], pa.list_view(_DICTIONARY)).slice(1),
        pa.ListArray.from_arrays(
            [0, 1, 2, 4, 4], pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], pa.array(list("abab")))
        ),
    ],
    ids=lambda label: str(label.type)[:40],
)
@pytest.mark.parametrize("whole", [False, True])
def test_types_inside_lists(tmp_path: Path, label: pa.Array, whole: bool) -> None:
    path = tmp_path / "d.arrow"
    table = pa.table(
        {"text": list("wxyz"), "label": pa.chunked_array([label] if whole else [label.slice(0, 2), label.slice(2)])}
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    data = _prepare(path)
    assert data.label_map == LabelMap("multilabel", ("a", "b"), multi_hot=False)
    assert data.train.targets["label"].tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    shuffled = prepare_data(
        DataSection(train=_source(path).model_copy(update={"shuffle": True, "take": 3}), validation=Absent()),
        kind="auto",
    )
    assert len(shuffled.train) == 3


@pytest.mark.parametrize(
    "label",
    [
        pa.array(["a", "b", None, None]).dictionary_encode(),
        _RUNS,
        pa.array([b"a", b" b", None, b""]),
        pa.array([b"a", b"b", None, b""], pa.binary_view()),
        pa.array([b"a", b"b", None, None], pa.binary(1)),
    ],
    ids=lambda label: str(label.type)[:40],
)
def test_types_at_the_top(tmp_path: Path, label: pa.Array) -> None:
    path = tmp_path / "d.arrow"
    table = pa.table({"text": list("wxyz"), "label": label})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    data = _prepare(path, on_bad_row="skip")
    assert data.train.targets["label"].tolist() == [0, 1]
    assert len(data.skipped) == 2


def test_bytes_that_are_no_text() -> None:
    assert "holds bytes that are not UTF-8 text, which cannot be labels" in _message(pa.array([b"\xff", b"a"]))  # type: ignore[arg-type]


# --- labels side by side ---------------------------------------------------------------------------------------------

SIDE = Columns(labels=("toxic", "obscene", "threat"))
ROWS = {"text": ["a", "b", "c", "d"], "toxic": [1, 0, 1, 0], "obscene": [0, 0, 1, 1], "threat": [0, 0, 0, 1]}
HOT = [[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1]]


def _write(path: Path, table: dict[str, Any]) -> Path:
    frame = pd.DataFrame(table)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("no", "yes"), [(0, 1), (False, True), ("no", "yes"), ("N", "Y"), (0.0, 1.0), ("False", "True")]
)
def test_labels_side_by_side(tmp_path: Path, suffix: str, no: Any, yes: Any) -> None:
    table = ROWS | {name: [yes if bit else no for bit in ROWS[name]] for name in SIDE.labels}
    path = _write(tmp_path / f"t{suffix}", table)
    for kind in ("auto", "multilabel"):
        data = _prepare(path, validation=path, columns=SIDE, kind=kind)
        assert data.label_map == LabelMap("multilabel", SIDE.labels, multi_hot=True)
        assert data.validation is not None
        assert data.train.targets["label"].tolist() == data.validation.targets["label"].tolist() == HOT
    again = prepare_held_out(
        _source(path), columns=SIDE, labels=Labels(), label_maps={"label": data.label_map}, on_bad_row="error"
    )
    assert again.targets["label"].tolist() == HOT
    turned = SIDE.model_copy(update={"labels": ("threat", "toxic", "obscene")})
    again = prepare_held_out(
        _source(path), columns=turned, labels=Labels(), label_maps={"label": data.label_map}, on_bad_row="error"
    )
    assert again.targets["label"].tolist() == HOT


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_labels_side_by_side_in_a_stream(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"t{suffix}", ROWS)
    section = DataSection(train=StreamSource(files=(str(path),)), validation=_source(path), columns=SIDE)
    data = prepare_data(section, kind="multilabel")
    assert data.label_map == LabelMap("multilabel", SIDE.labels, multi_hot=True)
    found = dict(zip(data.train.examples.text.to_pylist(), data.train.targets["label"].tolist(), strict=True))
    assert found == dict(zip(ROWS["text"], HOT, strict=True))


def test_two_labels_side_by_side_and_other_names() -> None:
    columns = Columns(labels=("toxic", "threat"))
    examples = select_columns(rows_of(ROWS), columns, with_labels=True)
    label_map, _ = infer_labels(examples, [], Labels())
    assert encode_labels(examples, label_map, Labels())[1].tolist() == [[1, 0], [0, 0], [1, 0], [0, 1]]
    section = Labels(names=("giftig", "drohend"))
    label_map, _ = infer_labels(examples, [], section)
    assert label_map.names == section.names
    assert encode_labels(examples, label_map, section)[1].tolist() == [[1, 0], [0, 0], [1, 0], [0, 1]]
    with pytest.raises(DataError, match="holds rows of 2 entries of 0 and 1, but there are 3 label names"):
        infer_labels(examples, [], Labels(names=("x", "y", "z")))
    with pytest.raises(
        DataError, match=r"several labels per row \(data.columns.labels names several columns\), but task.kind is"
    ):
        infer_labels(examples, [], Labels(), kind="binary")


def test_rows_that_labels_side_by_side_lack() -> None:
    rows = rows_of({"text": list("abcd"), "toxic": ["1", "", "2", "0"], "obscene": ["0", "1", "1", None]})
    columns = Columns(labels=("toxic", "obscene"))
    with pytest.raises(DataError, match=r"train.csv, line 3: the label in column 'toxic' is missing"):
        select_columns(rows, columns, with_labels=True)
    examples = select_columns(rows, columns, with_labels=True, on_bad_row="skip")
    assert [row.reason for row in examples.skipped] == [
        "the label in column 'toxic' is missing",
        "the label in column 'toxic' is '2', which is neither 0 nor 1",
        "the label in column 'obscene' is missing",
    ]
    assert examples.text.to_pylist() == ["a"]


def test_columns_of_classes_belong_to_several_tasks() -> None:
    rows = rows_of({"text": list("ab"), "tone": ["", "neg"], "urgent": ["0", "1"]})
    with pytest.raises(DataError) as caught:
        select_columns(rows, Columns(labels=("tone", "urgent")), with_labels=True)
    assert 'task.kind = "multitask"' in str(caught.value)
    rows = rows_of({"text": list("ab"), "toxic": ["", "1"], "urgent": ["0", "1"]})  # these are of labels
    with pytest.raises(DataError) as caught:
        select_columns(rows, Columns(labels=("toxic", "urgent")), with_labels=True)
    assert "multitask" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"labels": ("toxic",)},
            "names only one column, 'toxic'; multilabel needs two or more. Set data.columns.label = \"toxic\"",
        ),
        ({"labels": ("toxic", "toxic")}, "names 'toxic' more than once"),
        (
            {"labels": ("toxic", "obscen")},
            "no column 'obscen'; columns found: 'text', 'toxic', 'obscene', 'threat'. Did you mean",
        ),
        (
            {"labels": ("toxic", "text")},
            "Column 'text' is both the text and the label. Set data.columns.labels to another.",
        ),
        ({"labels": ("toxic", "threat"), "label": "y"}, "data.columns.label and data.columns.labels are both set"),
    ],
)
def test_columns_that_are_not_side_by_side(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        select_columns(rows_of(ROWS), Columns(**columns), with_labels=True)
    assert message in str(caught.value)
