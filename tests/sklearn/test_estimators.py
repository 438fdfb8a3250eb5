"""The estimators: they train what textune trains, and behave as scikit-learn's own do."""

from __future__ import annotations

import copy
import gc
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kits.errors import refused
from kits.runs import reviews
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import textune
from textune.errors import ConfigError, InputError, RunError, TextuneError
from textune.sklearn.estimators import TextClassifier, TextRegressor

ROWS = reviews(80)
X, Y = [row["text"] for row in ROWS], [row["label"] for row in ROWS]
NUMBERS = [len(text) / 10 for text in X]
LABELS = np.array([[index % 2, index % 3 == 0, index % 5 == 0] for index in range(80)]).astype(int)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_in(folder: Path) -> list[str]:
    gc.collect()
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("textune-"))


def weights(folder: Path) -> bytes:
    return (folder / "best" / "model.safetensors").read_bytes()


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("estimator", "y"), [(TextClassifier, Y), (TextClassifier, LABELS), (TextRegressor, NUMBERS)], ids=str
)
def test_a_fit_is_what_train_makes_of_the_same_rows(
    quick: dict[str, Any], tmp_path: Path, estimator: Any, y: Any
) -> None:
    fitted = estimator(**quick, run=tmp_path / "fit", random_state=3, validation_fraction=0.2).fit(X, y)
    overrides = quick["overrides"] | {
        "model.pretrained": quick["model"],
        "train.duration": quick["duration"],
        "tokens.max_length": quick["max_length"],
        "train.device": "cpu",
        "train.seed": 3,
        "data.validation.seed": 3,
        "data.validation.ratio": 0.2,
    }
    trained = textune.train(overrides=overrides, run=tmp_path / "train", train=(X, y))
    assert weights(tmp_path / "fit") == weights(tmp_path / "train")
    assert fitted.metrics_ == trained.reports["validation"].metrics and fitted.steps_ == trained.steps == 2
    model = textune.load(tmp_path / "train", device="cpu")
    if estimator is TextRegressor:
        assert np.array_equal(fitted.predict(X), model.score(X))  # type: ignore[arg-type]
        return
    assert np.array_equal(fitted.predict_proba(X), model.predict_proba(X))  # type: ignore[arg-type]
    answers: Any = [prediction.label for prediction in model.predict(X)]  # type: ignore[union-attr]
    if y is LABELS:
        answers = [[int(str(name) in answer) for name in fitted.classes_] for answer in answers]
    assert np.array_equal(fitted.predict(X), np.array(answers))


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "values",
    [["neg", "pos"], [0, 1], [10, 9], [-1, 1], [False, True], [0.0, 1.0], ["10", "9"], ["no", "none"]],
    ids=str,
)
def test_classes_are_the_values_of_y_in_scikit_learns_order(quick: dict[str, Any], values: list[Any]) -> None:
    y = np.array([values[label == "pos"] for label in Y])
    fitted = TextClassifier(**quick).fit(X, y)
    assert fitted.classes_.tolist() == np.unique(y).tolist() and fitted.classes_.dtype == y.dtype
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (80, 2) and np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(X, y) == accuracy_score(y, fitted.predict(X))
    # Whatever the classes are called, and in whatever order they come, the rows of a class are one class.
    usual = TextClassifier(**quick).fit(X, Y)
    if y[Y.index("neg")] == fitted.classes_[0] and values != ["10", "9"]:
        assert np.array_equal(probabilities, usual.predict_proba(X))


def test_classes_that_only_the_configuration_names_are_classes_too(quick: dict[str, Any]) -> None:
    named = quick["overrides"] | {"data.labels.names": ["pos", "mixed", "neg"]}
    fitted = TextClassifier(**quick | {"overrides": named}).fit(X, Y)
    assert fitted.classes_.tolist() == ["mixed", "neg", "pos"] and set(fitted.predict(X)) <= set(fitted.classes_)
    positions = [{"pos": 0, "neg": 2}[label] for label in Y]
    numbered = TextClassifier(**quick | {"overrides": named}).fit(X, positions)
    assert numbered.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(numbered.predict_proba(X), fitted.predict_proba(X)[:, [2, 0, 1]])


def test_labels_are_an_indicator_matrix_with_names_where_a_table_has_them(quick: dict[str, Any]) -> None:
    fitted = TextClassifier(**quick).fit(X, LABELS)
    assert fitted.classes_.tolist() == [0, 1, 2] and fitted.predict(X).shape == (80, 3)
    assert np.array_equal(fitted.predict(X), (fitted.predict_proba(X) >= 0.5).astype(int))
    assert fitted.score(X, LABELS) == accuracy_score(LABELS, fitted.predict(X))
    table = TextClassifier(**quick).fit(X, pd.DataFrame(LABELS, columns=["rude", "loud", "long"]))
    sparse = TextClassifier(**quick).fit(X, csr_matrix(LABELS))
    assert table.classes_.tolist() == ["rude", "loud", "long"]
    for other in (table, sparse):
        assert np.array_equal(other.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "form",
    [tuple, np.array, pd.Series, lambda texts: np.array(texts)[:, None]],
    ids=["tuple", "array", "series", "column"],
)
def test_texts_may_stand_in_whatever_holds_them(quick: dict[str, Any], form: Any) -> None:
    fitted = TextClassifier(**quick).fit(form(X), pd.Series(Y, index=range(80, 160)))
    assert np.array_equal(fitted.predict_proba(X), TextClassifier(**quick).fit(X, Y).predict_proba(form(X)))


def test_a_table_is_read_by_the_columns_of_the_configuration(quick: dict[str, Any]) -> None:
    table = pd.DataFrame({"title": X[::-1], "body": X})
    overrides = quick["overrides"] | {"data.columns.template": "{title} {body}"}
    fitted = TextClassifier(**quick | {"overrides": overrides}).fit(table, Y)
    joined = [f"{title} {body}" for title, body in zip(X[::-1], X, strict=True)]
    assert np.array_equal(fitted.predict_proba(table), TextClassifier(**quick).fit(joined, Y).predict_proba(joined))
    only = TextClassifier(**quick).fit(table[["body"]], Y)
    assert any("body" in notice for notice in only.notices_)
    with refused(InputError, key="X", value="label"):
        TextClassifier(**quick).fit(table.assign(label=Y), Y)


def test_weights_of_rows_are_those_of_the_loss(quick: dict[str, Any]) -> None:
    plain = TextClassifier(**quick).fit(X, Y).predict_proba(X)
    ones = TextClassifier(**quick).fit(X, Y, sample_weight=np.ones(80)).predict_proba(X)
    some = TextClassifier(**quick).fit(X, Y, sample_weight=np.arange(80)).predict_proba(X)
    assert np.allclose(ones, plain) and not np.allclose(some, plain)


def test_an_estimator_is_cloned_set_and_searched_over(quick: dict[str, Any], scratch: Path) -> None:
    estimator = TextClassifier(**quick, lr=1e-3)
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(lr=1e-2, random_state=5) is estimator and estimator.lr == 1e-2
    steps = make_pipeline(FunctionTransformer(lambda texts: [text.upper() for text in texts]), estimator)
    grid = GridSearchCV(steps, {"textclassifier__lr": [1e-3, 1e-2]}, cv=2, refit=True)
    grid.fit(X, Y)
    assert grid.best_params_["textclassifier__lr"] in (1e-3, 1e-2) and set(grid.predict(X)) <= {"neg", "pos"}
    assert len(left_in(scratch)) == 1  # the fits of the search are gone, that of the best parameters is there
    assert cross_val_predict(estimator, X, Y, cv=2).shape == (80,)


def test_the_run_goes_with_the_estimator_unless_it_is_kept(quick: dict[str, Any], scratch: Path) -> None:
    kept = TextClassifier(**quick, run=scratch / "run").fit(X, Y)
    assert left_in(scratch) == [] and (scratch / "run" / "checkpoints").is_dir()
    assert np.array_equal(textune.load(scratch / "run", device="cpu").predict_proba(X), kept.predict_proba(X))  # type: ignore[arg-type]
    with refused(RunError, place=str(scratch / "run")):
        kept.fit(X, Y)
    fitted = TextClassifier(**quick).fit(X, Y)
    [folder] = left_in(scratch)
    assert not (scratch / folder / "run" / "checkpoints").exists()
    fitted.fit(X, Y)
    [again] = left_in(scratch)
    assert again != folder and fitted.score(X, Y) == kept.score(X, Y)
    del fitted
    assert left_in(scratch) == []
    with pytest.raises(InputError):
        TextClassifier(**quick).fit(X, Y[:-1])
    assert left_in(scratch) == []


def test_a_pickle_holds_the_model_and_needs_no_folder(quick: dict[str, Any], scratch: Path) -> None:
    fitted = TextClassifier(**quick).fit(X, Y)
    expected, content = fitted.predict_proba(X), pickle.dumps(fitted)
    size = sum(path.stat().st_size for path in scratch.rglob("best/**/*") if path.is_file())
    assert size < len(content) < size + 5000
    del fitted
    assert left_in(scratch) == []
    again = pickle.loads(content)
    assert np.array_equal(again.predict_proba(X), expected) and len(left_in(scratch)) == 1
    twice = copy.deepcopy(again)
    assert np.array_equal(twice.predict_proba(X), expected) and len(left_in(scratch)) == 2
    del again, twice
    assert left_in(scratch) == []


def test_adapters_are_pickled_with_the_weights_that_they_stand_beside(quick: dict[str, Any], scratch: Path) -> None:
    lora = {"model.lora.r": 2, "model.lora.merge": "off"}
    fitted = TextClassifier(**quick | {"overrides": quick["overrides"] | lora}).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.allclose(again.predict_proba(X), fitted.predict_proba(X), atol=1e-5)
    assert len(left_in(scratch)) == 2


def test_a_pickle_that_was_tampered_with_writes_nothing_elsewhere(quick: dict[str, Any], tmp_path: Path) -> None:
    kept = TextClassifier(**quick).fit(X, Y)._kept
    state = kept.__getstate__()
    state["files"]["../escaped"] = b""
    with pytest.raises(ValueError, match="leads out"):
        copy.copy(kept).__setstate__(state)
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((X, Y[:-1]), {"key": "y"}),
        ((X, None), {"key": "y"}),
        ((X, ["one"] * 80), {"reason": ""}),
        (([*X[:-1], None], Y), {"key": "X", "place": "X[79]"}),
        ((np.ones((80, 3)), Y), {"key": "X"}),
        ((csr_matrix(np.ones((80, 3))), Y), {"key": "X", "reason": "sparse"}),
        (("a text", Y), {"key": "X"}),
        ((5, Y), {"key": "X"}),
        ((pd.DataFrame({"body": X, "title": X}), Y), {"key": "data.columns.text"}),
        ((X, ["a", " a", "b"] * 26 + ["a", "b"]), {"key": "y"}),
    ],
)
def test_what_cannot_be_texts_and_classes_is_a_value_error_in_a_sentence(
    quick: dict[str, Any], given: Any, said: dict[str, Any]
) -> None:
    with refused(InputError, **said):
        TextClassifier(**quick).fit(*given)
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("estimator", "changed", "error", "key"),
    [
        (TextClassifier, {"overrides": {"task.kind": "regression"}}, ConfigError, "task.kind"),
        (TextClassifier, {"overrides": {"task.kind": "multitask"}}, ConfigError, "task.kind"),
        (TextRegressor, {"overrides": {"task.kind": "multiclass"}}, ConfigError, "task.kind"),
        (TextRegressor, {"overrides": {"task.knd": "multiclass"}}, ConfigError, "task.knd"),
        (TextClassifier, {"overrides": ["train.seed=1"]}, ConfigError, "overrides"),
        (TextClassifier, {"validation_fraction": 1.5}, ConfigError, "data.validation.ratio"),
        (TextClassifier, {"lr": "fast"}, ConfigError, "train.optimizer.lr"),
        (TextClassifier, {"config": "absent.toml"}, TextuneError, None),
    ],
)
def test_parameters_that_cannot_be_used_are_said_when_it_is_fitted(
    quick: dict[str, Any], estimator: Any, changed: dict[str, Any], error: Any, key: str | None
) -> None:
    with refused(error, **({} if key is None else {"key": key})):
        estimator(**quick | changed).fit(X, NUMBERS if estimator is TextRegressor else Y)


def test_nothing_is_predicted_before_a_fit() -> None:
    for predict in (TextClassifier().predict, TextClassifier().predict_proba, TextRegressor().predict):
        with pytest.raises(NotFittedError):
            predict(X)
