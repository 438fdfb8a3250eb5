"""Which column is the text, which the label: the middle of `guess.py`, from what `profile.py` found.

Every choice among several candidates becomes a note; what cannot be decided is left open, with the key to set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textune.data.inspect.profile import Column
from textune.data.reading import NUMBER_ADVICE, number_advice
from textune.errors import DataError
from textune.wording import count, listing, shorten

_TEXT_NAMES = frozenset(
    {"text", "sentence", "review", "content", "body", "message", "comment", "tweet", "utterance", "document", "texts"}
    | {
        "sms",
        "post",
        "headline",
        "question",
        "query",
        "description",
        "abstract",
        "article",
        "comment_text",
        "review_text",
    }
)
_LABEL_NAMES = [
    *("label", "labels", "class", "category", "target", "sentiment", "score", "quality", "rating", "stars", "intent"),
    *("emotion", "emotions", "topic", "polarity", "tags", "gold_label", "label_text", "y"),
]
_LABEL_WORD = re.compile(
    r"(?:^|[\s_.-])(?:label|labels|class|classes|category|categories|target|sentiment|rating|stars|score|intent|emotion|emotions|"
    r"topic|topics|genre|genres|polarity|tag|tags|queue|is_\w+)(?:$|[\s_.-])",
    re.I,
)
_ID_NAME = re.compile(
    r"(?:^|[\s_#.-])(?:id|ids|idx|index|uuid|guid|key|url|uri|link|file|filename|path|date|time|timestamp|datetime|created|"
    r"updated|row|no|nr)$",
    re.I,
)
_CAMEL_ID = re.compile(r"[a-z](?:Id|ID|Url|URL|Date|Time|Index)$")
_ROW_FLAG = re.compile(
    r"(?:^|[\s_.-])(?:train|test|split|fold|verified|deleted|archived|active|valid|validation)(?:$|[\s_.-])", re.I
)
_ORIGIN_NAME = re.compile(
    r"(?:^|[\s_.-])(?:via|channel|source|origin|medium|device|platform|browser|os|version|lang|language|locale|country|"
    r"region|currency|gender)(?:$|[\s_.-])",
    re.I,
)
"""Where a row is from: seldom what is to be predicted, where anything else could be."""
_NUMBER_NAME = re.compile(
    r"(?:^|[\s_.-])(?:score|rating|similarity|stars|quality|points|value|price|grade)(?:$|[\s_.-])", re.I
)
_PAIRS = [
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("premise", "hypothesis"),
    ("#1 string", "#2 string"),
]
_MAX_LABELS = 200
_MAX_CLASSES = 1000
_FEW_NUMBERS = 20
"""The most distinct whole numbers of a score that still count as classes."""


@dataclass(frozen=True)
class Roles:
    """What the columns hold."""

    text: str
    text_pair: str | None = None
    label: str | None = None
    labels: tuple[str, ...] = ()
    """Columns of 0 and 1 side by side, one for each label; instead of `label`."""
    delimiter: str | None = None
    """Between the labels of one cell."""
    is_number: bool = False
    """Whether whole numbers are a quantity to predict, not classes."""
    notes: tuple[str, ...] = ()
    """What was chosen among several, as sentences."""
    is_doubtful: bool = False
    """Whether a column was chosen although another one could have been meant."""
    unsettled: tuple[str, ...] = ()
    """What a person has to set, as sentences."""


def find_roles(
    columns: Sequence[Column], file: str, *, named: bool, text: str | None = None, label: str | None = None
) -> Roles:
    """The roles of a file's columns; `named`: whether the file itself names them; `text`, `label`: columns that are
    known. DataError where none holds text."""
    columns = [column for column in columns if column.name and column.num_values]
    notes: list[str] = []
    labels: tuple[str, ...] = ()
    pair = None
    if label is None:
        label, labels = _find_labels([column for column in columns if column.name != text], notes)
    if text is None:
        taken = set(labels) | ({label} if label else set())
        text, pair = _pick_text(_texts(columns, taken, file, notes), notes, named=named)
    is_doubtful = False
    if label is None and not labels:
        others = [column for column in columns if column.name not in {text, pair}]
        label = _any_label(others, notes)
        is_doubtful = sum(_can_be_label(column) and not _is_id(column) for column in others) > 1
    is_doubtful = is_doubtful or bool(notes)
    column = next((one for one in columns if one.name == label), None)
    unsettled = [] if column is not None or labels else [_no_label(columns, {text, pair})]
    delimiter = label_delimiter(column) if column is not None else None
    if delimiter is not None:
        notes.append(f"The cells of `{label}` hold several labels with {shorten(delimiter)} between them.")
    is_number = column is not None and delimiter is None and _is_quantity(column)
    return Roles(text, pair, label, labels, delimiter, is_number, tuple(notes), is_doubtful, tuple(unsettled))


# --- labels ----------------------------------------------------------------------------------------------------------


def _find_labels(columns: Sequence[Column], notes: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """A label column recognised by its name, or columns of 0 and 1 side by side; otherwise nothing yet."""
    by_name = {column.name.lower(): column for column in columns}
    named = [by_name[name] for name in _LABEL_NAMES if name in by_name]
    good = [column for column in named if _can_be_label(column)]
    for column in named:
        if column not in good:
            found = f"{column.num_distinct:,} distinct values" if not column.is_open else "too many distinct values"
            if column.num_distinct < 2:
                found = f"the one value {shorten(next(iter(column.counts), ''), 30)}"
            note = (
                f"`{column.name}` is not a label despite its name: it has {found} in {count(column.num_rows, 'row')}."
            )
            as_people_write = bool(column.counts) and all(number_advice([text]) for text in column.counts)
            notes.append(f"{note} {NUMBER_ADVICE}" if as_people_write else note)
    flags = _alike_flags(columns)
    if good:
        return _prefer_names(good[0], columns, notes), ()
    if len(flags) >= 2:
        names = tuple(column.name for column in flags)
        notes.append(
            f"{count(len(names), 'column')} of 0 and 1 are taken as the labels of one multilabel task:"
            f" {listing(names)}. "
            "To learn one of them alone, set data.columns.label instead of data.columns.labels."
        )
        return None, names
    likely = [column for column in columns if _LABEL_WORD.search(column.name) and _can_be_label(column)]
    likely = [column for column in likely if column.num_distinct <= _MAX_LABELS or column.num_fractions]
    if likely:
        chosen = min(likely, key=lambda column: (_is_id(column), column.num_empty > 0, column.num_distinct))
        _tell_others("label", chosen.name, [one.name for one in likely if one is not chosen], notes)
        return chosen.name, ()
    return None, ()


def _alike_flags(columns: Sequence[Column]) -> list[Column]:
    """Columns of 0 and 1, or of true and false, whichever there are more of."""
    flags = [
        column for column in columns if column.is_binary and not _is_id(column) and not _ROW_FLAG.search(column.name)
    ]
    numbers = [column for column in flags if column.is_number]
    words = [column for column in flags if not column.is_number]
    return max(numbers, words, key=len)


def _prefer_names(label: Column, columns: Sequence[Column], notes: list[str]) -> str:
    """The label column, or another one that names its numbers; other candidates are noted."""
    spoken = [
        column
        for column in columns
        if column is not label
        and label.is_number
        and not column.is_number
        and _LABEL_WORD.search(column.name)
        and not label.num_fractions
        and sorted(column.counts.values()) == sorted(label.counts.values())
    ]
    if spoken:
        notes.append(f"`{spoken[0].name}` names the numbers of `{label.name}`, so it is taken as the label.")
        return spoken[0].name
    others = [
        column.name
        for column in columns
        if column is not label
        and not column.is_list
        and _is_few(column)
        and not _is_id(column)
        and column.num_empty == 0
    ]
    _tell_others("label", label.name, others, notes)
    return label.name


def _any_label(columns: Sequence[Column], notes: list[str]) -> str | None:
    """The column with the fewest distinct values; complete columns first, those that say where a row is from last."""
    good = [column for column in columns if not _is_id(column) and _can_be_label(column)]
    few = [
        column
        for column in good
        if column.num_empty * 10 <= column.num_rows
        and (_is_few(column) or column.is_list or label_delimiter(column) is not None)
    ]
    few = few or [column for column in good if column.num_fractions and column.num_empty * 10 <= column.num_rows]
    if not few:
        return None
    chosen = min(
        few,
        key=lambda column: (
            bool(_ORIGIN_NAME.search(column.name)),
            column.num_empty > 0,
            bool(_ROW_FLAG.search(column.name)),
            column.num_distinct,
        ),
    )
    _tell_others("label", chosen.name, [column.name for column in few if column is not chosen], notes)
    return chosen.name


def _tell_others(role: str, chosen: str, others: Sequence[str], notes: list[str]) -> None:
    if others:
        names = listing((f"`{name}`" for name in others), 6)
        notes.append(f"`{chosen}` is taken as the {role}; so could be {names}: data.columns.{role} decides.")


def _can_be_label(column: Column) -> bool:
    """Whether values recur, or are numbers with fractions, or lists of either."""
    if column.num_objects or column.num_dates * 2 > column.num_values:
        return False
    if column.is_list:
        return 2 <= len(_pieces(column)) <= _MAX_CLASSES
    if column.is_number and column.num_fractions:
        return column.num_distinct > 1
    if column.num_distinct < 2:
        return False
    if column.is_open or column.num_distinct > _MAX_CLASSES or column.num_distinct * 2 > max(column.num_values, 4):
        quantity = column.is_number and bool(_NUMBER_NAME.search(column.name)) and not _counts_up(column)
        return quantity or label_delimiter(column) is not None
    return True


def _is_few(column: Column) -> bool:
    limit = max(2, min(_MAX_LABELS, column.num_rows // 2))
    return not column.is_open and not column.is_list and 2 <= column.num_distinct <= limit and not column.num_fractions


def _is_id(column: Column) -> bool:
    """Whether a column is named like an id, holds dates, or a different word in nearly every row."""
    if _ID_NAME.search(column.name) or _CAMEL_ID.search(column.name) or column.num_dates * 2 > column.num_values:
        return True
    many = column.is_open or column.num_distinct > 0.9 * column.num_rows > 9
    words = column.num_words if column.num_texts else column.num_numbers
    return many and words > 0.9 * column.num_values and not column.num_fractions


def _counts_up(column: Column) -> bool:
    return column.num_distinct == column.num_values


def _is_quantity(column: Column) -> bool:
    """Whether a score has too many distinct whole numbers for classes."""
    named = bool(_NUMBER_NAME.search(column.name))
    return column.is_number and not column.num_fractions and named and column.num_distinct > _FEW_NUMBERS


def _no_label(columns: Sequence[Column], texts: set[str | None]) -> str:
    tried = [
        f"`{column.name}` ({'one value' if column.num_distinct == 1 else _shown_values(column)})"
        for column in columns
        if column.name not in texts
    ]
    found = f" Considered: {listing(tried, 6)}." if tried else ""
    return f"No column looks like a label: set data.columns.label.{found}"


def _shown_values(column: Column) -> str:
    if column.num_objects:
        return "objects"
    if column.is_open:
        return "long values, or very many"
    return f"{count(column.num_distinct, 'distinct value')} in {count(column.num_rows, 'row')}"


def label_delimiter(column: Column) -> str | None:
    """What separates several labels in a cell, judged by whether the pieces recur in other cells."""
    if (
        column.is_list
        or column.num_texts < column.num_values
        or column.num_dates
        or not column.counts
        or column.num_fractions
    ):
        return None
    cells = set(column.counts)
    for delimiter in (",", "|", ";"):
        joined = [cell for cell in cells if delimiter in cell]
        pieces = {piece.strip() for cell in joined for piece in cell.split(delimiter)} - {""}
        if not joined or len(pieces) > _MAX_LABELS or any(len(piece.split()) > 4 for piece in pieces):
            continue
        if len(pieces & cells) * 2 >= len(pieces) or len(pieces) < len(joined):
            return delimiter
    return None


def _pieces(column: Column) -> set[str]:
    """What the lists of a column hold; nothing where they hold more than plain values."""
    if column.is_open:
        return set()
    found: set[str] = set()
    for text in column.counts:
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError):
            values = [piece.strip(" '\"") for piece in text[1:-1].split(",")]
        if any(isinstance(value, (dict, list)) for value in values):
            return set()
        found.update(map(str, values))
    return found - {""}


# --- texts -----------------------------------------------------------------------------------------------------------


def _texts(columns: Sequence[Column], taken: set[str], file: str, notes: list[str]) -> list[Column]:
    """Columns that can be the text, only those of the best kind found."""
    plain = [
        column
        for column in columns
        if column.name not in taken
        and column.num_texts == column.num_values
        and not column.is_number
        and not column.is_list
        and not column.num_objects
        and column.num_dates * 2 <= column.num_values
    ]
    own = [column for column in plain if not _is_id(column) and column.name.lower() not in _LABEL_NAMES]
    texts = [column for column in own if not _is_few(column) and column.num_distinct != 1]
    texts = texts or [column for column in own if _is_prose(column)]
    if not texts and plain:
        chosen = max(
            plain, key=lambda column: (column.name.lower() in _TEXT_NAMES, column.num_distinct, column.mean_length)
        )
        notes.append(f"No column holds sentences; `{chosen.name}` is taken as the text.")
        return [chosen]
    if not texts:
        found = listing((shorten(column.name, 30) for column in columns), 12)
        raise DataError(
            f"{file}: no column looks like text; columns found: {found or 'none with a value'}.",
            hint="Write the configuration by hand: docs/configuration.md has every key.",
        )
    return texts


def _pick_text(texts: Sequence[Column], notes: list[str], *, named: bool) -> tuple[str, str | None]:
    """Names of the text and of the second text of a pair."""
    by_name = {column.name.lower(): column for column in texts}
    for one, two in _PAIRS:
        if one in by_name and two in by_name:
            return by_name[one].name, by_name[two].name
    for column in texts if named else ():
        partner = _second_name(column.name)
        if partner in by_name and _is_prose(column) and _is_prose(by_name[partner]):
            return column.name, by_name[partner].name
    exact = [column for name in ("text", "sentence") for column in texts if column.name.lower() == name]
    known = [column for column in texts if column.name.lower() in _TEXT_NAMES and _is_prose(column)]
    chosen = exact[0] if exact else max(known or texts, key=lambda column: column.mean_length)
    others = [column for column in texts if column is not chosen and _is_prose(column) and not _is_few(column)]
    if not named and len(others) == 1 and _alike(chosen, others[0]):
        first, second = (column for column in texts if column in (chosen, others[0]))
        notes.append(
            f"`{first.name}` and `{second.name}` are taken as a pair; to read them as one text, set"
            f" data.columns.template "
            f'= "{{{first.name}}}\\n{{{second.name}}}" instead.'
        )
        return first.name, second.name
    if others:
        names = listing((f"`{column.name}`" for column in others), 6)
        longest = max(others, key=lambda column: column.mean_length)
        both = f"{{{longest.name}}}\\n{{{chosen.name}}}"
        notes.append(
            f"`{chosen.name}` is taken as the text; so could be {names}. "
            f"To read both, set data.columns.text_pair = {longest.name!r} for a pair of texts, or "
            f'data.columns.template = "{both}" for one text.'
        )
    return chosen.name, None


def _second_name(name: str) -> str:
    """`text_2` for `text_1`, in lower case; an empty string for a name that is not the first of a pair."""
    match = re.fullmatch(r"(.*?[\s_.-]?)([1a])", name.lower())
    return match[1] + {"1": "2", "a": "b"}[match[2]] if match and match[1] else ""


def _is_prose(column: Column) -> bool:
    """Whether most values have more than one word."""
    return column.num_words * 2 < column.num_values


def _alike(one: Column, two: Column) -> bool:
    short, long = sorted((one.mean_length, two.mean_length))
    return long <= 4 * short
