"""A loaded model from Python: every form of texts, what does not fit, and pickles."""

import copy
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from kits.errors import refused

import textune
from textune.errors import DataError, InputError

TEXTS = ["a fine film", "what a bore", "movie", ""]


@pytest.fixture(scope="module")
def model(home: Path, trained: Any) -> textune.TrainedModel:
    return textune.load(home / "runs" / "first", device="cpu")


FORMS: dict[str, Callable[[list[str]], object]] = {
    "tuple": tuple,
    "generator": iter,
    "dictionary": lambda texts: dict.fromkeys(texts).keys(),
    "array": np.array,
    "pandas-series": lambda texts: pd.Series(texts, index=range(7, 7 + len(texts))),
    "pandas-frame": lambda texts: pd.DataFrame({"more": 1.5, "text": texts}),
    "pandas-strings": lambda texts: pd.DataFrame({"text": pd.array(texts, dtype="string")}),
    "polars-series": lambda texts: pl.Series("any", texts),
    "polars-frame": lambda texts: pl.DataFrame({"text": texts, "more": texts}),
    "arrow-column": pa.array,
    "arrow-table": lambda texts: pa.table({"text": texts}),
    "data-set": lambda texts: datasets.Dataset.from_dict({"text": texts}),
    "column-of-a-data-set": lambda texts: datasets.Dataset.from_dict({"t": texts})["t"],
    "columns": lambda texts: {"text": texts},
    "rows": lambda texts: [{"text": text, "id": 3} for text in texts],
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_of_every_form_are_predicted_alike(model: textune.TrainedModel, form: str) -> None:
    expected: Any = model.predict(TEXTS)
    assert len(expected) == 4 and model.predict(FORMS[form](TEXTS)) == expected
    assert np.array_equal(model.predict_proba(FORMS[form](TEXTS)), model.predict_proba(TEXTS))  # type: ignore[arg-type]


def test_a_single_text_has_a_single_prediction(model: textune.TrainedModel) -> None:
    [only] = model.predict(["a fine film"])
    assert model.predict("a fine film") == only
    with refused(DataError, key="data.columns.text_pair"):
        model.predict("a fine film", "another")


def rows(name: str) -> dict[str, list[str]]:
    return {name: TEXTS, "label": ["pos", "neg", "pos", "neg"]}


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table, datasets.Dataset.from_dict, dict])
def test_a_table_without_the_text_column_is_a_sentence(
    model: textune.TrainedModel, frame: Any, subtests: pytest.Subtests
) -> None:
    for method in (model.predict, model.predict_proba, model.score, model.predict_table):
        with subtests.test(method.__name__), refused(DataError, value="text", place="texts") as caught:
            method(frame(rows("review")))
        assert "'review'" in str(caught.value) and "no column 'text'" in str(caught.value)


@pytest.mark.parametrize(
    "texts", [None, 3, b"a film", [1], [["a", "b"]], {"a film"}, np.zeros((2, 2)), pd.DataFrame()]
)
def test_what_cannot_be_texts_is_a_sentence(model: textune.TrainedModel, texts: Any) -> None:
    with pytest.raises((InputError, DataError)):
        model.predict(texts)


def test_what_would_be_predicted_wrongly_is_refused(
    home: Path, model: textune.TrainedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One row of a table is no list of texts, a file's first line may name columns."""
    frame = pd.DataFrame(rows("text"))
    with refused(InputError, place="texts", reason="one row of a table") as caught:
        model.predict(frame.iloc[0])
    assert "'text', 'label'" in str(caught.value) and len(model.predict(frame.iloc[[0]])) == 1  # type: ignore[arg-type]
    with refused(InputError, place="data", reason="one row of a table"):
        textune.predict(home / "runs" / "first", frame.iloc[0])
    frame.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file, refused(InputError, place="texts", reason="an open file"):
        model.predict(file)
    with caplog.at_level("WARNING", logger="textune"):
        model.predict(str(tmp_path / "rows.csv"))
    assert "predicted as a text, though there is a file of this name" in caplog.text


def test_second_texts_in_another_order_are_refused(model: textune.TrainedModel) -> None:
    texts = pd.Series(TEXTS)
    with refused(InputError, key="pairs", reason="the same index in another order"):
        model.predict(texts, texts[::-1])
    with refused(DataError, key="data.columns.text_pair"):  # in order; but the model reads single texts
        model.predict(texts, texts)


def test_a_pickled_model_predicts_alike_where_its_run_is_not(
    home: Path, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    shutil.copytree(home / "runs" / "first" / "best", tmp_path / "model")
    model = textune.load(tmp_path / "model", device="cpu", max_tokens=640)
    content, expected = pickle.dumps(model), model.predict(TEXTS)
    assert list(scratch.iterdir()) == []
    shutil.rmtree(tmp_path / "model")
    again = pickle.loads(content)
    assert again.predict(TEXTS) == expected and repr(again) == repr(model)
    assert again._predictor.scorer.max_tokens == 640
    second = copy.deepcopy(again)
    del again
    assert second.predict(TEXTS) == expected and len(list(scratch.iterdir())) == 1
    del second
    assert list(scratch.iterdir()) == []
