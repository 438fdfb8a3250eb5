"""Labels of several tasks: a list per row with an entry for each task, or a column for each task.

An entry is a class by its name or its position. An empty one means that the row has no label for that task: its target
is MISSING, and it counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.config import Groups, Labels, OnBadRow
from textune.data.columns import Examples, leave_out
from textune.data.labels.map import LabelLookup, LabelMap, LabelMaps
from textune.data.labels.values import MISSING, LabelValues, label_values, whole
from textune.data.reading import Fault
from textune.errors import DataError, Setting, Words
from textune.wording import count, listing, nearest, shorten

_UNKNOWN = -2
"""In place of the id of an entry that is no class of its task."""


def task_maps(groups: Groups) -> dict[str, LabelMap]:
    """The label map of each task, from the names of its classes."""
    return {
        name: LabelMap("binary" if len(classes) == 2 else "multiclass", tuple(one.strip() for one in classes))
        for name, classes in groups.items()
    }


def tasks_in(label_maps: LabelMaps) -> tuple[str, ...]:
    """The names of several tasks; none where there is one head."""
    return tuple(label_maps) if len(label_maps) > 1 else ()


def encode_tasks(
    examples: Examples, label_maps: LabelMaps, section: Labels, *, on_bad_row: OnBadRow
) -> tuple[Examples, dict[str, np.ndarray]]:
    """The examples whose lists can be used, and their targets, int64 [N] by task.

    A list with another number of entries, or an entry that is no class of its task: a bad row.
    """
    values = label_values(examples, section, keeps_empty=True)
    bad: dict[int, Fault] = {}
    codes_NH = _entries(examples, values, tuple(label_maps), bad)
    targets = {}
    for index, (name, label_map) in enumerate(label_maps.items()):
        codes_N = codes_NH[:, index]
        table, faults = _table(values, np.unique(codes_N), name, label_map)
        targets[name] = table[codes_N]
        for row in np.flatnonzero(targets[name] == _UNKNOWN):
            bad.setdefault(int(row), faults[int(codes_N[row])])
    if not bad:
        return examples, targets
    kept = leave_out(examples, bad, on_bad_row=on_bad_row)
    keep_N = np.ones(len(examples), bool)
    keep_N[list(bad)] = False
    return kept, {name: of_task[keep_N] for name, of_task in targets.items()}


def _entries(examples: Examples, values: LabelValues, tasks: Sequence[str], bad: dict[int, Fault]) -> np.ndarray:
    """The code of each row's entry for each task, int64 [N, H]; rows without a list have none."""
    codes_NH = np.full((len(examples), len(tasks)), MISSING)
    if values.length_N is None:
        if not values.texts:
            return codes_NH
        raise DataError(
            f"{examples.rows.source}: label column {examples.label_column!r} holds one label per row, such as"
            f" {shorten(values.texts[0], 40)}, but there are {len(tasks)} tasks ({listing(tasks, 8)}).",
            hint=Words(
                "Write a list with an entry for each task, such as [0, 1], name a column for each in ",
                Setting("data.columns.labels"),
                ", or set ",
                Setting("data.labels.delimiter"),
                " to what separates the entries.",
            ),
            key="data.columns.label",
            value=examples.label_column,
            place=examples.rows.source,
        )
    stops_N = np.cumsum(np.maximum(values.length_N, 0))
    for row in np.flatnonzero((values.length_N != len(tasks)) & (values.length_N != MISSING)):
        length, stop = int(values.length_N[row]), int(stops_N[row])
        entries = count(length, "entry", "entries")
        reason = f"the list of labels has {entries}, but there are {len(tasks)} tasks ({listing(tasks, 8)})"
        codes = values.code_K[stop - length : stop].tolist()
        written = [None if code == MISSING else values.texts[code] for code in codes]
        bad[int(row)] = Fault(reason, written, "Write an entry for each task, null where a row has no label for it.")
    is_whole_N = values.length_N == len(tasks)
    codes_NH[is_whole_N] = values.code_K[is_whole_N[values.row_K]].reshape(-1, len(tasks))
    return codes_NH


def _table(
    values: LabelValues, codes: np.ndarray, task: str, label_map: LabelMap
) -> tuple[np.ndarray, dict[int, Fault]]:
    """The id of each value for one task, int64 [texts + 1] (the last for MISSING), and what is wrong with those of
    `codes` that are no class of it."""
    lookup = LabelLookup(label_map.names, given=True)
    table = np.full(len(values.texts) + 1, MISSING)
    faults = {}
    for code in codes[codes != MISSING].tolist():
        text = values.texts[code]
        place = lookup(text)
        table[code] = _UNKNOWN if place is None else place
        if place is not None:
            continue
        number, num_classes = whole(text) or text, len(label_map.names)
        said, hint = f"task {task!r}: the label {shorten(text, 30)} is", ""
        if number.lstrip("+-").isdigit():
            reason = f"{said} beyond its {num_classes} classes (0 to {num_classes - 1})"
            if number.startswith("-"):
                hint = "Leave the entry empty (null) where a row has no label for a task."
        else:
            shown = listing(map(shorten, label_map.names), 6)
            reason = f"{said} not one of its {num_classes} classes ({shown})"
            if close := nearest(text, label_map.names):
                hint = f"Did you mean {close!r}?"
        faults[code] = Fault(reason, text, hint)
    return table, faults
