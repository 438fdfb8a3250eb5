"""The targets of an estimator as labels of a run, and the labels of its model as targets again.

Classes are told apart by their values in `y`, as scikit-learn does, and by their names in textune.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array

from textune.data import LabelLookup
from textune.errors import InputError
from textune.prediction import ModelCard
from textune.wording import listing


@dataclass(frozen=True)
class ClassTargets:
    """What a classifier learns; N rows, K classes or labels."""

    labels: list[object]
    """[N] as a column of the training rows has them: a class, or a row of 0 and 1."""
    values: np.ndarray
    """[K] the classes in order, or what labels are called."""
    several: bool
    """Whether a row may have any number of the labels."""
    names: tuple[str, ...] = ()
    """Names of the labels of a table; where they have none they are numbers."""


@dataclass(frozen=True)
class Classes:
    """The classes of a fitted model, in scikit-learn's order."""

    values: np.ndarray
    """[K] as in `y`, sorted."""
    id_K: np.ndarray
    """int64 [K] the id of each in the model."""

    def of_ids(self, id_N: np.ndarray) -> np.ndarray:
        """[N] the values of answers."""
        return np.asarray(self.values[np.argsort(self.id_K)[id_N]])


def class_targets(y: Any) -> ClassTargets:
    """The targets of a classifier; ValueError for what cannot be classes."""
    _require(y)
    finite = check_array(y, accept_sparse=True, ensure_2d=False, dtype=None, input_name="y")
    if type_of_target(finite, input_name="y") == "multilabel-indicator":
        rows_NK = finite.toarray() if hasattr(finite, "toarray") else finite
        names = tuple(map(str, getattr(y, "columns", ())))
        values = np.array(names) if names else np.arange(rows_NK.shape[1])
        return ClassTargets([[int(one) for one in row] for row in rows_NK], values, True, names)
    column_N = column_or_1d(finite, warn=True)
    check_classification_targets(column_N)
    return ClassTargets([_plain(value) for value in column_N], np.unique(column_N), False)


def number_targets(y: Any) -> list[float]:
    """The targets of a regressor; ValueError for what are no numbers."""
    _require(y)
    column_N = column_or_1d(check_array(y, ensure_2d=False, dtype="numeric", input_name="y"), warn=True)
    return [float(value) for value in column_N]


def _require(y: Any) -> None:
    if y is None:
        raise InputError("a text model requires y to be passed, but the target y is None.", key="y", reason="None")


def _plain(value: Any) -> object:
    """A class as Python has it; a whole number with a fraction part of 0 as an integer."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def classes_of(targets: ClassTargets, card: ModelCard) -> Classes:
    """The classes of a model that was trained on these targets.

    Classes that the configuration names and `y` lacks are among them. InputError where the model does not tell two
    of them apart.
    """
    [label_map] = card.label_maps.values()
    if targets.several:
        return Classes(targets.values, np.arange(len(label_map.names)))
    lookup = LabelLookup(label_map.names, given=bool(card.labels.names))
    id_K = [lookup(str(_plain(value)).strip()) for value in targets.values]
    if None in id_K or len(set(id_K)) < len(id_K) or not label_map.choices:
        shown = listing(map(repr, targets.values.tolist()), 6)
        raise InputError(
            f"y has classes that are read as the same label, or as numbers to predict: {shown}.",
            hint="Give classes that differ in more than white space and case, and are no fractions.",
            key="y",
            value=targets.values.tolist(),
            reason="classes that cannot be told apart",
        )
    ids = {int(id): value for id, value in zip(id_K, targets.values.tolist(), strict=True) if id is not None}
    for id, name in enumerate(label_map.names):
        ids.setdefault(id, _like(targets.values, id, name))
    order = sorted(ids, key=lambda id: ids[id])
    return Classes(np.array([ids[id] for id in order], dtype=_dtype(targets.values)), np.array(order))


def _like(values: np.ndarray, id: int, name: str) -> object:
    """The value of a class that `y` lacks, as those it has: its name, or for numbers the number that it is named or
    numbered by."""
    if values.dtype.kind in "OUST":
        return name
    return int(name) if name.lstrip("-").isdecimal() else id


def _dtype(values: np.ndarray) -> Any:
    """That of the classes; None for texts, which may have become longer."""
    return None if values.dtype.kind in "UT" else values.dtype
