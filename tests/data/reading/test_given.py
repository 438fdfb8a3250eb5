"""What Python gives as texts is read by the model's columns, or refused in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from textune.config.sources import Columns
from textune.data.reading.given import given_texts
from textune.errors import DataError, InputError, TextuneError

TABLE = {"id": [7, 8], "body": ["a", "b"], "title": ["x", "y"]}


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        pd.DataFrame(TABLE),
        pa.table(TABLE),
        [{"id": 7, "body": "a", "title": "x"}, {"id": 8, "body": "b", "title": "y"}],
        {"body": np.array(["a", "b"]), "title": pd.Series(["x", "y"], index=[5, 3]), "id": 1},
        {"body": pa.chunked_array([["a"], ["b"]]), "title": ("x", "y")},
    ],
    ids=["dict", "pandas", "arrow", "rows", "columns", "chunks"],
)
def test_tables_are_read_by_the_columns_of_the_model(table: Any) -> None:
    assert given_texts(table, None, Columns(text="body"))[:2] == (["a", "b"], None)
    assert given_texts(table, None, Columns(text="title", text_pair="body"))[:2] == (["x", "y"], ["a", "b"])
    assert given_texts(table, None, Columns(template="{title}: {body}"))[:2] == (["x: a", "y: b"], None)
    with pytest.raises(
        DataError, match=r"texts has no column 'text', which the model reads; its columns are: .*'body'"
    ):
        given_texts(table, None, Columns())
    with pytest.raises(InputError, match="leave pairs out"):
        given_texts(table, ["c", "d"], Columns(text="body"))


def test_a_data_set_of_the_datasets_library_is_a_table() -> None:
    import datasets

    found = given_texts(datasets.Dataset.from_dict(TABLE), None, Columns(text="body"))
    assert found.texts == ["a", "b"]


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"],
        ("a", "b"),
        iter(["a", "b"]),
        (text for text in "ab"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        pd.Series(["a", "b"], index=[9, 4]),
        pd.DataFrame(TABLE)["body"],
        pa.array(["a", "b"]),
        pa.chunked_array([["a"], ["b"]]),
        {"a": 1, "b": 2}.keys(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_like_a_list_of_texts_is_one(texts: Any) -> None:
    found = given_texts(texts, None, Columns())
    assert found.texts == ["a", "b"] and {type(text) for text in found.texts} == {str}
    assert found.place(1) == "texts[1]"


def test_cells_become_the_texts_of_training() -> None:
    frame = pd.DataFrame(
        {"text": ["a", None, np.nan], "number": [1.5, np.nan, 2.0], "day": pd.to_datetime(["2024-01-02"] * 3)}
    )
    found = given_texts(frame, None, Columns(template="{text}|{number}"))
    assert found.texts == ["a|1.5", "|", "|2"]
    assert given_texts(frame, None, Columns(text="day")).texts[0].startswith("2024-01-02")


class Lookalike:
    """Has nothing that a list has."""


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("a film", r"texts is one text; a list of texts is needed, such as \[text\]"),
        (b"a film", "texts is of type bytes; a list of texts"),
        (None, "texts is None; a list of texts"),
        (5, "texts is of type int; a list"),
        (Path("a.csv"), "texts is of type PosixPath; a list"),
        ({"a", "b"}, "texts is of type set; a list"),
        (Lookalike(), "texts is of type Lookalike"),
        (pd.DataFrame, "texts is of type type"),
        (np.array([["a", "b"]]), "texts has 2 dimensions; a list of texts has one"),
        (np.array("a"), "texts has 0 dimensions"),
        (["a", None], r"texts\[1\] is None, not a text"),
        (pd.Series(["a", np.nan]), r"texts\[1\] is nan, not a text"),
        (["a", b"b"], r"texts\[1\] is b'b', not a text"),
        ([["a", "b"]], r"texts\[0\] is \['a', 'b'\], not a text \(str\) \(second texts go into `pairs`\)"),
        (["a", "\ud800"], r"texts\[1\] is not valid Unicode"),
        ([{"text": "a"}, "b"], r"texts\[1\] is 'b', but the rows before it are dictionaries"),
        ({"text": "a film"}, r"texts\['text'\] is one text"),
        ({"text": None}, r"texts\['text'\] is None"),
        ({"text": ["a", ["b"]]}, "texts, row 2: column 'text' holds"),
        (pd.DataFrame({"text": ["a", "b", 3]}, dtype=object), "texts, row 3: column 'text' holds an integer"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "texts has several columns named 'text'"),
        ({}, "texts has no column 'text', which the model reads; its columns are: none"),
        (pd.DataFrame({"text": [["a"]]}), "column 'text' holds lists"),
    ],
)
def test_what_cannot_be_texts_is_a_sentence(texts: Any, words: str) -> None:
    with pytest.raises(TextuneError, match=words):
        given_texts(texts, None, Columns())


def test_columns_of_different_lengths_are_a_sentence() -> None:
    with pytest.raises(InputError, match="the columns 'a', 'b' of texts differ in length: 1, 2"):
        given_texts({"a": ["x"], "b": ["x", "y"]}, None, Columns(text="a", text_pair="b"))
