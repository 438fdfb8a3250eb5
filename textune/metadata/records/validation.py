"""Which entries of metadata can be rendered as they say: whole columns at a time; between `rawentries.py` and
`read.py`.

Each check looks at the entries that all checks before it have left.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from textune.config import MetadataSection
from textune.data import Rows
from textune.metadata.records.nesting import (
    MOST_CROSSED,
    against_the_rules,
    closed_before_open,
    crossing_too_many,
    repeated_positions,
)
from textune.metadata.records.problems import BadEntries, BadEntry, BadKind
from textune.metadata.records.rawentries import (
    ATTRIBUTES,
    END,
    END_ORDER,
    MISSING,
    NOT_WHOLE,
    NUMBERS,
    SCOPE,
    START,
    START_ORDER,
    VALUE,
    RawEntries,
)
from textune.metadata.rendering import Attributes, renderer_of
from textune.metadata.types import TYPES

_AS_TEXT = (int, datetime.date, datetime.time, decimal.Decimal)


@dataclass(eq=False)
class Checked:
    """E entries of configured types while they are checked."""

    rows: Rows
    raw: RawEntries
    section: MetadataSection
    type_E: np.ndarray
    """int64 [E] index into the types of the section."""
    length_D: np.ndarray
    """int64 [D] characters of each text."""
    bad: BadEntries
    good_E: np.ndarray = field(init=False)
    """bool [E] what no check has found fault with."""
    is_local_E: np.ndarray = field(init=False)
    """bool [E]."""
    values_E: np.ndarray = field(init=False)
    """object [E] values as text."""
    attributes_E: np.ndarray = field(init=False)
    """object [E] names and values."""

    def __post_init__(self) -> None:
        self.good_E = np.ones(len(self.raw), bool)

    @property
    def types(self) -> tuple[str, ...]:
        """Names of all types."""
        return self.section.types

    @property
    def group_E(self) -> np.ndarray:
        """int64 [E] one number for each type of each document."""
        group_E: np.ndarray = self.raw.document * len(self.types) + self.type_E
        return group_E

    def refuse(self, kind: BadKind, bad_E: np.ndarray, key: str, reason: Callable[[int], str]) -> None:
        """Leave out entries, bool [E], because of what they have under a key; `reason`: of one of them."""
        bad_E = bad_E & self.good_E
        if not bad_E.any():
            return

        def describe(entry: int) -> BadEntry:
            name = self.types[self.type_E[entry]]
            column = self.raw.columns[self.raw.column[entry]]
            value = self.value_of(entry, key)
            place = self.rows.place(int(self.raw.document[entry]))
            where = f"{column}[{self.raw.index[entry]}].{key}"
            return BadEntry(kind, place, where, value, f"{name}: {reason(entry)}")

        self.bad.add(kind, bad_E, self.raw.document, describe)
        self.good_E &= ~bad_E

    def value_of(self, entry: int, key: str) -> object:
        """What an entry has under a key."""
        if key == ATTRIBUTES or (key in NUMBERS and self.raw.numbers[key][entry] == NOT_WHOLE):
            return self.raw.unread(self.rows.table, entry, key)
        if key not in NUMBERS:
            return self.raw.objects[key][entry]
        number = int(self.raw.numbers[key][entry])
        return None if number == MISSING else number


def check_entries(checked: Checked) -> None:
    """All checks."""
    _check_scopes(checked)
    _check_values(checked)
    _check_attributes(checked)
    _check_spans(checked)
    _check_positions(checked)
    _check_nesting(checked)


def _check_scopes(checked: Checked) -> None:
    scope_E = checked.raw.objects[SCOPE]
    is_global_E, is_local_E = (
        np.fromiter((one == scope for one in scope_E), bool, len(scope_E)) for scope in ("global", "local")
    )
    checked.is_local_E = is_local_E
    checked.refuse("scope", ~is_global_E & ~is_local_E, SCOPE, lambda _: "it is neither global nor local")
    if checked.section.as_original:
        return
    scopes = [TYPES[name].scope if name in TYPES else None for name in checked.types]
    only_local_E = np.array([scope == "local" for scope in scopes], bool)[checked.type_E]
    only_global_E = np.array([scope == "global" for scope in scopes], bool)[checked.type_E]
    checked.refuse(
        "scope", only_local_E & is_global_E, SCOPE, lambda _: "it is about spans of the text, so it is local"
    )
    checked.refuse("scope", only_global_E & is_local_E, SCOPE, lambda _: "it is about the whole text, so it is global")


def _check_values(checked: Checked) -> None:
    values_E = checked.raw.objects[VALUE]
    checked.values_E = values_E
    if not (set(map(type, values_E)) <= {str} and _is_unicode(values_E.tolist())):
        texts = [text_of(value, original=checked.section.as_original) for value in values_E]
        checked.values_E = np.fromiter((text or "" for text in texts), object, len(texts))
        bad_E = np.fromiter((text is None for text in texts), bool, len(texts))
        missing_E = np.fromiter((value is None for value in values_E), bool, len(texts))
        checked.refuse("value", bad_E & missing_E, VALUE, lambda _: "there is none")
        checked.refuse("value", bad_E, VALUE, lambda _: "it cannot be written as text")
    for index, name in enumerate(checked.types):
        if renderer_of(name).expects:
            _check_readable(checked, index)


def _check_readable(checked: Checked, index: int) -> None:
    """Values of a type whose field in the prefix cannot be made of any text."""
    renderer = renderer_of(checked.types[index])
    bad_E = np.zeros(len(checked.raw), bool)
    for entry in np.flatnonzero(checked.good_E & (checked.type_E == index) & ~checked.is_local_E).tolist():
        bad_E[entry] = not renderer.reads(checked.values_E[entry])
    checked.refuse("value", bad_E, VALUE, lambda _: f"it is not {renderer.expects}")


def text_of(value: object, *, original: bool = False) -> str | None:
    """A value as text: numbers and times as they are usually written; None if it has no such form.

    `original`: as the original system writes true and false.
    """
    if isinstance(value, str):
        return value if _is_unicode([value]) else None
    if isinstance(value, bool):
        return str(value) if original else str(value).lower()
    if isinstance(value, _AS_TEXT):
        return str(value)
    return repr(value) if isinstance(value, float) and math.isfinite(value) else None


def _is_unicode(texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_attributes(checked: Checked) -> None:
    checked.attributes_E = np.fromiter(((),) * len(checked.raw), object, len(checked.raw))
    if "html" not in checked.types:
        return
    given_E = checked.raw.objects[ATTRIBUTES]
    has_E = checked.good_E & (checked.type_E == checked.types.index("html"))
    has_E &= np.fromiter((one is not None for one in given_E), bool, len(has_E))
    entries, bad_E = np.flatnonzero(has_E), np.zeros(len(has_E), bool)
    given = given_E[entries].tolist()
    for entry, found in zip(entries.tolist(), given if _are_plain(given) else map(attributes_of, given), strict=True):
        bad_E[entry] = found is None
        checked.attributes_E[entry] = found or ()
    checked.refuse("attributes", bad_E, ATTRIBUTES, lambda _: "it does not hold two lists of equal length of texts")


def _are_plain(attributes: Sequence[object]) -> bool:
    """Whether all of many are pairs of texts."""
    if not set(map(type, attributes)) <= {tuple}:
        return False
    pairs: Iterable[tuple[str, str]] = chain.from_iterable(attributes)  # type: ignore[arg-type]
    texts = list(chain.from_iterable(pairs))
    return set(map(type, texts)) <= {str} and _is_unicode(texts)


def attributes_of(given: object) -> Attributes | None:
    """Pairs of names and values as texts; None if they are not that. A name without a value has empty text."""
    if not isinstance(given, tuple):
        return None
    pairs = [(name, "" if one is None else text_of(one)) for name, one in given]
    texts = [(name, one) for name, one in pairs if isinstance(name, str) and one is not None]
    return tuple(texts) if len(texts) == len(pairs) and _is_unicode([name for name, _ in texts]) else None


def _check_spans(checked: Checked) -> None:
    start_E, end_E = checked.raw.numbers[START], checked.raw.numbers[END]
    length_E = checked.length_D[checked.raw.document]
    for key, number_E in ((START, start_E), (END, end_E)):
        local_E = checked.is_local_E
        checked.refuse("span", local_E & (number_E == MISSING), key, lambda _: "a local entry has a span")
        checked.refuse("span", local_E & (number_E == NOT_WHOLE), key, lambda _: "it is not a whole number")
        checked.refuse("span", local_E & (number_E < 0), key, lambda _: "it is before the text begins")
        checked.refuse(
            "span",
            local_E & (number_E > length_E),
            key,
            lambda entry: f"the text has only {length_E[entry]:,} characters",
        )
    checked.refuse(
        "span",
        checked.is_local_E & (start_E > end_E),
        START,
        lambda entry: f"it is after {END} = {end_E[entry]}",
    )


def _check_positions(checked: Checked) -> None:
    """Positions among tags are whole numbers; all entries of a type in a document have both, or none has."""
    raw, local_E = checked.raw, checked.is_local_E
    if checked.section.as_original:
        _forget_positions(checked)
    for key, other in ((START_ORDER, END_ORDER), (END_ORDER, START_ORDER)):
        order_E = raw.numbers[key]
        checked.refuse("order", local_E & (order_E == NOT_WHOLE), key, lambda _: "it is not a whole number")
        checked.refuse("order", local_E & (order_E < 0) & (order_E != MISSING), key, lambda _: "it is below 0")
        missing_E = local_E & (order_E == MISSING) & (raw.numbers[other] != MISSING)
        checked.refuse("order", missing_E, key, lambda _: "there is none, but there is the other of the two")
    none_E = raw.numbers[START_ORDER] == MISSING
    with_some = checked.group_E[checked.good_E & local_E & ~none_E]
    partly_E = local_E & none_E & np.isin(checked.group_E, with_some)
    checked.refuse("order", partly_E, START_ORDER, lambda _: "there is none, but other entries of the type have one")


def _check_nesting(checked: Checked) -> None:
    """No two tags of a type in a document have one position at one character, and their spans nest."""

    def fails(check: Callable[..., np.ndarray], among_E: np.ndarray = checked.is_local_E) -> np.ndarray:
        """bool [E], of entries with positions."""
        placed = np.flatnonzero(checked.good_E & among_E & (checked.raw.numbers[START_ORDER] != MISSING))
        failed_E = np.zeros(len(checked.raw), bool)
        failed_E[placed] = check(checked.group_E[placed], *(checked.raw.numbers[key][placed] for key in NUMBERS))
        return failed_E

    same = "another tag of the type has the same position at that character"
    checked.refuse("order", fails(repeated_positions), START_ORDER, lambda _: same)
    checked.refuse("order", fails(closed_before_open), START_ORDER, lambda _: "its empty span closes before it opens")
    if not checked.section.as_original:
        crossing = "its tags would cross those of another entry of its type"
        both_sides = np.array([renderer_of(name).both_sides for name in checked.types], bool)
        enclosing_E = checked.is_local_E & both_sides[checked.type_E]
        checked.refuse("nesting", fails(against_the_rules, enclosing_E), START_ORDER, lambda _: crossing)
        _check_crossing(checked, enclosing_E)


def _check_crossing(checked: Checked, enclosing_E: np.ndarray) -> None:
    """No span crosses very many others. `enclosing_E`: bool [E], entries with tags on both sides."""
    raw = checked.raw
    enclosing = np.flatnonzero(checked.good_E & enclosing_E)
    many_E = np.zeros(len(raw), bool)
    many_E[enclosing] = crossing_too_many(
        raw.document[enclosing], raw.numbers[START][enclosing], raw.numbers[END][enclosing]
    )
    begins = f"its span begins within more than {MOST_CROSSED} spans that end before it does"
    checked.refuse("crossing", many_E, END, lambda _: begins)


def _forget_positions(checked: Checked) -> None:
    """As the original system, which takes all entries of a type as its first one is: without positions if that has
    none."""
    raw = checked.raw
    local = np.flatnonzero(checked.good_E & checked.is_local_E)
    groups, first = np.unique(checked.group_E[local], return_index=True)
    without = groups[raw.numbers[START_ORDER][local[first]] == MISSING]
    forgotten_E = np.isin(checked.group_E, without)
    for key in (START_ORDER, END_ORDER):
        raw.numbers[key][forgotten_E] = MISSING
