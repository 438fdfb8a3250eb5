"""The rows of a JSON document in any layout: a list, keyed by row, pandas' orientations, named splits.

Between `jsonfiles.py`, which parses, and `records.py`, which makes columns of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from textune.data.reading.records import MAX_COLUMNS, RecordTable, describe_keys
from textune.data.reading.rows import Piece
from textune.errors import DataError, Setting, Words
from textune.wording import count, listing, nearest, shorten

RECORDS = 'df.to_json(path, orient="records")'
"""The call of pandas that writes rows."""
_SPLIT_KEYS = {"columns", "data"}
_SPLIT_EXTRAS = {"index", "index_names", "column_names"}

Document = Mapping[str, Any]
"""A JSON object, whatever its values are."""


def document_piece(
    document: object, name: str, *, split: str | None, column_names: tuple[str, ...], wanted: frozenset[str] | None
) -> Piece:
    """The rows of a document, or of its split. DataError where it holds none, or where a split has to be chosen."""
    if split is not None:
        document = _choose(document, split, name)
    if isinstance(document, list):
        return _listed(document, name, column_names, wanted)
    if not isinstance(document, dict):
        raise DataError(f"{name} holds {shorten(document)}, not a list of records or an object keyed by row.")
    if turned := _turned(document, name):
        return _listed(turned[0], name, turned[1] or column_names, wanted)
    if named := splits_of(document):
        raise _unchosen(document, list(named), name, split)
    if column_names:
        raise DataError(
            Words(
                Setting("column_names"), f" is for rows that are lists, and the rows of {name} have their own names."
            ),
            hint="Remove it.",
            key="column_names",
            value=column_names,
            place=name,
        )
    if not document or any(isinstance(value, dict) for value in document.values()):
        return _by_column(document, name, wanted) if _is_by_column(document) else _by_row(document, name, wanted)
    return _of_lists(document, name, wanted)


def splits_of(document: Any) -> dict[str, int]:
    """The splits of a document with their numbers of rows; empty if the document itself is rows."""
    if not isinstance(document, dict) or _turned(document, "the file"):
        return {}
    if any(isinstance(value, dict) for value in document.values()):
        return _named_lists(document)
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    named = {key: len(value) for key, value in lists.items() if _are_rows(value)}
    return named if len(lists) < len(document) or len(named) == len(lists) else {}


def _choose(document: object, split: str, name: str) -> object:
    if not isinstance(document, dict):
        what = "a list of rows" if isinstance(document, list) else shorten(document)
        raise DataError(
            Words(Setting("split", split), f" names a split of an object, but {name} holds {what}."),
            hint=Words("Remove ", Setting("split"), "."),
            key="split",
            value=split,
            place=name,
        )
    outer, _, inner = split.partition(".")
    if split not in document and inner and isinstance(document.get(outer), dict):
        return _choose(document[outer], inner, f"{name}, split {outer!r},")
    if split not in document:
        close = nearest(split, document)
        raise DataError(
            f"{name} has no split {split!r}; it holds {describe_keys(document)}.",
            hint=f"Did you mean {close!r}?" if close else Words(Setting("split", verb="Set"), " to one of them."),
            key="split",
            value=split,
            place=name,
        )
    return document[split]


def _turned(document: Mapping[str, object], name: str) -> tuple[list[object], tuple[str, ...]] | None:
    """Rows and the names of their values where pandas wrote `split`, `tight` or `table`; None for anything else."""
    data = document.get("data")
    if not isinstance(data, list):
        return None
    keys = set(document)
    if _SPLIT_KEYS <= keys <= _SPLIT_KEYS | _SPLIT_EXTRAS and isinstance(document["columns"], list):
        names = tuple(map(str, document["columns"]))
        if len(set(names)) < len(names):
            raise DataError(f"{name}: a column name occurs twice: {listing(names)}.", hint="Rename one of them.")
        return data, names
    schema = document.get("schema")
    if keys == {"schema", "data"} and isinstance(schema, dict) and "fields" in schema:
        return data, ()
    return None


def add_listed(table: RecordTable, row: object, number: int, column_names: Sequence[str]) -> None:
    """Add a row whose values `column_names` name; one that is not a list of that length is set aside."""
    if not isinstance(row, list):
        hint = Words(Setting("column_names"), " is for rows that are lists.") if isinstance(row, dict) else ""
        table.bad.append((number, f"{shorten(row)} is not a list of values for {listing(column_names, 6)}", hint))
    elif len(row) != len(column_names):
        values = count(len(row), "value")
        table.bad.append((number, f"{values} where {len(column_names)} are expected ({listing(column_names, 6)})", ""))
    else:
        table.add(dict(zip(column_names, row, strict=True)), number)


def unnamed_values(row: list[object]) -> Words:
    """What to set if rows are lists and nothing names their values."""
    names = ["text", "label"] if len(row) == 2 else [f"column_{number}" for number in range(1, len(row) + 1)]
    return Words("Name their values, such as ", Setting("column_names", tuple(names[:6])), ".")


def _listed(rows: list[Any], name: str, column_names: tuple[str, ...], wanted: frozenset[str] | None) -> Piece:
    table = RecordTable(wanted)
    if column_names:
        if rows and all(isinstance(row, dict) for row in rows):
            raise DataError(
                Words(
                    Setting("column_names"),
                    f" is for rows that are lists, and the rows of {name} have their own names.",
                ),
                hint="Remove it.",
                key="column_names",
                value=column_names,
                place=name,
            )
        for number, row in enumerate(rows, 1):
            add_listed(table, row, number, column_names)
        return table.finish(name, "record")
    if rows and rows[0] and all(isinstance(row, list) for row in rows):
        raise DataError(f"The rows of {name} are lists, such as {shorten(rows[0])}.", hint=unnamed_values(rows[0]))
    for number, row in enumerate(rows, 1):
        table.add(row, number)
    return table.finish(name, "record")


def _are_rows(value: Any) -> bool:
    """Whether a value of the document is itself rows: a list or an object that holds only objects or lists."""
    inner: Iterable[object] = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return bool(value) and all(isinstance(item, dict | list) for item in inner) and any(inner)


def _named_lists(document: Document) -> dict[str, int]:
    """The splits with their numbers of rows; empty if the document itself is rows."""
    found = {key: len(value) for key, value in document.items() if _are_rows(value)}
    lists = any(isinstance(document[key], list) for key in found)
    other_rows = any(isinstance(value, dict) for key, value in document.items() if key not in found)
    return found if lists or not other_rows else {}


def _unchosen(document: Document, named: Sequence[str], name: str, split: str | None) -> DataError:
    """The error for several splits, one of which has to be chosen; `split` is where they are, if not at the top."""
    num_rows = {key: f" ({count(len(document[key]), 'row')})" for key in named if isinstance(document[key], list)}
    shown = listing((f"{key!r}{num_rows.get(key, '')}" for key in named), 5)
    example = next((key for key in named if key.lower().startswith("train")), named[0])
    rows = document[example]
    pairs = rows[0] if isinstance(rows, list) and isinstance(rows[0], list) else None
    also = "" if pairs is None else Words(" ", unnamed_values(pairs))
    place, path = ("", example) if split is None else (f", split {split!r},", f"{split}.{example}")
    return DataError(
        f"{name}{place} is an object with rows in {shown}.",
        hint=Words(Setting("split", path, "Set"), ".", also),
        key="split",
        value=split,
        place=name,
    )


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 18


def _is_by_column(document: Document) -> bool:
    """Whether the outer keys are columns and the inner ones row numbers, as pandas' `to_json` writes by default."""
    columns = list(document.values())
    if (
        not columns
        or all(map(_is_number, document))
        or not all(isinstance(column, dict) and column for column in columns)
    ):
        return False
    return all(_is_number(key) for column in columns for key in column)


def _by_column(document: Mapping[str, Mapping[str, object]], name: str, wanted: frozenset[str] | None) -> Piece:
    table = RecordTable(wanted)
    for key in dict.fromkeys(key for column in document.values() for key in column):
        table.add({column: values.get(key) for column, values in document.items()}, int(key))
    return table.finish(name, "key")


def _by_row(document: Mapping[str, object], name: str, wanted: frozenset[str] | None) -> Piece:
    rows = [row for row in document.values() if isinstance(row, dict)]
    by_number = all(map(_is_number, document))
    doubt = ""
    if not by_number and len(rows) == len(document):
        inner = describe_keys(rows[0]) if rows else "none"
        doubt = (
            f"{describe_keys(document)} are taken as rows of {name}, and {inner} as columns."
            f" If it is the other way round, write rows: {RECORDS}."
        )
        if max(map(len, rows), default=0) > MAX_COLUMNS:
            raise DataError(
                f"{name} seems to hold columns, not rows: its first object has {len(rows[0]):,} keys"
                ' (what pandas calls orient="columns").',
                hint=f"Write rows: {RECORDS}.",
            )
    table = RecordTable(wanted)
    for number, (key, row) in enumerate(document.items(), 1):
        table.add(row, int(key) if by_number else number)
    return replace(table.finish(name, "key" if by_number else "entry"), hint=doubt)


def _of_lists(document: Mapping[str, object], name: str, wanted: frozenset[str] | None) -> Piece:
    """An object without inner objects: lists are columns; anything else is not rows."""
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    if len(lists) == len(document):
        sizes = {key: len(value) for key, value in lists.items()}
        if len(set(sizes.values())) > 1:
            shown = listing((f"{key!r} has {num:,}" for key, num in sizes.items()), 6)
            raise DataError(f"{name} holds columns of different lengths: {shown}.", hint=f"Write rows: {RECORDS}.")
        table = RecordTable(wanted)
        for number, values in enumerate(zip(*lists.values(), strict=True), 1):
            table.add(dict(zip(lists, values, strict=True)), number)
        return table.finish(name, "record")
    raise DataError(
        f"{name} is an object with the keys {describe_keys(document)}, not rows.",
        hint="Write each row as an object with its columns, in a list.",
    )
