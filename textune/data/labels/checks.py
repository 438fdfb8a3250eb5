"""Checks for labels that make no sense, alone or together, and for labels that look alike; for `infer.py`, `encode.py`
and `audit.py`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from textune.data.columns import Examples
from textune.data.labels.values import MISSING, LabelValues
from textune.data.reading import INTEGER, NAME_THEM, number_advice, unnamed_integers
from textune.errors import DataError
from textune.wording import count, listing, shorten


def require_named(sets: Sequence[Examples], values: Sequence[LabelValues]) -> None:
    """DataError where integers come without names, but another file or data set names its classes."""
    for examples in sets:
        if examples.unclear:
            raise DataError(examples.unclear, hint=NAME_THEM)
    named = next((examples for examples in sets if examples.label_names), None)
    if named is None:
        return
    for examples, one in zip(sets, values, strict=True):
        integer = next((text for text, kind in zip(one.texts, one.kinds, strict=True) if kind == "integer"), None)
        if integer is not None and not examples.label_names:
            message = unnamed_integers(
                examples.rows.source, examples.label_column, integer, named.rows.source, named.label_names
            )
            raise DataError(message, hint=NAME_THEM)


def mixed_kinds(sets: Sequence[Examples], values: Sequence[LabelValues]) -> DataError:
    """The error for a column with both numbers and names as labels: which file holds which."""
    held: dict[str, dict[str, Counter[str]]] = {}
    for examples, one in zip(sets, values, strict=True):
        places = examples.rows.places
        known_K = one.code_K != MISSING
        origin_K = places.origin_N[examples.indices][one.row_K]
        pairs, nums = np.unique(np.stack([origin_K[known_K], one.code_K[known_K]]), axis=1, return_counts=True)
        for (origin, code), num in zip(pairs.T.tolist(), nums.tolist(), strict=True):
            kind = "name" if one.kinds[code] == "name" else "number"
            file = held.setdefault(places.origins[origin][0], {"number": Counter(), "name": Counter()})
            file[kind][one.texts[code]] += num
    column = sets[0].label_column
    shown = {
        file: ", and ".join(
            f"{count(texts.total(), kind)}, such as {listing(map(shorten, sorted(texts)[:3]))}"
            for kind, texts in found.items()
            if texts
        )
        for file, found in held.items()
    }
    hint = number_advice(text for found in held.values() for text in found["name"])
    hint = hint or "Fix the labels, or list all of them in data.labels.names."
    if len(shown) == 1:
        return DataError(
            f"{sets[0].rows.source}: label column {column!r} holds labels of mixed kinds: {shown.popitem()[1]}.",
            hint=hint,
        )
    each = "; ".join(f"{file} holds {what}" for file, what in list(shown.items())[:6])
    return DataError(f"Labels of mixed kinds in column {column!r}: {each}.", hint=hint)


MIN_ID_ROWS, ID_SHARE = 20, 0.9
"""A column with at least this many rows and this share of distinct values holds ids."""


def refuse_ids(train: Examples, values: LabelValues, num_names: int, *, max_classes: int) -> None:
    """DataError where the labels differ from row to row: ids, numbers or free text."""
    num_rows, num_values = int(values.counts.sum()), len(values.texts)
    source, column = train.rows.source, train.label_column
    integers = set(values.kinds) <= {"integer"}
    if num_rows >= MIN_ID_ROWS and num_values > ID_SHARE * num_rows:
        found = f"`{column}` has {num_values:,} distinct values in {num_rows:,} rows of {source}."
        if integers or not any(len(text.split()) > 2 for text in values.texts):
            number = ' To predict the number, set task.kind = "regression".' if integers else ""
            raise DataError(
                f"{found} It looks like an id, not a label.", hint=f"Set data.columns.label to another column.{number}"
            )
        raise DataError(
            f"{found} It looks like free text, not a label.", hint="Set data.columns.label to another column."
        )
    if num_names <= max_classes or num_names * 2 <= len(train):
        return
    found = f"{source}: label column {column!r} holds {num_names:,} distinct values in {len(train):,} rows"
    if integers:
        raise DataError(
            f"{found}: a number or an id, not a class.", hint='Set task.kind = "regression" to predict a number.'
        )
    raise DataError(
        f"{found}: free text, not a class.",
        hint='Set data.columns.label, or task.kind = "multiclass" to use it anyway.',
    )


def refuse_written_numbers(where: str, names: Sequence[str]) -> None:
    """DataError where all classes are numbers that only people can read, such as `0,5`."""
    if all(number_advice([name]) for name in names):
        raise DataError(
            f"{where} holds values such as {shorten(names[0])}, which cannot be read as numbers.",
            hint=f"{number_advice(names)} If a cell holds several labels, set data.labels.delimiter; if they are"
            f" names, list"
            " them in data.labels.names.",
        )


def refuse_tasks(where: str, values: LabelValues, *, ids_meant: bool) -> None:
    """DataError for lists of integers of one length that are not multi-hot rows: one class for each of several tasks.

    `ids_meant`: they are declared to be ids; then only a list that repeats one is refused.
    """
    assert values.length_N is not None
    length_M = values.length_N[values.length_N != MISSING]
    if len(length_M) < 2 or length_M.min() != length_M.max() or length_M[0] < 2 or set(values.kinds) != {"integer"}:
        return
    rows = values.code_K.reshape(len(length_M), -1)
    repeats_N = (np.diff(np.sort(rows, axis=1), axis=1) == 0).any(axis=1)
    if ids_meant and not repeats_N.any():
        return
    first = ["null" if code == MISSING else values.texts[code] for code in rows[int(repeats_N.argmax())]]
    number_D = np.array([*(int(text) for text in values.texts), MISSING])  # the last for entries without a label
    sizes = np.maximum(number_D[rows].max(axis=0) + 1, 2).tolist()
    meant = "" if repeats_N.any() else ' If they are ids of labels, set task.kind = "multilabel".'
    raise DataError(
        f"{where} holds lists of {len(first)} integers, such as [{', '.join(first)}]: they seem to give one class for"
        f" each of {len(first)} tasks.",
        hint=f'Set task.kind = "multitask" and task.group_sizes = {sizes}, the number of classes of each.{meant}',
        key="task.kind",
        place=where.partition(": ")[0],
    )


def refuse_strangers(train: Examples, trained: Sequence[str], other: Examples, found: Sequence[str]) -> None:
    """DataError for held-out rows if none of their labels occurs in training."""
    what = [listing(map(_shown, sorted(texts)), 4) for texts in (found, trained)]
    raise DataError(
        f"No label of {other.rows.source} occurs in training: it has {what[0]}, and {train.rows.source} has"
        f" {what[1]}.",
        hint="Spell the labels alike in both, or check data.columns.label.",
    )


# --- labels that look alike ------------------------------------------------------------------------------------------


def look_alike(names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Names that differ only in spelling: in what, and their ids."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_plainest(name), []).append(index)
    return [(_difference([names[place] for place in places]), places) for places in groups.values() if len(places) > 1]


def describe_alike(what: str, names: Sequence[str], nums: Sequence[int]) -> str:
    """The sentence about labels that look alike, with the rows of each."""
    most_first = sorted(zip(names, nums, strict=True), key=lambda one: (-one[1], one[0]))
    shown = [f"{_shown(name)} ({count(num, 'row')})" for name, num in most_first]
    return (
        f"Labels {' and '.join(shown)} differ only in {what}, but count as {len(names)} classes."
        " If they mean the same, spell them alike in the data."
    )


def _shown(name: str) -> str:
    """A label with everything made visible that the eye would miss."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})" if _visible(name) != name else repr(name)


def _visible(name: str) -> str:
    return unicodedata.normalize("NFKC", _without_marks(name))


def _without_marks(name: str) -> str:
    """Without invisible characters: format characters and variation selectors."""
    return "".join(char for char in name if unicodedata.category(char) != "Cf" and not "\ufe00" <= char <= "\ufe0f")


def _spaced(name: str) -> str:
    return " ".join(re.split(r"\s+", name))


def _plainest(name: str) -> str:
    plain = _spaced(unicodedata.normalize("NFKC", _visible(name).casefold())).strip()
    return str(int(plain)) if INTEGER.fullmatch(plain) else plain


def _difference(names: Sequence[str]) -> str:
    """Everything that makes names differ."""
    parts = []
    ways = (
        ("invisible characters", _without_marks),
        ("Unicode form", lambda name: unicodedata.normalize("NFKC", name)),
        ("case", str.casefold),
        ("spaces", _spaced),
    )
    current = list(names)
    for what, plain in ways:
        following = [plain(name) for name in current]
        if len(set(following)) < len(set(current)):
            parts.append(what)
        current = following
    return " and ".join(parts) or "how they are written"
