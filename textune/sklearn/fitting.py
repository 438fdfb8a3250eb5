"""One fit of an estimator: its parameters are overrides of a configuration, its rows those of a run, whose best model
is kept.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_array

from textune.config import Columns, Config, SplitOff, load_config, user_path
from textune.data import column_names, items_of, memory_piece
from textune.errors import ConfigError, DataError, InputError
from textune.owncode import article
from textune.pipeline import TemporaryFolder, TrainResult, train
from textune.prediction import ModelCard, read_card
from textune.run import RunFolder, SilentTracker
from textune.sklearn.kept import KeptModel

_KEYS = {
    "model": "model.pretrained",
    "duration": "train.duration",
    "lr": "train.optimizer.lr",
    "batch_size": "train.batch_size",
    "max_length": "tokens.max_length",
    "device": "train.device",
}
"""Parameters of an estimator that are keys of the configuration."""
_NOT_OF_THE_CONFIG = ("data.test", "data.evaluations", "data.labels.delimiter", "data.columns.labels")
"""What `X` and `y` say instead of a configuration."""


@dataclass(frozen=True)
class Fitted:
    """What came of a fit."""

    model: KeptModel
    card: ModelCard
    result: TrainResult


@dataclass(frozen=True)
class Job:
    """What an estimator trains."""

    config: Config | None
    overrides: Mapping[str, object]
    run: str | Path | None

    @classmethod
    def of(cls, parameters: Mapping[str, Any], more: Mapping[str, object]) -> Job:
        """The parameters of an estimator; `more`: overrides that follow from `y`."""
        given = parameters["overrides"]
        if not isinstance(given, Mapping | None):
            raise ConfigError(
                f"overrides = {given!r:.60} is {article(given)}, not a dictionary.",
                hint='Write overrides={"train.optimizer.lr": 1e-3}.',
                key="overrides",
                value=given,
            )
        keys = {key: parameters[name] for name, key in _KEYS.items() if parameters[name] is not None}
        overrides = {**(given or {}), **keys, **more, **_fraction(parameters["validation_fraction"])}
        if parameters["random_state"] is not None:
            seed = _seed(parameters["random_state"])
            overrides["train.seed"] = seed
            validation = load_config(parameters["config"], overrides).experiment.data.validation
            overrides |= {"data.validation.seed": seed} if isinstance(validation, SplitOff) else {}
        return cls(parameters["config"], overrides, parameters["run"])


def _fraction(fraction: float | None) -> dict[str, object]:
    """Keys of the share of rows that is set aside for choosing the best model; 0: none, None: as configured."""
    if fraction is None:
        return {}
    if fraction == 0:
        return {"data.validation.kind": "none"}
    return {"data.validation.kind": "split", "data.validation.ratio": fraction, "data.validation.count": None}


def _seed(state: Any) -> int:
    if isinstance(state, int | np.integer):
        return int(state)
    return int(check_random_state(state).randint(np.iinfo(np.int32).max))


def fit(job: Job, X: Any, labels: list[Any], sample_weight: Any) -> Fitted:
    """Train on texts, or on a table with the columns of the configuration, with a label each.

    Everything but the given run folder is temporary. Raises TextuneError as `textune.train` does; one about the rows
    is a ValueError, too.
    """
    loaded = load_config(job.config, job.overrides)
    columns, overrides = loaded.experiment.data.columns, dict(job.overrides)
    more: dict[str, list[Any] | np.ndarray] = {columns.label: labels}
    if sample_weight is not None:
        overrides["data.columns.weight"] = name = columns.weight or "sample_weight"
        more[name] = column_or_1d(check_array(sample_weight, ensure_2d=False, dtype=np.float64))
    temporary = TemporaryFolder() if job.run is None else None
    run = temporary.path / "run" if temporary is not None else user_path(job.run or "")
    try:
        with value_errors():
            rows = _with_columns(texts_or_table(X), more, columns)
            result = train(
                job.config, run=run, overrides=overrides, unset=_NOT_OF_THE_CONFIG, train=rows, tracker=SilentTracker()
            )
    except BaseException:
        if temporary is not None:
            temporary.remove()
        raise
    folder = RunFolder(result.run)
    if temporary is not None:
        shutil.rmtree(folder.checkpoints)  # nobody resumes it
    card = read_card(folder.best)
    device = loaded.experiment.train.device
    return Fitted(KeptModel(folder.best, temporary=temporary, device=device, code=card.code), card, result)


def texts_or_table(X: Any) -> Any:
    """Texts as a list of str; a table, or rows as dictionaries, as it is. InputError for anything else."""
    if hasattr(X, "tocsr"):
        raise InputError("X is a sparse matrix, not texts.", key="X", value=X, place="X", reason="a sparse matrix")
    if column_names(X) is not None:
        return X
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    texts = items_of(X, "X")
    if texts and all(isinstance(one, Mapping) for one in texts):
        return texts
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"X[{index}] is {text!r:.40}, not a text (str).",
                hint="Give a list, array or column of texts, or a table with the columns that the model reads.",
                key="X",
                value=text,
                place=f"X[{index}]",
                reason="not a text",
            )
    return [str(text) for text in texts]


def _with_columns(X: Any, more: Mapping[str, Any], columns: Columns) -> pa.Table | dict[str, Any]:
    """The rows to train on: `X` with the columns that come from `y` and `sample_weight`."""
    if isinstance(X, list) and not (X and isinstance(X[0], Mapping)):
        if len(X) != len(more[columns.label]):
            raise InputError(f"X has {len(X):,} texts, but y has {len(more[columns.label]):,} labels.", key="y")
        return {columns.text: X, **more}
    piece = memory_piece(X, "X", "X is")
    if piece.bad:
        bad = piece.bad[0]
        raise InputError(f"{bad.place}: {bad.reason}.", key="X", place=bad.place, reason=bad.reason)
    table = piece.table
    for name, values in more.items():
        if name in table.column_names:
            raise InputError(
                f"X has a column {name!r}, which is where {'y' if name == columns.label else 'sample_weight'} goes.",
                hint="Leave it out of X.",
                key="X",
                value=name,
                reason="the column comes from another argument",
            )
        if len(values) != table.num_rows:
            raise InputError(f"X has {table.num_rows:,} rows, but y has {len(values):,} labels.", key="y")
        table = table.append_column(name, memory_piece({name: values}, "y", "y is").table.column(name))
    return table


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """An error about rows is a ValueError, as scikit-learn's own are."""
    try:
        yield
    except InputError:
        raise
    except DataError as error:
        raise InputError(
            error.message,
            hint=error.remedy,
            key=error.key,
            value=error.value,
            place=error.place,
            reason=error.reason,
        ) from error
