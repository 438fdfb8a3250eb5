"""Labels to the numbers that a model learns from; the last step after `infer.py`, also used for data that comes
later."""

from __future__ import annotations

import numpy as np

from textune.config import Labels, OnBadRow
from textune.data.columns import Examples, leave_out
from textune.data.labels.bytask import encode_tasks, tasks_in
from textune.data.labels.checks import require_named
from textune.data.labels.map import LabelLookup, LabelMap, LabelMaps
from textune.data.labels.names import names_by_user
from textune.data.labels.own import own_targets
from textune.data.labels.values import MISSING, LabelValues, bit_of, label_column, label_values, multi_hot_width
from textune.data.reading import Fault, number_advice, to_floats
from textune.errors import DataError
from textune.wording import count, listing, nearest, shorten

_NO_LABEL = Fault("the label is missing")
_MAX_GUESSES = 20
"""The most unknown labels whose nearest known one is looked up, since that is slow."""


def encode_by_head(
    examples: Examples, label_maps: LabelMaps, section: Labels, *, on_bad_row: OnBadRow = "error"
) -> tuple[Examples, dict[str, np.ndarray]]:
    """The examples whose labels can be used, and their targets by head, as `encode_labels` gives them; of several
    tasks, as `encode_tasks` does."""
    if tasks_in(label_maps):
        return encode_tasks(examples, label_maps, section, on_bad_row=on_bad_row)
    ((name, label_map),) = label_maps.items()
    kept, targets = encode_labels(examples, label_map, section, on_bad_row=on_bad_row)
    return kept, {name: targets}


def encode_labels(
    examples: Examples, label_map: LabelMap, section: Labels, *, on_bad_row: OnBadRow = "error"
) -> tuple[Examples, np.ndarray]:
    """The examples whose labels can be used, and their targets.

    Targets: int64 [N] for binary and multiclass, float32 [N, C] of 0 and 1 for multilabel, float32 [N] for regression.
    A missing label, one that is not in the map, a number that is not finite: a bad row.
    """
    bad: dict[int, Fault] = {}
    if label_map.own is not None:
        targets = own_targets(examples, label_map, bad)
    elif label_map.problem == "regression":
        targets = _regression_targets(examples, bad)
    else:
        values = label_values(examples, section)
        given = names_by_user(section)
        if not given:
            require_named([examples], [values])
        if label_map.problem == "multilabel":
            targets = _multilabel_targets(values, label_map, bad, given=given, where=examples.rows.source)
            if examples.label_names and set(values.texts) <= {"false", "true"} and not given:  # columns side by side
                targets = targets[:, _places(label_map.names, examples)]
        else:
            targets = _class_targets(values, label_map, bad, given=given, where=examples.rows.source)
    if not bad:
        return examples, targets
    kept = leave_out(examples, bad, on_bad_row=on_bad_row)
    keep_N = np.ones(len(examples), bool)
    keep_N[list(bad)] = False
    return kept, targets[keep_N]


def _places(names: tuple[str, ...], examples: Examples) -> list[int]:
    """The position of each label in multi-hot rows that name their entries; DataError where they name others."""
    if sorted(names) != sorted(examples.label_names):
        raise DataError(
            f"{examples.rows.source} has the labels {listing(map(repr, examples.label_names), 6)}, but the model"
            f" predicts"
            f" {listing(map(repr, names), 6)}.",
            hint="Name the same columns in data.columns.labels.",
        )
    return [examples.label_names.index(name) for name in names]


def _regression_targets(examples: Examples, bad: dict[int, Fault]) -> np.ndarray:
    label = label_column(examples)
    value_N, number_N = to_floats(label)
    with np.errstate(over="ignore"):
        targets = value_N.astype(np.float32)
    for index in np.flatnonzero(~number_N | ~np.isfinite(targets)):
        value = label[int(index)].as_py()
        if value is None or value == "" or (isinstance(value, float) and value != value):
            bad[int(index)] = _NO_LABEL
            continue
        reason = f"the label {shorten(value, 30)} is not a finite number, which regression needs"
        hint = number_advice([value.strip()]) if isinstance(value, str) else ""
        bad[int(index)] = Fault(reason, value, hint)
    return targets


def _table(values: LabelValues, label_map: LabelMap, faults: dict[int, Fault], *, given: bool) -> np.ndarray:
    """Id of each distinct value, int64 [len(texts) + 1] (the last for MISSING); -1 and a Fault for unknown ones."""
    lookup = LabelLookup(label_map.names, given=given)
    table = np.full(len(values.texts) + 1, -1)
    names = listing(map(shorten, label_map.names), 6)
    for code, (text, kind) in enumerate(zip(values.texts, values.kinds, strict=True)):
        place = lookup(text)
        if place is not None:
            table[code] = place
            continue
        if kind == "number":
            reason = f"the label {shorten(text, 30)} is a number where a label name is expected ({names})"
            faults[code] = Fault(reason, text)
            continue
        reason, hint = f"the label {shorten(text, 30)} is not one of the {len(lookup.ids):,} labels ({names})", ""
        if close := nearest(text, lookup.ids) if len(faults) < _MAX_GUESSES - 1 else None:
            hint = f"Did you mean {close!r}?"
        elif kind == "integer" and not given:
            hint = "An integer can only mean a name if data.labels.names gives the order of the names."
        faults[code] = Fault(reason, text, hint)
    return table


def _class_targets(
    values: LabelValues, label_map: LabelMap, bad: dict[int, Fault], *, given: bool, where: str
) -> np.ndarray:
    if values.is_lists:
        raise DataError(f"{where} has several labels per row, but the model predicts one.")
    faults = {MISSING: _NO_LABEL}
    targets = np.asarray(_table(values, label_map, faults, given=given)[values.code_K])
    for row in np.flatnonzero(targets < 0):
        bad[int(row)] = faults[int(values.code_K[row])]
    return targets


def _multilabel_targets(
    values: LabelValues, label_map: LabelMap, bad: dict[int, Fault], *, given: bool, where: str
) -> np.ndarray:
    if values.length_N is None:
        raise DataError(
            f"{where} has one label per row, but the model predicts several.", hint="Set data.labels.delimiter."
        )
    size = len(label_map.names)
    for row in np.flatnonzero(values.length_N == MISSING):
        bad[int(row)] = _NO_LABEL
    targets = np.zeros((len(values.length_N), size), np.float32)
    row_K = values.row_K
    multi_hot = label_map.multi_hot if label_map.multi_hot is not None else multi_hot_width(values) == size
    if multi_hot:
        for row in np.flatnonzero((values.length_N != size) & (values.length_N != MISSING)):
            length = int(values.length_N[row])
            reason = f"{count(length, 'entry', 'entries')} where the other rows have {size}, one per label"
            bad[int(row)] = Fault(reason, length)
        bits = [bit_of(text) for text in values.texts]
        table = np.array([MISSING if bit is None else bit for bit in bits] + [MISSING])
        bit_K = table[values.code_K]
        for row in np.unique(row_K[bit_K == MISSING]):
            bad.setdefault(int(row), Fault("one of its label entries is neither 0 nor 1"))
        whole_N = values.length_N == size
        chosen_K = whole_N[row_K]
        targets[whole_N] = np.maximum(bit_K[chosen_K], 0).reshape(-1, size)
        return targets
    faults = {MISSING: Fault("a label in its list is missing")}
    id_K = _table(values, label_map, faults, given=given)[values.code_K]
    for entry in np.flatnonzero(id_K < 0):
        bad.setdefault(int(row_K[entry]), faults[int(values.code_K[entry])])
    known_K = id_K >= 0
    targets[row_K[known_K], id_K[known_K]] = 1.0
    return targets
