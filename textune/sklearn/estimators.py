"""`TextClassifier` and `TextRegressor`: a text model in scikit-learn's terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(
        f"textune.sklearn needs the Python package scikit-learn, which cannot be imported: {error}. "
        'Install it with `pip install "textune[sklearn]"`.'
    ) from error

from textune.config import AutoTask, Config, DeviceName, RegressionTask, has_label_column, load_config
from textune.errors import ConfigError
from textune.prediction import Predictor
from textune.sklearn.fitting import Fitted, Job, fit, texts_or_table, value_errors
from textune.sklearn.targets import Classes, class_targets, classes_of, number_targets


class TextEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators have in common: parameters, and the model that a fit leaves."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        model: str | None = None,
        duration: str | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        max_length: int | None = None,
        overrides: Mapping[str, object] | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        run: str | Path | None = None,
        device: DeviceName | None = None,
    ) -> None:
        """`config`: a TOML file, a preset (`preset:NAME`) or a nested dictionary, as in `textune.train`; it says how
        to train, `X` and `y` are the rows. `overrides`: more values, by dotted key.

        `model` (a folder or hub name), `duration` (such as "3 epochs"), `lr`, `batch_size`, `max_length` and `device`
        are keys of it that are often tuned. `validation_fraction`: share of the rows for choosing the best model, 0
        for none. `random_state`: seed of the training and of that share. None leaves each as it is configured. `run`:
        a new folder to keep the run in; without it the run is temporary, and its model lives as long as the estimator.
        """
        self.config = config
        self.model = model
        self.duration = duration
        self.lr = lr
        self.batch_size = batch_size
        self.max_length = max_length
        self.overrides = overrides
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.run = run
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _keep(self, fitted: Fitted) -> None:
        self._kept = fitted.model
        validation = fitted.result.reports.get("validation")
        self.metrics_ = {} if validation is None else dict(validation.metrics)
        self.notices_ = fitted.result.notices
        self.steps_ = fitted.result.steps

    @property
    def _predictor(self) -> Predictor:
        """The fitted model; NotFittedError before a fit."""
        check_is_fitted(self)
        return self._kept.predictor

    def _scores(self, X: Any) -> np.ndarray:
        """What the model says of each row, before any decision: float64 [N, K], or [N] for numbers."""
        predictor = self._predictor
        with value_errors():
            scores = predictor.scorer.score_store(predictor.encode(texts_or_table(X)))
        [only] = scores.values()
        return only

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_kept")


class TextClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]
    """A text model that tells classes apart, or says which of several labels a text has.

    `X`: texts (a list, an array, a column), or a table with the columns that the configuration names. `y`: a class for
    each, or an indicator matrix of 0 and 1 with a column for each label. After a fit: `classes_`, `metrics_` (on the
    rows set aside), `notices_` (what the user should know), `steps_`.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train, and keep the best model. `sample_weight`: of each row in the loss.

        Raises TextuneError as `textune.train` does; one about the rows is a ValueError, too.
        """
        task = load_config(self.config, self.overrides or {}).experiment.task
        if not has_label_column(task) or isinstance(task, RegressionTask):
            raise _other_task(task.kind, "TextClassifier", "classes or labels of one column")
        targets = class_targets(y)
        named = {"data.labels.names": targets.names, "data.labels.names_file": None} if targets.names else {}
        fitted = fit(Job.of(self.get_params(deep=False), named), X, targets.labels, sample_weight)
        self._classes: Classes = classes_of(targets, fitted.card)
        self._several: bool = targets.several
        self.classes_ = self._classes.values
        self._keep(fitted)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, [N]; of several labels 0 or 1 for each, [N, K]. By the decision of the model, and
        answered where that would withhold an answer."""
        scores_NK = self._scores(X)
        [head] = self._predictor.scorer.task.heads
        decided = head.decide(scores_NK)
        return decided.astype(np.int64) if self._several else self._classes.of_ids(decided)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The calibrated probability of each of `classes_`, float64 [N, K]."""
        scores_NK = self._scores(X)
        [head] = self._predictor.scorer.task.heads
        return np.asarray(head.calibrated(scores_NK)[:, self._classes.id_K], dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class TextRegressor(RegressorMixin, TextEstimator):  # type: ignore[misc]
    """A text model that predicts a number for each text; `X` and what a fit leaves as in `TextClassifier`."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train, and keep the best model; as in `TextClassifier`, with a number for each row in `y`."""
        task = load_config(self.config, self.overrides or {}).experiment.task
        if not isinstance(task, AutoTask | RegressionTask):
            raise _other_task(task.kind, "TextRegressor", "numbers")
        job = Job.of(self.get_params(deep=False), {"task.kind": RegressionTask().kind})
        self._keep(fit(job, X, list(number_targets(y)), sample_weight))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number of each row, float64 [N]."""
        return np.asarray(self._scores(X), dtype=np.float64)


def _other_task(kind: str, estimator: str, learns: str) -> ConfigError:
    return ConfigError(
        f'task.kind = "{kind}": {estimator} learns {learns}.',
        hint="Leave task.kind out, or train with textune.train.",
        key="task.kind",
        value=kind,
        reason=f"not for {estimator}",
    )
