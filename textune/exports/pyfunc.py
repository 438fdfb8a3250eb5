"""A trained model as MLflow calls it: `mlflow.pyfunc.load_model(folder).predict(...)`, by the one inference path.

columns that MLflow has held against the signature --predict_table--> predicted_label, predicted_score, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from textune.data import text_columns
from textune.errors import DataError, TextuneError
from textune.exports.pyfuncform import ALL_SCORES, DECISION, MODEL, takes_lists
from textune.prediction import Predictor, load, predict_table
from textune.wording import listing


class Pyfunc(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """What MLflow makes of the folder's script; the model itself is opened by `load_context`."""

    _predictor: Predictor
    _undecided: Predictor

    def load_context(self, context: PythonModelContext) -> None:
        """Open the plain model folder among the artefacts, as the folder's `model_config` says: `device`, `precision`,
        `max_tokens` and `compile`, as in `textune.load`."""
        with _as_mlflow():
            self._predictor = load(context.artifacts[MODEL], **(context.model_config or {}))
            self._undecided = Predictor(self._predictor.scorer.with_decisions({}))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The columns that `textune predict` adds, for each of N rows; of a model of several tasks each names its own.

        `params`: `all_scores` adds `score_NAME` for every label; without `decision` labels are given by the usual
        rule, and scores are those of the model itself. Raises MlflowException for rows that cannot be predicted, with
        our own sentence: its server answers 400 then, else with a trace of this code.
        """
        asked = params or {}
        with _as_mlflow():
            predictor = self._predictor if asked.get(DECISION, True) else self._undecided
            rows = self._rows(model_input)
            table = predict_table(predictor, rows, all_scores=bool(asked.get(ALL_SCORES, False)))
        return _as_frame(table)

    def _rows(self, given: pd.DataFrame) -> pd.DataFrame:
        """The rows under the names of the model's columns. A list of texts has become one column without a name."""
        rows = _one_row_each(given).reset_index(drop=True)
        if not takes_lists(self._predictor.card):
            return rows
        [wanted] = text_columns(self._predictor.card.columns)
        [found] = rows.columns
        if found in (0, "0"):
            return rows.rename(columns={found: wanted})
        if found != wanted:
            raise DataError(
                f"the model reads the column {wanted!r}, and the first one given is {found!r}.",
                hint=f"Select the column, as in predict(table[[{wanted!r}]]), or give a list of texts.",
                key="data.columns.text",
                value=found,
                reason=f"it is not {wanted!r}",
            )
        return rows


def _one_row_each(given: pd.DataFrame) -> pd.DataFrame:
    """Of a dictionary of lists MLflow makes one row whose cells are lists: the rows that were meant."""
    if len(given) != 1 or not all(isinstance(cell, list) for cell in given.iloc[0]):
        return given
    lists: dict[Any, list[Any]] = {name: given[name].iloc[0] for name in given.columns}
    sizes = {str(name): len(cells) for name, cells in lists.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"the columns are not equally long: {listing(f'{name} has {size}' for name, size in sizes.items())}.",
            hint="Give a value for each row in every column.",
        )
    return pd.DataFrame(lists)


def _as_frame(table: pa.Table) -> pd.DataFrame:
    """As pandas has it; labels as plain objects, so that a withheld answer stays None and several labels a list."""
    columns: Mapping[str, pd.Series[Any]] = {
        name: pd.Series(column.to_pylist(), dtype="float64" if pa.types.is_floating(column.type) else "object")
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pd.DataFrame(columns)


@contextmanager
def _as_mlflow() -> Iterator[None]:
    """Errors that a caller can fix, in MLflow's terms."""
    try:
        yield
    except TextuneError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error
