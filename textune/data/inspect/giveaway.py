"""Columns of `data.metadata` that alone give the labels away: a table from value to answer, made of four fifths of the
training rows and tried on the others; used by `audit.py`.

A value that the table does not have is answered as if nothing were known, so a column of unique values gives nothing
away. N rows, V values, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from textune.config import MetadataPrefix
from textune.data.inspect.audited import Audited
from textune.data.inspect.findings import Finding, Level
from textune.data.labels import LabelMap, LabelMaps, has_label
from textune.draws import Draws

FOLDS = 5
MAX_ERROR = 0.01
"""A column is refused if its table leaves no more wrong (of numbers: of their variance) than this."""
MIN_FEWEST = 10
"""Rows that the most frequent answer must get wrong: of fewer, chance may be the reason."""


class Told(NamedTuple):
    """What a table of one column's values tells."""

    error: float
    """Share of rows that it gets wrong; of numbers, the share of the variance that it does not explain."""
    usual_error: float
    """The same for the answer that is best without knowing the column."""
    num_rows: int

    @property
    def gives_away(self) -> bool:
        """Whether that is as good as the label: nearly everything, and not just what the usual answer gets right."""
        enough = self.usual_error * self.num_rows >= MIN_FEWEST
        return enough and self.error <= min(MAX_ERROR, self.usual_error / 2)


def giveaways(train: Audited, label_maps: LabelMaps, prefix: MetadataPrefix | None) -> list[Finding]:
    """A finding for each column of the prefix that gives the labels of a head away: an error, or a note where
    `allow_leak` names it."""
    if prefix is None:
        return []
    fold_N = Draws.of_seed(0).permutation(len(train)) % FOLDS
    return [
        _finding(train, name, told, what, level="note" if name in prefix.allow_leak else "error")
        for name, code_N in zip(prefix.columns, _codes(train), strict=True)
        for what, told in _told_by(code_N, fold_N, train, label_maps)
        if told.gives_away
    ]


def _codes(train: Audited) -> Iterator[np.ndarray]:
    """Of each column, int64 [N] a number for each value of the training rows; 0 where there is none."""
    chosen = pa.array(train.split.indices)
    for field in train.split.examples.fields:
        codes = field.take(chosen).combine_chunks().dictionary_encode().indices
        yield codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1


def _told_by(
    code_N: np.ndarray, fold_N: np.ndarray, train: Audited, label_maps: LabelMaps
) -> Iterator[tuple[str, Told]]:
    """What the column tells of each label that is asked for on its own, and what that is called."""
    for head, label_map in label_maps.items():
        targets = train.targets[head]
        has = has_label(targets)
        if not has.any():
            continue
        code, fold, of_head = code_N[has], fold_N[has], targets[has]
        task = f" of the task {head!r}" if len(label_maps) > 1 else ""
        for what, told in _of_head(code, fold, of_head, label_map):
            yield f"{what}{task}", told


def _of_head(
    code_N: np.ndarray, fold_N: np.ndarray, targets: np.ndarray, label_map: LabelMap
) -> Iterator[tuple[str, Told]]:
    if not label_map.choices:
        yield "number", told_of_numbers(code_N, fold_N, targets)
    elif label_map.several:
        for place, name in enumerate(label_map.names):
            yield f"label {name!r}", told_of_classes(code_N, fold_N, targets[:, place])
    else:
        yield "label", told_of_classes(code_N, fold_N, targets)


def told_of_classes(code_N: np.ndarray, fold_N: np.ndarray, class_N: np.ndarray) -> Told:
    """What the values (int64 [N]) tell of classes ([N], whole numbers); `fold_N` [N] is the part that a row is tried
    in."""
    num_classes = int(class_N.max(initial=0)) + 1
    pair_P, pair_N = np.unique(code_N * num_classes + class_N.astype(np.int64), return_inverse=True)
    value_P, class_P = pair_P // num_classes, pair_P % num_classes
    first_V = np.flatnonzero(np.concatenate([[True], value_P[1:] != value_P[:-1]]))
    value_N = np.searchsorted(value_P[first_V], code_N)
    wrong, usual_wrong = 0, 0
    count_P = np.bincount(pair_N, minlength=len(pair_P))
    for fold in range(FOLDS):
        tried = fold_N == fold
        known_P = count_P - np.bincount(pair_N[tried], minlength=len(pair_P))
        usual = np.bincount(class_P, weights=known_P, minlength=num_classes).argmax()
        # the class with the most rows of each value, the lowest where there are several
        best_P = np.lexsort((class_P, -known_P, value_P))[first_V]
        answer_V = np.where(known_P[best_P] > 0, class_P[best_P], usual)
        wrong += int((answer_V[value_N[tried]] != class_N[tried]).sum())
        usual_wrong += int((class_N[tried] != usual).sum())
    return Told(wrong / len(class_N), usual_wrong / len(class_N), len(class_N))


def told_of_numbers(code_N: np.ndarray, fold_N: np.ndarray, number_N: np.ndarray) -> Told:
    """The same of numbers (float [N]): the table holds the mean of each value; shares are of the variance."""
    values, value_N = np.unique(code_N, return_inverse=True)
    number_N = number_N.astype(np.float64)
    missed, usual_missed = 0.0, 0.0
    for fold in range(FOLDS):
        tried = fold_N == fold
        known, tried_N = value_N[~tried], number_N[tried]
        if not len(known) or not len(tried_N):
            continue
        sum_V = np.bincount(known, weights=number_N[~tried], minlength=len(values))
        count_V = np.bincount(known, minlength=len(values))
        usual = number_N[~tried].mean()
        answer_V = np.where(count_V > 0, sum_V / np.maximum(count_V, 1), usual)
        missed += float(((answer_V[value_N[tried]] - tried_N) ** 2).sum())
        usual_missed += float(((tried_N - usual) ** 2).sum())
    if usual_missed == 0:
        return Told(1.0, 0.0, len(number_N))
    return Told(missed / usual_missed, 1.0, len(number_N))


def _finding(train: Audited, column: str, told: Told, what: str, *, level: Level) -> Finding:
    if what.startswith("number"):
        found = f"explains {1 - told.error:.1%} of the variance of the {what} in"
    else:
        found = f"finds the {what} of {1 - told.error:.1%} (without it: {1 - told.usual_error:.1%}) of"
    message = f"The column {column!r} gives the {what} away: a table of its values alone {found} training rows that"
    message += " it was not made of"
    message += (
        "; data.metadata.allow_leak allows that."
        if level == "note"
        else ". Leave it out of data.metadata.columns, or name it in data.metadata.allow_leak if it is known wherever"
        " the model will be used."
    )
    return Finding(level, "column-leak", message, told.num_rows, train.show(range(len(train))))
