"""Rows in memory of every form are the same rows; what cannot be rows is said in a sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kits.errors import refused

from textune.data.reading.fingerprint import fingerprint_table
from textune.data.reading.memory import memory_piece, texts_with_labels
from textune.data.reading.rows import Piece
from textune.errors import InputError

COLUMNS: dict[str, list[Any]] = {
    "text": ["a film", "no film", None],
    "label": [1, 0, 1],
    "tags": [["x"], [], ["x", "y"]],
    "number": [0.5, None, 2.0],
}


def records() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


def data_set() -> Any:
    import datasets

    return datasets.Dataset.from_dict(COLUMNS)


def polars_table() -> Any:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.DataFrame(COLUMNS)


FORMS: dict[str, Callable[[], Any]] = {
    "Arrow": lambda: pa.table(COLUMNS),
    "Arrow's batch": lambda: pa.RecordBatch.from_pydict(COLUMNS),
    "Arrow's reader": lambda: pa.table(COLUMNS).to_reader(),
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas, any index": lambda: pd.DataFrame(COLUMNS, index=[7, 3, 3]),
    "polars": polars_table,
    "datasets": data_set,
    "columns": lambda: COLUMNS,
    "columns of any kind": lambda: (
        COLUMNS | {"text": pd.Series(COLUMNS["text"]), "label": np.array([1, 0, 1]), "tags": pa.array(COLUMNS["tags"])}
    ),
    "rows": records,
    "a generator": lambda: iter(records()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_rows(form: str) -> None:
    piece = memory_piece(FORMS[form](), "train", "train is")
    assert fingerprint_table(piece.table) == fingerprint_table(pa.table(COLUMNS))
    assert piece.bad == () and [piece.places[row] for row in (0, 2)] == ["train, row 1", "train, row 3"]
    assert memory_piece(piece, "other", "other is") is piece


def test_a_named_index_of_pandas_is_a_column_and_one_that_counts_is_none() -> None:
    table = pd.DataFrame(COLUMNS)
    by_text = memory_piece(table.set_index("text"), "train", "train is").table
    assert fingerprint_table(by_text) == fingerprint_table(pa.table(COLUMNS))
    counting = table.rename_axis("row")
    assert memory_piece(counting, "train", "train is").table.column_names == list(COLUMNS)


def test_class_names_of_a_data_set_are_kept() -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert memory_piece(rows, "train", "train is").class_names == {"label": ("no", "yes")}


@pytest.mark.parametrize("table", [{"text": ["a", 3, "b"]}, pd.DataFrame({"text": ["a", 3, "b"]}, dtype=object)])
def test_a_value_of_another_kind_makes_a_bad_row(table: Any) -> None:
    piece: Piece = memory_piece(table, "train", "train is")
    assert [row.place for row in piece.bad] == ["train, row 2"] and "integer" in piece.bad[0].reason
    assert piece.table["text"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, {"place": "train", "reason": "an int"}),
        ("rows.csv", {"place": "train", "reason": "a str"}),
        (pd.DataFrame, {"place": "train", "reason": "a type"}),
        (pd.Series([1, 2]), {"place": "train", "reason": "a Series"}),
        ({"text": ["a"], "label": ["x", "y"]}, {"value": [1, 2], "reason": "several lengths"}),
        ({"text": "a film"}, {"place": "train['text']", "reason": "a str"}),
        ({"train": pa.table(COLUMNS)}, {"place": "train['train']", "reason": "a table"}),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), {"value": "text", "reason": "same name"}),
    ],
)
def test_what_has_no_rows_of_columns_is_said(given: Any, said: dict[str, Any]) -> None:
    with refused(InputError, key="train", **said):
        memory_piece(given, "train", "train is")


TEXTS = ["a", "b"]


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        ((TEXTS, [1, 0]), {"body": TEXTS, "stars": [1, 0]}),
        ((np.array(TEXTS), pd.Series(["x", np.nan])), {"body": TEXTS, "stars": ["x", None]}),
        ((pa.array(TEXTS), np.eye(2)), {"body": TEXTS, "stars": [[1, 0], [0, 1]]}),
        (TEXTS, {"body": TEXTS}),
        (pd.Series(TEXTS), {"body": TEXTS}),
    ],
)
def test_texts_and_labels_get_the_columns_of_the_configuration(given: Any, columns: dict[str, list[Any]]) -> None:
    found: Any = texts_with_labels(given, "train", text="body", label="stars")
    assert {
        name: [getattr(value, "tolist", lambda value=value: value)() for value in found[name]] for name in found
    } == columns


def test_tables_are_no_texts_and_labels() -> None:
    for table in (pa.table(COLUMNS), COLUMNS, records(), pd.DataFrame(COLUMNS)):
        assert texts_with_labels(table, "train", text="text", label="label") is table


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((TEXTS, [1]), {"value": 1, "place": "train"}),
        ((TEXTS, "ab"), {"place": "train[1]", "reason": "a str"}),
        (({"a", "b"}, [1, 0]), {"place": "train[0]", "reason": "a set"}),
        ([TEXTS, [1, 0]], {"place": "train", "reason": "two lists"}),
    ],
)
def test_texts_and_labels_that_do_not_fit_are_said(given: Any, said: dict[str, Any]) -> None:
    with refused(InputError, key="train", **said):
        texts_with_labels(given, "train", text="text", label="label")
