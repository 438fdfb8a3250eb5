"""Labels that a task of the user's own reads itself: each label as written in, its target out; for `encode.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.data.columns import Examples
from textune.data.labels.map import LabelMap
from textune.data.labels.values import label_column
from textune.data.reading import Fault
from textune.wording import shorten

_MISSING = "the label is missing"


def own_targets(examples: Examples, label_map: LabelMap, bad: dict[int, Fault]) -> np.ndarray:
    """The targets of examples, in the form that other labels of that kind have; `bad` gets each row
    without one.

    A label that occurs often is read once.
    """
    assert label_map.own is not None, "the task reads the labels"
    num_rows = len(examples)
    targets = np.zeros((num_rows, *label_map.no_targets().shape[1:]), label_map.no_targets().dtype)
    known: dict[str, object] = {}
    for row, label in enumerate(label_column(examples).to_pylist()):
        if label is None or label == "" or label != label:
            bad[row] = Fault(_MISSING)
            continue
        key = repr(label)
        if key not in known:
            known[key] = _read(label, label_map, examples.place(row))
        found = known[key]
        if isinstance(found, Fault):
            bad[row] = found
        else:
            targets[row] = found
    return targets


def _read(label: object, label_map: LabelMap, place: str) -> object:
    """The target of one label, which stands at `place`, or the Fault of a label that has none."""
    assert label_map.own is not None
    try:
        target = label_map.own.read(label, place)
    except ValueError as error:
        reason = " ".join(str(error).split()) or "ValueError"
        return Fault(f"the label {shorten(label, 30)} cannot be used: {reason}", label)
    said = f"the label {shorten(label, 30)} is read as {target!r:.30}"
    num = len(label_map.names)
    if label_map.exclusive:
        if isinstance(target, int | np.integer) and 0 <= target < num:
            return int(target)
        return Fault(f"{said}, which is not a class id from 0 to {num - 1}", label)
    if label_map.several:
        row = _numbers(target)
        if row is not None and row.shape == (num,) and ((row == 0) | (row == 1)).all():
            return row
        return Fault(f"{said}, which is not a row of {num} numbers, each 0 or 1", label)
    number = _numbers(target)
    if number is not None and number.shape == () and np.isfinite(number):
        return float(number)
    return Fault(f"{said}, which is not a finite number", label)


def _numbers(target: object) -> np.ndarray | None:
    if not isinstance(target, int | float | np.generic | np.ndarray | Sequence) or isinstance(target, str | bytes):
        return None
    try:
        return np.asarray(target, np.float32)
    except (TypeError, ValueError):
        return None
