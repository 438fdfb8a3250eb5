"""Texts as Python code has them: lists, columns of tables, tables, rows; before `prediction`.

Tables and rows are read by the columns that the model was trained on, each cell as in training. No table library is
imported: a table is recognised by its attributes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from textune.config import Columns, MetadataPrefix
from textune.data.columns import select_texts, text_columns
from textune.data.fields import fields_in, select_fields
from textune.data.reading.columnar import arrow_piece
from textune.data.reading.memory import column_names, require_same_order
from textune.data.reading.records import RecordTable, plain_value
from textune.data.reading.rows import Piece, Rows
from textune.errors import DataError, InputError
from textune.wording import listing


class GivenTexts(NamedTuple):
    """Texts in their order."""

    texts: list[str]
    pairs: list[str] | None
    """The second text of each."""
    place: Callable[[int], str]
    """Names a text for messages, by its index."""
    fields: tuple[pa.ChunkedArray, ...] = ()
    """What stands before each text; empty for texts alone."""


def given_texts(given: Any, pairs: Any, columns: Columns, prefix: MetadataPrefix | None = None) -> GivenTexts:
    """Texts of any accepted form; InputError or DataError says what cannot be texts, and what can."""
    require_no_lookalike("texts", given, columns)
    require_same_order([given, pairs], "texts and pairs", key="pairs")
    given = given if column_names(given) is not None else _as_list("texts", given)
    if column_names(given) is not None or (given and isinstance(given[0], Mapping)):
        if pairs is not None:
            raise InputError("texts is a table, which contains the second texts: leave pairs out", key="pairs")
        rows = given_rows(given, columns, prefix)
        text, second_text = select_texts(rows, columns)
        second = None if second_text is None else second_text.to_pylist()
        return GivenTexts(text.to_pylist(), second, rows.place, given_fields(rows, prefix))
    texts = _require_texts("texts", given)
    second = None if pairs is None else _require_texts("pairs", _as_list("pairs", pairs))
    if second is not None and len(second) != len(texts):
        raise InputError(
            f"{len(texts)} texts, but {len(second)} pairs: each text needs its own second text", key="pairs"
        )
    return GivenTexts(texts, second, "texts[{}]".format)


def given_rows(given: object, columns: Columns, prefix: MetadataPrefix | None = None) -> Rows:
    """The columns that texts are made of, and those of the prefix that are there, from a table of any library, a
    dictionary of columns or a list of dictionaries."""
    names, texts = column_names(given), text_columns(columns)
    rows = None if names is not None else _as_list("texts", given)
    found = (
        names if rows is None else list(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))
    )
    wanted = texts if found is None or rows == [] else (*texts, *fields_in(found, texts, prefix, source="texts"))
    wanted = tuple(dict.fromkeys(wanted))
    piece = _of_records(rows, wanted) if rows is not None else _of_columns(given, names or [], wanted)
    if piece.bad:
        raise InputError(
            f"{piece.bad[0].place}: {piece.bad[0].reason}", place=piece.bad[0].place, reason=piece.bad[0].reason
        )
    return Rows(piece.table, "texts", "", (), piece.places)


def given_fields(rows: Rows, prefix: MetadataPrefix | None) -> tuple[pa.ChunkedArray, ...]:
    """The fields of rows that are to be predicted; those of a column that is not there are all missing."""
    missing = () if prefix is None else set(prefix.columns) - set(rows.table.column_names)
    return select_fields(rows, prefix, missing=missing)


def require_no_lookalike(name: str, given: Any, columns: Columns) -> None:
    """InputError for what looks like a list of texts and is none: one row of a table of pandas, a series whose items
    are the columns, and an open file, whose first line may name columns."""
    if isinstance(given, io.IOBase):
        raise InputError(
            f"{name} is an open file; a list of texts is needed.",
            hint="Read it as a table, or give its lines: [line.rstrip() for line in file].",
            place=name,
            reason="an open file",
        )
    index = getattr(given, "index", None)
    if hasattr(given, "isna") and column_names(given) is None and isinstance(index, Iterable):
        names = text_columns(columns)
        if names and all(column in index for column in names):
            raise InputError(
                f"{name} is one row of a table, with the columns {listing(map(repr, index), 12)}: no list of texts.",
                hint="Give a table of one row, such as table.iloc[[0]], or the text alone.",
                place=name,
                reason="one row of a table",
            )


def _require_columns(found: Iterable[object], wanted: tuple[str, ...]) -> None:
    shown = list(found)
    for name in wanted:
        if name not in shown:
            raise DataError(
                f"texts has no column {name!r}, which the model reads; its columns are:"
                f" {listing(map(repr, shown)) or 'none'}.",
                hint="Rename a column, or give the texts alone, such as table['column'].",
                value=name,
                place="texts",
            )
        if shown.count(name) > 1:
            raise DataError(f"texts has several columns named {name!r}.", hint="Rename all but one.")


def _of_columns(given: Any, names: list[Any], wanted: tuple[str, ...]) -> Piece:
    _require_columns(names, wanted)
    require_same_order([given[name] for name in wanted], "the columns of texts", key="texts")
    arrays = [_as_arrow(given[name], name) for name in wanted]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise InputError(
            f"the columns {listing(map(repr, wanted))} of texts differ in length: {listing(sorted(lengths))}"
        )
    return arrow_piece(pa.table(arrays, names=list(wanted)), "texts")


def _as_arrow(column: Any, name: str) -> Any:
    """A column of any library as Arrow has it, missing values as nulls."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    if isinstance(column, str | bytes):
        raise InputError(f"texts[{name!r}] is one text: a column is a list of them, such as [text]")
    try:
        if hasattr(column, "to_arrow"):  # of polars
            return column.to_arrow()
        if hasattr(column, "isna"):  # of pandas, where NaN means that a value is missing
            return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        column = [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
    records = RecordTable(frozenset([name]))
    values = [plain_value(value) for value in _as_list(f"texts[{name!r}]", column)]
    records.add_all([{name: value} for value in values], range(1, len(values) + 1))
    piece = records.finish("texts", "row")
    if piece.bad:
        raise InputError(f"{piece.bad[0].place}: {piece.bad[0].reason}")
    return piece.table.column(name) if values else pa.array([], pa.string())


def _of_records(rows: list[Any], wanted: tuple[str, ...]) -> Piece:
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"texts[{index}] is {row!r:.40}, but the rows before it are dictionaries")
    if not rows:  # an empty list names no columns
        return arrow_piece(pa.table({name: pa.array([], pa.string()) for name in wanted}), "texts")
    _require_columns(dict.fromkeys(key for row in rows for key in row), wanted)
    columns = {name: [plain_value(row.get(name)) for row in rows] for name in wanted}
    records = RecordTable(frozenset(wanted))
    for number in range(len(rows)):
        records.add({name: values[number] for name, values in columns.items()}, number + 1)
    return records.finish("texts", "row")


def _as_list(name: str, given: Any) -> list[Any]:
    """The items of an ordered collection; InputError for anything that is not a list of texts."""
    if isinstance(given, str):
        raise InputError(f"{name} is one text; a list of texts is needed, such as [text]")
    if isinstance(given, bytes | bytearray | set | frozenset | type) or not isinstance(given, Iterable):
        kind = "None" if given is None else f"of type {type(given).__name__}"
        raise InputError(
            f"{name} is {kind}; a list of texts is needed, or a table with the columns that the model reads"
        )
    if isinstance(given, pa.Array | pa.ChunkedArray):
        return list(given.to_pylist())
    shape = getattr(given, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise InputError(f"{name} has {len(shape)} dimensions; a list of texts has one")
    return list(given)


def _require_texts(name: str, items: list[object]) -> list[str]:
    for index, text in enumerate(items):
        if not isinstance(text, str):
            pair = " (second texts go into `pairs`)" if isinstance(text, list | tuple) else ""
            raise InputError(f"{name}[{index}] is {text!r:.40}, not a text (str){pair}")
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(
                    f"{name}[{index}] is not valid Unicode (half of a surrogate pair): {text!a:.40}"
                ) from None
    return [str(text) for text in items]
