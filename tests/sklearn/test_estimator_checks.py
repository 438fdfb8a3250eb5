"""scikit-learn's own checks of estimators, on texts.

They give numbers, and ours take texts: `Spelt` writes each row of numbers as a text, and leaves everything else to the
estimator. What then cannot hold stands in a table, with the reason, and is shown to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from textune.sklearn.estimators import TextClassifier, TextRegressor

NUMBERS = "X must be texts: "
EXPECTED_FAILURES = {
    "check_n_features_in": NUMBERS + "they have no number of features",
    "check_n_features_in_after_fitting": NUMBERS + "they have no number of features",
    "check_estimators_empty_data_messages": NUMBERS + "an empty one is a row without features",
    "check_estimators_nan_inf": NUMBERS + "NaN and infinities are words like others",
    "check_fit2d_predict1d": NUMBERS + "a list of them is what is asked for, and needs no other shape",
    "check_classifiers_train": NUMBERS + "a tiny model learns nothing from digits in one step",
    "check_regressors_train": NUMBERS + "a tiny model learns nothing from digits in one step",
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is in one batch, and two such rows in two",
}
"""By check, why it cannot hold for estimators of texts."""
IN_FLOAT32 = {"check_methods_subset_invariance": "float32: another batch may add in another order"}
"""Of the regressor alone, and not on every processor; probabilities stay within the check's tolerance."""
REGRESSORS_OWN = {"check_regressors_int", "check_regressor_data_not_an_array", "check_regressors_no_decision_function"}
COSTLY = {"check_classifiers_multilabel_representation_invariance", "check_sample_weights_shape"}


class Spelt:
    """An estimator of rows of numbers, which it reads as texts."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        return super().fit(spelt(X), y, sample_weight)  # type: ignore[misc]

    def predict(self, X: Any) -> Any:
        return super().predict(spelt(X))  # type: ignore[misc]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False  # else no check is made
        return tags


class SpeltClassifier(Spelt, TextClassifier):  # type: ignore[misc]
    def predict_proba(self, X: Any) -> Any:
        return super().predict_proba(spelt(X))


class SpeltRegressor(Spelt, TextRegressor):  # type: ignore[misc]
    pass


def spelt(X: Any) -> Any:
    """Rows of numbers as texts; anything else as it is."""
    if hasattr(X, "tocsr") or (rows := np.asarray(X)).ndim != 2:
        return X
    if np.iscomplexobj(rows):
        raise ValueError("Complex data not supported")
    return [" ".join(map(str, row)) for row in rows.tolist()]


def estimators() -> list[Any]:
    options: dict[str, Any] = {"duration": "1 steps", "validation_fraction": 0}
    overrides = {"train.schedule.kind": "constant", "train.schedule.warmup": "0 steps"}
    return [
        SpeltClassifier("preset:tiny", overrides=overrides | {"task.kind": "auto"}, **options),
        SpeltRegressor("preset:tiny", overrides=overrides | {"task.kind": "auto"}, **options),
    ]


def checks() -> Iterator[Any]:
    """Each check of each estimator; quick are those that hold, once for what both have in common."""
    for estimator in estimators():
        seen = set()
        for one, check in estimator_checks_generator(estimator):
            name = check.func.func.__name__ if hasattr(check.func, "func") else check.func.__name__
            expected = EXPECTED_FAILURES | (IN_FLOAT32 if isinstance(one, TextRegressor) else {})
            is_certain = name not in IN_FLOAT32
            marks = [pytest.mark.xfail(reason=expected[name], strict=is_certain)] if name in expected else []
            is_quick = name not in expected and name not in seen | COSTLY
            is_quick = is_quick and (isinstance(one, TextClassifier) or name in REGRESSORS_OWN)
            marks += [] if is_quick else [pytest.mark.slow]
            seen.add(name)
            yield pytest.param(one, check, marks=marks, id=f"{type(one).__name__}-{name}")


@pytest.mark.every_day(2)
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_what_scikit_learn_asks_of_estimators(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_texts_are_what_the_estimators_say_that_they_take() -> None:
    for estimator in (TextClassifier(), TextRegressor()):
        tags = estimator.__sklearn_tags__().input_tags
        assert tags.string and tags.one_d_array and not tags.two_d_array
