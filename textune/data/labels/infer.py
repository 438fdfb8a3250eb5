"""From the labels in the data to a label map; after `columns.py`, before `splits.py`.

How labels are read (`kind = "auto"`; white space around text does not count):

- Lists, or text with `data.labels.delimiter`: multilabel. Lists are multi-hot if all have the same length, at least 2,
  and hold only 0 and 1. (From length 3 on it is enough if most do, since a list of ids would not repeat an id; the
  others are bad rows.) All other lists hold ids or names. An empty list or delimited cell means that no label applies.
- Integers, also as text: classes in numeric order. true/false: classes in that order. Other text: classes in sorted
  order.
- Numbers, at least one with a fraction: regression. If all are whole, such as 1.0 and 2.0, they are classes if there
  are at most 50 of them, otherwise regression; a note says so.
- Numbers and names in one column: an error, unless `data.labels.names` is given.
- Two classes are binary, more are multiclass. A column of more than 1,000 values that differ in most rows is an error.

`data.labels.names` gives the order of the labels. A label is then one of the names or, if it is an integer and no name
is, the position of a name. A source that names its integers (classnames.py) gives the order too, but only for its own
rows: bare integers from another source are refused. Without names, the map is made from all training and held-out
rows, so it does not depend on the order of rows or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from textune.config import Labels
from textune.data.columns import Examples
from textune.data.labels.checks import (
    mixed_kinds,
    refuse_ids,
    refuse_strangers,
    refuse_tasks,
    refuse_written_numbers,
    require_named,
)
from textune.data.labels.encode import encode_labels
from textune.data.labels.map import REGRESSION, LabelLookup, LabelMap, Problem, is_truth
from textune.data.labels.names import given_names, names_by_user
from textune.data.labels.values import LabelValues, label_column, label_values, multi_hot_width, respelt, whole
from textune.data.reading import NUMBER, is_text, number_advice, seems_list, to_floats
from textune.errors import DataError
from textune.wording import count, listing, shorten

__all__ = ["LabelMap", "Problem", "encode_labels", "infer_labels"]

MAX_WHOLE_CLASSES = 50
MAX_AUTO_CLASSES = 1000
_NUM_PROBED = 1000


def infer_labels(
    train: Examples, others: Sequence[Examples], section: Labels, *, kind: str = "auto"
) -> tuple[LabelMap, tuple[str, ...]]:
    """The label map of training and held-out examples, and what the user should know about it.

    `kind` is `auto` or the problem that the user wants. DataError where the labels do not allow it: only one class,
    mixed kinds, the wrong number of classes, free text.
    """
    sets = [train, *others]
    names, by_user = given_names(section, train.label_names), names_by_user(section)
    if kind == "regression" or (kind == "auto" and not names and section.delimiter is None and _has_fractions(train)):
        return _regression(train)
    values = [label_values(examples, section) for examples in sets]
    if not by_user:
        require_named(sets, values)
    values, said = _one_truth(sets, values)
    _check_form(train, sets, values, section, kind)
    if values[0].is_lists:
        label_map, notes = _multilabel(
            sets, values, names, ids_meant=bool(names or section.delimiter) or kind != "auto"
        )
    else:
        label_map, notes = _classes(sets, values, names, kind)
    if label_map.problem == "regression":
        return _regression(train, notes)
    lookup = LabelLookup(label_map.names, given=by_user)
    _check_number(label_map, train, values[0], lookup, kind)
    return label_map, (*said, *notes, *_absent_from_training(sets, values, label_map, lookup, given=bool(names)))


def _one_truth(sets: Sequence[Examples], values: list[LabelValues]) -> tuple[list[LabelValues], tuple[str, ...]]:
    """True and false, which files spell in several ways, as one pair of labels; and a note about it."""
    texts = {text for one in values for text in one.texts}
    if (
        any(one.is_lists for one in values)
        or not all(map(is_truth, texts))
        or len({text.lower() for text in texts}) == len(texts)
    ):
        return values, ()
    found = {
        file.rows.source: listing(map(repr, sorted(one.texts)), 6) for file, one in zip(sets, values, strict=True)
    }
    shown = "; ".join(f"{source} has {names}" for source, names in found.items())
    return [respelt(one, str.lower) for one in values], (
        f"Labels are read as 'false' and 'true', ignoring case: {shown}.",
    )


def _regression(train: Examples, notes: tuple[str, ...] = ()) -> tuple[LabelMap, tuple[str, ...]]:
    label = label_column(train)
    value_N, number_N = to_floats(label)
    where = f"{train.rows.source}: label column {train.label_column!r}"
    if not number_N.any():
        first = next((shorten(value, 30) for value in label.to_pylist() if value not in (None, "")), "nothing")
        raise DataError(
            f"{where} holds no numbers but labels such as {first}; regression needs numbers.",
            hint=number_advice([first.strip("'")]) or "Set task.kind, or the label column.",
        )
    texts = [] if not is_text(label.type) else [text.strip() for text in label.to_pylist() if text and text.strip()]
    others = [text for text in texts if not NUMBER.fullmatch(text)]
    low, high = float(value_N[number_N].min()), float(value_N[number_N].max())
    if len(train) > 1 and low == high and not train.rows.partial:
        if others:
            found = f"{count(len(others), 'label')} of {len(texts):,}, such as {shorten(others[0], 30)}"
            raise DataError(
                f"{where} holds something other than numbers: {found}; every number is {low:g}.",
                hint=number_advice(others),
            )
        raise DataError(f"{where}: every number is {low:g}, so there is nothing to learn.")
    return REGRESSION, notes


def _has_fractions(train: Examples) -> bool:
    """Whether the labels are numbers and some of the first have a fraction: then nothing else has to be checked."""
    label = label_column(train)
    head_N, _ = to_floats(label.slice(0, _NUM_PROBED))
    finite_N = head_N[np.isfinite(head_N)]
    if not (finite_N % 1 != 0).any():
        return False
    _, number_N = to_floats(label)
    if not is_text(label.type):
        return True
    num_empty = int(pc.sum(pc.equal(pc.utf8_trim_whitespace(label), "")).as_py() or 0)
    return bool(number_N.sum() + num_empty + label.null_count == len(label))


def _check_form(
    train: Examples, sets: Sequence[Examples], values: Sequence[LabelValues], section: Labels, kind: str
) -> None:
    """Lists for multilabel, single values for the rest, and the same in all data sets."""
    where = f"{train.rows.source}: label column {train.label_column!r}"
    for examples, one in zip(sets[1:], values[1:], strict=True):
        if one.is_lists != values[0].is_lists:
            forms = ["lists" if item.is_lists else "single labels" for item in (values[0], one)]
            raise DataError(f"Labels are {forms[0]} in {train.rows.source} but {forms[1]} in {examples.rows.source}.")
    if values[0].is_lists and kind in {"binary", "multiclass"}:
        cause = "data.labels.delimiter makes them so" if section.delimiter else "the data holds lists"
        cause = f"lists written as text, such as {shorten(values[0].written, 40)}" if values[0].written else cause
        cause = (
            "data.columns.labels names several columns"
            if train.label_column.count(", ") and train.label_names
            else cause
        )
        raise DataError(
            f"{where} has several labels per row ({cause}), but task.kind is {kind}.",
            hint='Set task.kind = "multilabel".',
        )
    if not values[0].is_lists and kind == "multilabel":
        raise DataError(
            f"{where} has one label per row, but task.kind is multilabel.",
            hint='Set data.labels.delimiter, such as ",".',
        )
    if not values[0].texts:
        raise DataError(f"{where} holds no labels.")


def _multilabel(
    sets: Sequence[Examples], values: Sequence[LabelValues], names: tuple[str, ...], *, ids_meant: bool
) -> tuple[LabelMap, tuple[str, ...]]:
    train = sets[0]
    where = f"{train.rows.source}: label column {train.label_column!r}"
    notes = []
    if values[0].written:
        notes.append(f"{where} holds lists written as text, such as {shorten(values[0].written, 40)}: read as lists.")
    width = multi_hot_width(values[0])
    if width and names and len(names) != width:
        if width > 2 or set(values[0].kinds) == {"name"}:
            raise DataError(
                f"{where} holds rows of {width} entries of 0 and 1, but there are {count(len(names), 'label name')}."
            )
        width = 0
    if width:
        return LabelMap("multilabel", names or tuple(map(str, range(width))), multi_hot=True), tuple(notes)
    refuse_tasks(where, values[0], ids_meant=ids_meant)
    length_N = values[0].length_N
    assert length_N is not None
    row_K, code_K = values[0].row_K, values[0].code_K
    key_K = np.sort(row_K * (len(values[0].texts) + 1) + code_K)
    repeated = int((np.diff(key_K) == 0).sum())
    if repeated:
        notes.append(
            f"{count(repeated, 'label')} in {train.rows.source} repeat another one in the same row; each counts once"
            f" per row."
        )
    empty = int((length_N == 0).sum())
    if empty:
        notes.append(
            f"{count(empty, 'row')} of {train.rows.source} with an empty list of labels: no label applies there."
        )
    if not names:
        names, fraction = _ordered(sets, values)
        if fraction:
            raise DataError(
                f"{where} holds lists of numbers such as {fraction}, which are not labels.",
                hint="Entries of a list are names, ids, or 0 and 1.",
            )
    return LabelMap("multilabel", names, multi_hot=False), tuple(notes)


def _classes(
    sets: Sequence[Examples], values: Sequence[LabelValues], names: tuple[str, ...], kind: str
) -> tuple[LabelMap, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    train = sets[0]
    if not names:
        if kind == "auto" and {"name"} < set(values[0].kinds):  # such as hashes, some of which consist of digits
            refuse_ids(train, values[0], 0, max_classes=MAX_AUTO_CLASSES)
        names, fractions = _ordered(sets, values)
        where = f"{train.rows.source}: label column {train.label_column!r}"
        if fractions:
            if kind == "auto":
                return REGRESSION, ()
            raise DataError(
                f"{where} holds numbers such as {fractions}, where task.kind = {kind} needs names or integers.",
                hint='Set task.kind = "regression" to predict the number.',
            )
        if any("number" in one.kinds for one in values):
            if kind == "auto" and len(names) > MAX_WHOLE_CLASSES:
                return REGRESSION, (
                    f"{where} holds {len(names):,} distinct whole numbers written with a fraction: taken as"
                    f" regression.",
                )
            source, number = _first_number(sets, values)
            taken = f"{source}: label column {train.label_column!r} holds whole numbers such as {shorten(number)}"
            notes = (
                f'{taken}, taken as the classes {listing(names, 5)}; set task.kind = "regression" to predict the'
                f" number.",
            )
        if kind == "auto":
            refuse_ids(train, values[0], len(names), max_classes=MAX_AUTO_CLASSES)
            refuse_written_numbers(where, names)
        notes = (*notes, *_seeming_lists(sets, values))
    problem: Problem = "binary" if kind == "binary" or (kind == "auto" and len(names) == 2) else "multiclass"
    return LabelMap(problem, names), notes


def _first_number(sets: Sequence[Examples], values: Sequence[LabelValues]) -> tuple[str, str]:
    """The first number that is not an integer, with the name of its source."""
    return next(
        (examples.rows.source, text)
        for examples, one in zip(sets, values, strict=True)
        for text, kind in zip(one.texts, one.kinds, strict=True)
        if kind == "number"
    )


def _seeming_lists(sets: Sequence[Examples], values: Sequence[LabelValues]) -> tuple[str, ...]:
    """A note about names that look like lists."""
    notes = []
    for examples, one in zip(sets, values, strict=True):
        found = [text for text in one.texts if seems_list(text)]
        if found:
            shown = f"{count(len(found), 'label')} of {len(one.texts):,} in {examples.rows.source}, such as"
            verb = ("looks like a list, but is a name", "look like lists, but are names")[len(found) > 1]
            notes.append(
                f"{shown} {shorten(found[0], 40)}, {verb} here: if lists are meant, write every cell as a list, such"
                f" as"
                " ['a', 'b'], without nesting."
            )
    return tuple(notes)


def _ordered(sets: Sequence[Examples], values: Sequence[LabelValues]) -> tuple[tuple[str, ...], str]:
    """All names, in the order of their ids, and the first number with a fraction ("" if there is none).

    DataError where numbers and names are mixed.
    """
    kinds = {text: kind for one in values for text, kind in zip(one.texts, one.kinds, strict=True)}
    numbers = sorted(text for text, kind in kinds.items() if kind != "name")
    words = sorted(text for text, kind in kinds.items() if kind == "name")
    if numbers and words:
        raise mixed_kinds(sets, values)
    if words:
        return tuple(words), ""
    fractions = [text for text in numbers if kinds[text] == "number" and whole(text) is None]
    if fractions:
        return (), fractions[0]
    as_written = {whole(text) or text for text in numbers}
    return tuple(sorted(as_written, key=lambda text: (int(text), text))), ""


def _check_number(label_map: LabelMap, train: Examples, values: LabelValues, lookup: LabelLookup, kind: str) -> None:
    """At least two classes, exactly two for binary, and at least two of them in the training rows."""
    where = f"{train.rows.source}: label column {train.label_column!r}"
    names = label_map.names
    if label_map.problem == "multilabel":
        if len(names) < 2:
            raise DataError(f"{where} has only one label, {shorten(names[0])}; multilabel needs two or more.")
        return
    present = {place for text in values.texts if (place := lookup(text)) is not None}
    if (len(present) == 1 and not train.rows.partial) or len(names) == 1:
        name = shorten(names[present.pop()] if present else names[0])
        num_rows = count(int(values.counts.sum()), "labelled row")
        unknown = [shorten(text) for text in values.texts if lookup(text) is None]
        raise DataError(
            f"{where} has only one class: {name} ({num_rows}). There is nothing to tell apart.",
            hint=f"Not among the names given: {listing(unknown, 5)}." if unknown else "",
        )
    if kind == "binary" and len(names) != 2:
        beside = [shorten(name) for index, name in enumerate(names) if index not in present]
        # Labels that only held-out rows have: their file may be the one to fix.
        held_out = f"; not in the training rows: {listing(beside, 6)}" if beside and not train.rows.partial else ""
        raise DataError(
            f"{where} has {len(names)} classes ({listing(map(shorten, names), 6)}{held_out}), but task.kind = binary"
            f" needs "
            "exactly two.",
            hint='Set task.kind = "multiclass".',
        )


def _absent_from_training(
    sets: Sequence[Examples], values: Sequence[LabelValues], label_map: LabelMap, lookup: LabelLookup, *, given: bool
) -> tuple[str, ...]:
    """Labels of the held-out data, and given names, that no training row has."""
    if label_map.multi_hot:
        return ()
    seen = {lookup(text) for text in values[0].texts}
    if sets[0].rows.partial:
        trained = listing(map(shorten, sorted(values[0].texts)), 4)
        return tuple(
            f"No label of {examples.rows.source} occurs in the first {count(len(sets[0]), 'training row')}: it has"
            f" {listing(map(shorten, sorted(one.texts)), 4)}, and they have {trained}."
            for examples, one in zip(sets[1:], values[1:], strict=True)
            if one.texts and seen.isdisjoint({lookup(text) for text in one.texts})
        )
    notes = []
    for examples, one in zip(sets[1:], values[1:], strict=True):
        if one.texts and seen.isdisjoint({lookup(text) for text in one.texts}):
            refuse_strangers(sets[0], values[0].texts, examples, one.texts)
        for text, num in sorted(zip(one.texts, one.counts, strict=True)):
            place = lookup(text)
            if place is not None and place not in seen:
                name = label_map.names[place]
                rows = count(int(num), "row")
                notes.append(
                    f"Label {name!r} occurs only in {examples.rows.source} ({rows}), never in the training rows."
                )
    if given:
        unused = [name for index, name in enumerate(label_map.names) if index not in seen]
        if unused:
            notes.append(
                f"{count(len(unused), 'label name has', 'label names have')} no training row: {listing(unused, 6)}."
            )
    return tuple(notes)
