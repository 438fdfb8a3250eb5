"""A table in, a table of predictions out: the same as `textune predict` writes, whatever the table is of, in any
number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.errors import refused
from kits.predictions import card_of, predict
from kits.runs import reviews

import textune
from textune.config.sources import Columns, Labels
from textune.errors import DataError, InputError
from textune.prediction.load import load
from textune.prediction.rows import named_scores, predict_table, prediction_fields
from textune.tasks.decision import Decision

ROWS = reviews(50, seed=4)


@pytest.mark.parametrize("all_scores", [False, True])
def test_a_table_is_predicted_as_a_file_is(trained: Any, tmp_path: Path, all_scores: bool) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "in.parquet")
    predictor = load(trained[0].run)
    predict(predictor, tmp_path / "in.parquet", tmp_path / "out.parquet", all_scores=all_scores)
    found = predict_table(predictor, table, all_scores=all_scores)
    assert found.column_names == [
        "predicted_label",
        "predicted_score",
        *(["score_neg", "score_pos"] if all_scores else []),
    ]
    assert pq.read_table(tmp_path / "out.parquet").select(found.column_names).equals(found)


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table.from_pylist, list], ids=["pandas", "arrow", "dictionaries"])
def test_the_columns_may_have_other_names(trained: Any, kind: Any) -> None:
    model = textune.load(trained[0].run)
    usual = model.predict_table(pa.Table.from_pylist(ROWS))
    renamed = [{"body": row["text"], "id": row["id"]} for row in ROWS]
    assert model.predict_table(kind(renamed), columns=Columns(text="body")).equals(usual)
    with refused(DataError, value="text"):
        model.predict_table(kind(renamed))


def test_a_table_says_what_predict_says(trained: Any) -> None:
    model = textune.load(trained[0].run)
    found = model.predict_table(ROWS, all_scores=True)
    expected = model.predict([row["text"] for row in ROWS])
    assert found.column("predicted_label").to_pylist() == [one.label for one in expected]
    np.testing.assert_allclose(found.column("score_pos"), [one.scores["pos"] for one in expected], atol=1e-6)


def test_a_row_that_cannot_be_a_text_is_named(trained: Any) -> None:
    with pytest.raises(InputError) as caught:
        textune.load(trained[0].run).predict_table([{"text": "fine"}, {"text": "good"}, {"text": {"a": 1}}])
    assert caught.value.place == "texts, row 3"


def test_no_rows_are_a_table_of_the_same_columns(trained: Any) -> None:
    model = textune.load(trained[0].run)
    for no_rows in (pa.table({"text": pa.array([], pa.string())}), {"text": []}, []):
        empty = model.predict_table(no_rows, all_scores=True)
        assert empty.num_rows == 0 and empty.schema == prediction_fields(model.card, all_scores=True)


@pytest.mark.parametrize(
    ("card", "scores", "expected"),
    [
        ({"problem": "multilabel"}, [[0.25, 0.75]], {"predicted_label": [["pos"]], "predicted_score": [0.75]}),
        (
            {"problem": "multilabel", "labels": Labels(delimiter=",")},
            [[0.5, 0.75], [0.125, 0.25]],
            {"predicted_label": ["neg,pos", ""], "predicted_score": [0.75, 0.25]},
        ),
        (
            {"problem": "regression", "names": ("value",)},
            [1.23456789, -2.0],
            {"predicted_label": [1.23456789, -2.0], "predicted_score": [1.23456789, -2.0]},
        ),
        ({}, [[0.123456789, 0.876543211]], {"predicted_label": ["pos"], "predicted_score": [0.876543]}),
        (
            {"decision": Decision(0.5, (0.95,), abstain_below=0.4)},
            [[0.2, 0.8], [0.1, 0.9]],
            {"predicted_label": [None, "pos"], "predicted_score": [0.058824, 0.987805]},
        ),
    ],
    ids=["multilabel", "delimited", "regression", "binary", "decided"],
)
def test_scores_are_named_by_the_problem(card: dict[str, Any], scores: list[Any], expected: dict[str, Any]) -> None:
    assert named_scores({"label": np.array(scores)}, card_of(**card)).to_pydict() == expected


@pytest.mark.parametrize("compile", ["off", "auto"])
def test_threads_that_predict_at_once_get_the_same_scores(trained: Any, compile: Any) -> None:
    """Also while one of them has to make do with less memory: what it learns is its own."""
    model = load(trained[0].run, compile=compile)
    sets = [[row["text"] for row in reviews(60, seed=seed)] for seed in range(4)]
    expected = [model.score(texts) for texts in sets]
    together = Barrier(len(sets))

    def work(number: int) -> list[np.ndarray]:
        budget = model.scorer.budget()
        together.wait(60)
        found = []
        for max_tokens in (budget.max_tokens, 64, 32):
            budget.max_tokens = max_tokens if number % 2 else budget.max_tokens
            found.append(model.scorer.score_store(model.encode(sets[number]), budget=budget)["label"])
        return found

    with ThreadPoolExecutor(len(sets)) as pool:
        for whole, found in zip(expected, pool.map(work, range(len(sets))), strict=True):
            assert np.array_equal(found[0], whole)
            for scores in found[1:]:
                np.testing.assert_allclose(scores, whole, atol=1e-6)
