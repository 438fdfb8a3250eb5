"""How labels are read, ordered and encoded."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.rows import examples_of

from textune.config.sources import Labels
from textune.data.columns import Examples
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.labels.map import LabelMap
from textune.errors import DataError


def _infer(
    labels: Sequence[Any] | pa.Array, *, kind: str = "auto", held_out: Sequence[Any] | None = None, **section: Any
) -> tuple[LabelMap, Any]:
    """The map and the targets of the training rows."""
    train = examples_of(labels)
    others = [] if held_out is None else [examples_of(held_out, source="dev.csv")]
    label_map, _ = infer_labels(train, others, Labels(**section), kind=kind)
    _, targets = encode_labels(train, label_map, Labels(**section))
    return label_map, targets.tolist()


def _notes(labels: Sequence[Any], *, held_out: Sequence[Any] | None = None, **section: Any) -> str:
    others = [] if held_out is None else [examples_of(held_out, source="dev.csv")]
    return " ".join(infer_labels(examples_of(labels), others, Labels(**section), kind="auto")[1])


def _message(labels: Sequence[Any] | pa.Array, *, kind: str = "auto", **section: Any) -> str:
    with pytest.raises(DataError) as caught:
        _infer(labels, kind=kind, **section)
    return str(caught.value)


# --- single labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "problem", "names", "targets"),
    [
        (["pos", "neg", " pos "], "binary", ("neg", "pos"), [1, 0, 1]),
        (["b", "c", "a", "b"], "multiclass", ("a", "b", "c"), [1, 2, 0, 1]),
        ([10, 2, 0, 2], "multiclass", ("0", "2", "10"), [2, 1, 0, 1]),
        (["10", "2", "0"], "multiclass", ("0", "2", "10"), [2, 1, 0]),
        (["-1", "1", "0"], "multiclass", ("-1", "0", "1"), [0, 2, 1]),
        (["02", "1"], "binary", ("1", "02"), [1, 0]),
        ([True, False], "binary", ("false", "true"), [1, 0]),
        (["True", "False"], "binary", ("False", "True"), [1, 0]),
        ([1.0, 0.0, 1.0], "binary", ("0", "1"), [1, 0, 1]),
        (["10.0", "9.0", "9"], "binary", ("9", "10"), [1, 0, 0]),
        ([0.5, 1.0, 2.0], "regression", ("score",), [0.5, 1.0, 2.0]),
        (["5.000", "3.800", "1"], "regression", ("score",), [5.0, pytest.approx(3.8), 1.0]),
        (["1e-3", "2"], "regression", ("score",), [pytest.approx(0.001), 2.0]),
        ([float(value) for value in range(60)], "regression", ("score",), [float(value) for value in range(60)]),
    ],
)
@pytest.mark.parity("HF-07")
def test_automatic_reading(labels: list[Any], problem: str, names: tuple[str, ...], targets: list[Any]) -> None:
    label_map, found = _infer(labels)
    assert (label_map.problem, label_map.names, found) == (problem, names, targets)


def test_types_of_targets() -> None:
    for labels, kind, dtype, dim in (
        (["a", "b"], "auto", np.int64, 1),
        ([0.5, 1.5], "auto", np.float32, 1),
        ([["a"], ["b"]], "auto", np.float32, 2),
    ):
        examples = examples_of(labels)
        label_map, _ = infer_labels(examples, [], Labels(), kind=kind)
        _, targets = encode_labels(examples, label_map, Labels())
        assert targets.dtype == dtype
        assert targets.ndim == dim


def test_whole_numbers_with_a_fraction_are_noted() -> None:
    assert "holds whole numbers such as '1.0', taken as the classes 0, 1; set task.kind" in _notes([1.0, 0.0])
    assert "60 distinct whole numbers written with a fraction: taken as regression" in _notes(
        [float(n) for n in range(60)]
    )
    assert _notes([1, 0]) == ""


@pytest.mark.parametrize("kind", ["names", "integers", "lists"])
def test_map_does_not_depend_on_the_order_of_rows_or_files(kind: str) -> None:
    """Reliability: shuffled rows, other file order, a class missing from validation, integers 0 to 11."""
    tables: dict[str, list[Any]] = {
        "names": [f"class {index}" for index in range(12)],
        "integers": [str(index) for index in range(12)],
        "lists": [[str(index), str((index * 5) % 12)][: 1 + index % 2] for index in range(12)],
    }
    values = tables[kind]
    expected, _ = infer_labels(examples_of(values), [examples_of(values[:3])], Labels())
    for seed in range(5):
        shuffled = random.Random(seed).sample(values, len(values))
        again, _ = infer_labels(examples_of(shuffled[2:]), [examples_of(shuffled[:3])], Labels())
        assert again == expected
    if kind == "integers":
        assert expected.names == tuple(map(str, range(12)))


@pytest.mark.parity("HF-07")
def test_forced_kinds() -> None:
    assert _infer(["1", "2"], kind="regression") == (LabelMap("regression", ("score",)), [1.0, 2.0])
    assert _infer(["a", "b"], kind="multiclass")[0].problem == "multiclass"
    assert _infer(["a", "b"], kind="binary")[0].problem == "binary"


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (
            ["a", "a"],
            "auto",
            "label column 'label' has only one class: 'a' (2 labelled rows). There is nothing to tell apart.",
        ),
        ([True, True], "auto", "has only one class: 'true'"),
        ([3, None], "auto", "has only one class: '3' (1 labelled row)"),
        ([None, ""], "auto", "holds no labels"),
        (["0.5", "0.5"], "auto", "every number is 0.5, so there is nothing to learn"),
        (
            ["1", "2", "unknown", "2"],
            "auto",
            "labels of mixed kinds: 3 numbers, such as '1', '2', and 1 name, such as 'unknown'. Fix the labels, or"
            " list",
        ),
        (["0.5", "good"], "auto", "labels of mixed kinds: 1 number, such as '0.5', and 1 name"),
        (
            ["a", "b", "c"],
            "binary",
            "has 3 classes ('a', 'b', 'c'), but task.kind = binary needs exactly two. Set task.kind",
        ),
        ([0.5, 1.5], "multiclass", "holds numbers such as 0.5, where task.kind = multiclass needs names or integers"),
        (["a", "b"], "regression", "holds no numbers but labels such as 'a'; regression needs numbers"),
        (["a", "b"], "multilabel", "has one label per row, but task.kind is multilabel. Set data.labels.delimiter"),
        ([["a"], ["b"]], "binary", "has several labels per row (the data holds lists), but task.kind is binary"),
        ([["a"], ["b"]], "regression", "holds no numbers"),
        ([["a"], ["a"]], "auto", "has only one label, 'a'"),
        (
            [[0.25], [0.5, 1.0]],
            "auto",
            "holds lists of numbers such as 0.25, which are not labels. Entries of a list are names",
        ),
        (
            [f"free text {n}" for n in range(1500)],
            "auto",
            "1,500 distinct values in 1,500 rows of train.csv. It looks like free text, not a label",
        ),
        (
            [f"text {n % 1200}" for n in range(1500)],
            "auto",
            "1,200 distinct values in 1,500 rows: free text, not a class",
        ),
        (
            [n % 1200 for n in range(1500)],
            "auto",
            "1,200 distinct values in 1,500 rows: a number or an id, not a class",
        ),
        (
            [str(n) for n in range(1500)],
            "auto",
            "1,500 distinct values in 1,500 rows of train.csv. It looks like an id, not a label. Set",
        ),
    ],
)
def test_labels_that_cannot_be_learned(labels: list[Any], kind: str, message: str) -> None:
    assert message in _message(labels, kind=kind)


def test_labels_of_a_foreign_type() -> None:
    dates = pa.array([0, 1], pa.timestamp("s"))
    assert "holds timestamp[s], which cannot be labels" in _message(dates)
    assert "holds list<item: int64>, which cannot be labels" in _message(pa.array([[[1]], [[2]]]))


def test_a_class_too_many_that_only_held_out_rows_have_is_named() -> None:
    with pytest.raises(DataError, match=r"3 classes .*; not in the training rows: 'a'"):
        _infer(["b", "c"], held_out=["a", "b"], kind="binary")


def test_a_label_in_validation_only() -> None:
    label_map, targets = _infer(["b", "c"], held_out=["a", "b", "a"])
    assert label_map.names == ("a", "b", "c")
    assert targets == [1, 2]
    assert (
        _notes(["b", "c"], held_out=["a", "b", "a"])
        == "Label 'a' occurs only in dev.csv (2 rows), never in the training rows."
    )
    with pytest.raises(DataError, match="has only one class: 'b'"):
        infer_labels(examples_of(["b", "b"]), [examples_of(["a"])], Labels())


def test_other_data_with_the_same_map() -> None:
    label_map, _ = infer_labels(examples_of(["0", "1"]), [], Labels())
    for labels in ([1, 0], ["1", "0"], [1.0, 0.0], [" 1", "0 "]):
        assert encode_labels(examples_of(labels), label_map, Labels())[1].tolist() == [1, 0]
    with pytest.raises(DataError) as caught:
        encode_labels(examples_of(["1", "positive"]), label_map, Labels())
    assert "train.csv, line 3: the label 'positive' is not one of the 2 labels ('0', '1')" in str(caught.value)


# --- given names -----------------------------------------------------------------------------------------------------


def test_given_names_keep_their_order() -> None:
    label_map, targets = _infer(["low", "high"], names=("low", "middle", "high"))
    assert (label_map.problem, label_map.names, targets) == ("multiclass", ("low", "middle", "high"), [0, 2])
    assert "1 label name has no training row: middle." in _notes(["low", "high"], names=("low", "middle", "high"))
    assert _infer([2, 0], names=("low", "middle", "high"))[1] == [2, 0]
    # A name that is an integer wins over a position.
    assert _infer(["1", "2"], names=("2", "1"))[1] == [1, 0]
    assert _infer(["1", "unknown"], names=("1", "unknown"))[1] == [0, 1]


def test_names_file(tmp_path: Path) -> None:
    lines = tmp_path / "labels.txt"
    lines.write_text("joy\nanger\nfear\n")
    assert _infer(["fear", "joy"], names_file=str(lines))[1] == [2, 0]
    listed = tmp_path / "labels.json"
    listed.write_text(json.dumps(["joy", "anger"]))
    assert _infer(["1", "0"], names_file=str(listed))[1] == [1, 0]
    for content, message in (
        ("joy\n\nfear\n", "labels.txt: name 2 is empty"),
        ("joy\njoy\n", "labels.txt: 'joy' occurs more than once"),
        ("", "labels.txt is empty"),
        ('{"0": "joy"}', "has only one class"),
        ('["joy", ', "is not a JSON list of label names"),
        ('["joy", ["x"]]', "not a JSON list of label names"),
    ):
        lines.write_text(content)
        assert message in _message(["joy", "joy"], names_file=str(lines))
    assert "does not exist" in _message(["a"], names_file=str(tmp_path / "none.txt"))
    assert "are both given" in _message(["a"], names_file=str(lines), names=("a",))


def test_unknown_labels_are_bad_rows() -> None:
    train = examples_of(["good", "goood", "bad", "0.5", None, "bad"])
    section = Labels(names=("bad", "good"))
    label_map, _ = infer_labels(train, [], section)
    with pytest.raises(DataError) as caught:
        encode_labels(train, label_map, section)
    assert "train.csv, line 3: the label 'goood' is not one of the 2 labels ('bad', 'good'). 2 more rows" in str(
        caught.value
    )
    assert "Did you mean 'good'?" in str(caught.value) and caught.value.value == "goood"
    kept, targets = encode_labels(train, label_map, section, on_bad_row="skip")
    assert targets.tolist() == [1, 0, 0]
    assert kept.text.to_pylist() == ["text 0", "text 2", "text 5"]
    assert [row.reason for row in kept.skipped][1:] == [
        "the label '0.5' is a number where a label name is expected ('bad', 'good')",
        "the label is missing",
    ]


def test_names_that_the_source_gives() -> None:
    train = examples_of([1, 0, -1], label_names=("neg", "pos"))
    label_map, _ = infer_labels(train, [examples_of(["pos"])], Labels())
    assert label_map == LabelMap("binary", ("neg", "pos"))
    kept, targets = encode_labels(train, label_map, Labels(), on_bad_row="skip")
    assert targets.tolist() == [1, 0]
    assert [row.reason for row in kept.skipped] == ["the label is missing"]
    turned, _ = infer_labels(train, [], Labels(names=("pos", "neg")))
    assert encode_labels(train, turned, Labels(names=("pos", "neg")), on_bad_row="skip")[1].tolist() == [0, 1]


# --- several labels per row ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "section", "names", "targets"),
    [
        ([["b", "a"], ["b"], []], {}, ("a", "b"), [[1, 1], [0, 1], [0, 0]]),
        ([[10, 2], [2], [0]], {}, ("0", "2", "10"), [[0, 1, 1], [0, 1, 0], [1, 0, 0]]),
        ([[1, 0, 1], [0, 0, 0]], {}, ("0", "1", "2"), [[1, 0, 1], [0, 0, 0]]),
        ([[True, False], [False, True]], {}, ("0", "1"), [[1, 0], [0, 1]]),
        ([[1.0, 0.0], [0.0, 1.0]], {}, ("0", "1"), [[1, 0], [0, 1]]),
        ([[0, 1], [1, 1]], {"names": ("x", "y")}, ("x", "y"), [[0, 1], [1, 1]]),
        ([[0, 1], [1]], {"names": ("x", "y")}, ("x", "y"), [[1, 1], [0, 1]]),
        ([[2], [0, 1]], {"names": ("x", "y", "z")}, ("x", "y", "z"), [[0, 0, 1], [1, 1, 0]]),
        (["a|b", "b", " c | a|"], {"delimiter": "|"}, ("a", "b", "c"), [[1, 1, 0], [0, 1, 0], [1, 0, 1]]),
        (["4,27", "27", "0"], {"delimiter": ","}, ("0", "4", "27"), [[0, 1, 1], [0, 0, 1], [1, 0, 0]]),
        (["2,0", "1"], {"delimiter": ",", "names": ("x", "y", "z")}, ("x", "y", "z"), [[1, 0, 1], [0, 1, 0]]),
        (["1 0 1", "0 1 0"], {"delimiter": " "}, ("0", "1", "2"), [[1, 0, 1], [0, 1, 0]]),
        ([3, 1], {"delimiter": ","}, ("1", "3"), [[0, 1], [1, 0]]),
        (["x", "y"], {"delimiter": ","}, ("x", "y"), [[1, 0], [0, 1]]),
    ],
)
@pytest.mark.parity("AZ-25", "HF-06")
def test_multilabel(
    labels: list[Any], section: dict[str, Any], names: tuple[str, ...], targets: list[list[float]]
) -> None:
    label_map, found = _infer(labels, **section)
    assert (label_map.problem, label_map.names, found) == ("multilabel", names, targets)


def test_multilabel_notes() -> None:
    assert "1 row of train.csv with an empty list of labels" in _notes(["a,b", ""], delimiter=",")
    assert "3 labels in train.csv repeat another one in the same row" in _notes([[2, 2, 1], [0, 0, 0], [1]])


def test_multilabel_bad_rows() -> None:
    train = examples_of([["a", "b"], None, ["a", None], ["z"]])
    section = Labels(names=("a", "b"))
    label_map, _ = infer_labels(train, [], section)
    kept, targets = encode_labels(train, label_map, section, on_bad_row="skip")
    assert targets.tolist() == [[1, 1]]
    assert [row.reason for row in kept.skipped] == [
        "the label is missing",
        "a label in its list is missing",
        "the label 'z' is not one of the 2 labels ('a', 'b')",
    ]


def test_a_broken_multi_hot_row_does_not_change_the_reading() -> None:
    train = examples_of([[0, 1, 0], [1, 1, 0], [1, 0], [0, 0, 2], [0, 0, 1]])
    label_map, _ = infer_labels(train, [], Labels())
    assert label_map == LabelMap("multilabel", ("0", "1", "2"), multi_hot=True)
    kept, targets = encode_labels(train, label_map, Labels(), on_bad_row="skip")
    assert targets.tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert [row.reason for row in kept.skipped] == [
        "2 entries where the other rows have 3, one per label",
        "one of its label entries is neither 0 nor 1",
    ]
    assert "holds rows of 3 entries of 0 and 1, but there are 2 label names" in _message(
        [[0, 1, 0], [1, 1, 0]], names=("a", "b")
    )


def test_one_multi_hot_row_alone_is_read_by_the_map() -> None:
    hot = LabelMap("multilabel", ("a", "b", "c"), multi_hot=True)
    ids = LabelMap("multilabel", ("a", "b", "c"), multi_hot=False)
    unknown = LabelMap("multilabel", ("a", "b", "c"))
    section = Labels(names=("a", "b", "c"))
    for label_map, expected in ((hot, [[0, 1, 1]]), (ids, [[1, 1, 0]]), (unknown, [[0, 1, 1]])):
        assert encode_labels(examples_of([[0, 1, 1]]), label_map, section)[1].tolist() == expected


def test_lists_and_single_labels_do_not_mix() -> None:
    with pytest.raises(DataError, match=r"Labels are lists in train.csv but single labels in dev.csv"):
        infer_labels(examples_of([["a"], ["b"]]), [examples_of(["a"], source="dev.csv")], Labels())
    multiclass, multilabel = LabelMap("multiclass", ("a", "b", "c")), LabelMap("multilabel", ("a", "b"))
    with pytest.raises(DataError, match="has several labels per row, but the model predicts one"):
        encode_labels(examples_of([["a"]]), multiclass, Labels())
    with pytest.raises(DataError, match="has one label per row, but the model predicts several"):
        encode_labels(examples_of(["a"]), multilabel, Labels())


def test_regression_bad_rows() -> None:
    train = examples_of(["0.5", "x", "", "inf", "1e99", "2"])
    kept, targets = encode_labels(train, LabelMap("regression", ("score",)), Labels(), on_bad_row="skip")
    assert targets.tolist() == [0.5, 2.0]
    assert [row.reason for row in kept.skipped] == [
        "the label 'x' is not a finite number, which regression needs",
        "the label is missing",
        "the label 'inf' is not a finite number, which regression needs",
        "the label '1e99' is not a finite number, which regression needs",
    ]


def test_without_labels_there_is_nothing_to_infer() -> None:
    blank = Examples(examples_of(["a"]).rows, examples_of(["a"]).text, None, None, None, np.arange(1))
    with pytest.raises(DataError, match=r"train.csv was read without labels"):
        infer_labels(blank, [], Labels())


def test_a_million_labels_are_quick() -> None:
    """Everything that looks at values looks at the distinct ones."""
    labels = pa.array([str(index % 12) for index in range(1_000_000)])
    label_map, targets = infer_labels(examples := examples_of(labels, texts=["t"] * 1_000_000), [], Labels())[0], None
    _, targets = encode_labels(examples, label_map, Labels())
    assert targets[:13].tolist() == [*range(12), 0]
