"""Texts, templates, pairs and weights out of rows."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.rows import read, rows_of

from textune.config.sources import Columns
from textune.data.columns import Template, select_columns
from textune.errors import DataError


def _texts(columns: dict[str, Any], **section: Any) -> list[str]:
    return list(select_columns(rows_of(columns), Columns(**section), with_labels=False).text.to_pylist())


@pytest.mark.parity("TW-12", "HF-05")
def test_text_pair_label_weight_and_places() -> None:
    rows = rows_of({"a": ["x", "y"], "b": ["p", None], "y": [1, 0], "w": ["0.5", " 2 "]})
    examples = select_columns(rows, Columns(text="a", text_pair="b", label="y", weight="w"), with_labels=True)
    assert len(examples) == 2
    assert examples.text.to_pylist() == ["x", "y"]
    assert examples.text_pair is not None
    assert examples.text_pair.to_pylist() == ["p", ""]
    assert examples.label is not None
    assert examples.label.to_pylist() == [1, 0]
    assert examples.weight is not None
    assert examples.weight.dtype == np.float32
    assert examples.weight.tolist() == [0.5, 2.0]
    assert examples.place(1) == "train.csv, line 3"
    turned = examples.take(np.array([1, 0]))
    assert turned.text.to_pylist() == ["y", "x"]
    assert turned.place(0) == "train.csv, line 3"
    assert turned.take(np.array([1])).place(0) == "train.csv, line 2"


def test_without_labels_neither_label_nor_weight_is_needed() -> None:
    examples = select_columns(rows_of({"text": ["x"]}), Columns(weight="w"), with_labels=False)
    assert examples.label is None
    assert examples.weight is None


def test_columns_of_any_plain_type_become_text() -> None:
    table = {
        "text": pa.array(["a", None]),
        "small": pa.array(["b", "c"], pa.string()),
        "int": [1, None],
        "float": [0.5, 2.0],
        "flag": [True, None],
        "date": [datetime.date(2024, 1, 2), None],
        "nothing": pa.nulls(2),
    }
    assert _texts(table) == ["a", ""]
    assert _texts(table, template="{small}|{int}|{float}|{flag}|{date}|{nothing}") == [
        "b|1|0.5|true|2024-01-02|",
        "c||2||||"[:-1],
    ]
    assert select_columns(rows_of(table), Columns(text="int"), with_labels=False).text.type == pa.large_string()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{title}\n{body}", "T\nB"),
        (r"{title}\n\t{body}", "T\n\tB"),
        (r"{title}\\n{body}", r"T\nB"),
        ("{{{title}}}: {body}!", "{T}: B!"),
        ("{my column}{title}{title}", "CTT"),
        ("{a.b}", "D"),
    ],
)
@pytest.mark.parity("TW-11")
def test_templates(template: str, expected: str) -> None:
    columns = {"title": ["T"], "body": ["B"], "my column": ["C"], "a.b": ["D"]}
    assert _texts(columns, template=template) == [expected]
    assert set(Template(template).names) <= set(columns)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{titel}",
            "train.csv has no column 'titel'; columns found: 'title', 'body'. Did you mean 'title'? Set"
            " data.columns.template",
        ),
        ("no columns", "names no column"),
        ("{}", "holds {}. Braces hold only the name of a column"),
        ("{title!r}", "holds {title!r}"),
        ("{title:>10}", "holds {title:>10}"),
        ("{title", "Double a plain brace"),
        ("title}", "Double a plain brace"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        _texts({"title": ["T"], "body": ["B"]}, template=template)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"text": "sentence"},
            "no column 'sentence'; columns found: 'text', 'labels', 'list', 'object'. Set data.columns.text",
        ),
        ({"label": "label"}, "Did you mean 'labels'? Set data.columns.label"),
        ({"text": "Text", "label": "labels"}, "Did you mean 'text'?"),
        ({"text_pair": "pair", "label": "labels"}, "Set data.columns.text_pair"),
        ({"weight": "w", "label": "labels"}, "Set data.columns.weight"),
        ({"text": "list", "label": "labels"}, "column 'list' holds lists, such as '['a']', not text"),
        ({"text": "object", "label": "labels"}, "column 'object' holds objects"),
        ({"label": "object"}, "column 'object' holds objects"),
        ({"label": "text"}, "Column 'text' is both the text and the label"),
    ],
)
def test_columns_that_cannot_be_used(section: dict[str, Any], message: str) -> None:
    rows = rows_of({"text": ["x"], "labels": [1], "list": [["a"]], "object": [{"k": 1}]})
    with pytest.raises(DataError) as caught:
        select_columns(rows, Columns(**section), with_labels=True)
    assert message in str(caught.value)


def test_json_objects_are_no_text(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", '{"text": {"a": 1}, "label": 1}\n')
    with pytest.raises(
        DataError, match=r"column 'text' holds objects or mixed lists, such as '{\"a\": 1}', which cannot be text"
    ):
        select_columns(rows, Columns(), with_labels=True)


def test_wrong_delimiter_is_suspected(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "text\tlabel\na\t1\n")
    with pytest.raises(DataError) as caught:
        select_columns(rows, Columns(), with_labels=True)
    assert "The delimiter looks wrong" in str(caught.value)
    assert r'set delimiter = "\t"' in str(caught.value)


def test_bad_weights() -> None:
    values = ["1", "", None, "nan", "-1", "x", "inf", "1e60", "0"]
    rows = rows_of({"text": list("abcdefghi"), "label": [1] * 9, "w": values})
    with pytest.raises(DataError) as caught:
        select_columns(rows, Columns(weight="w"), with_labels=True)
    assert "train.csv, line 3: the weight in column 'w' is missing. 6 more rows of train.csv" in str(caught.value)
    kept = select_columns(rows, Columns(weight="w"), with_labels=True, on_bad_row="skip")
    assert kept.text.to_pylist() == ["a", "i"]
    assert kept.indices.tolist() == [0, 8]
    assert [row.reason for row in kept.skipped][2:4] == [
        "the weight in column 'w' is 'nan', not a finite number of at least zero",
        "the weight in column 'w' is '-1', not a finite number of at least zero",
    ]
    with pytest.raises(DataError, match="all weights in column 'w' are zero"):
        select_columns(rows_of({"text": ["a"], "label": [1], "w": [0.0]}), Columns(weight="w"), with_labels=True)
    with pytest.raises(DataError, match="no row can be used"):
        bad = rows_of({"text": ["a"], "label": [1], "w": [["x"]]})
        select_columns(bad, Columns(weight="w"), with_labels=True, on_bad_row="skip")


def test_rows_skipped_by_the_reader_stay_noted(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "text,label,w\na,1,1\nb\nc,1,x\n", on_bad_row="skip")
    examples = select_columns(rows, Columns(weight="w"), with_labels=True, on_bad_row="skip")
    assert [row.place for row in examples.skipped] == ["a.csv, line 3", "a.csv, line 4"]
