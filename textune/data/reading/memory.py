"""Rows in memory, in any form that Python has them, to a `Piece`; below `sources.py` and `given.py`.

A table of Arrow, pandas or polars, a data set of the datasets library, a dictionary of columns, an iterable of
dictionaries. No table library is imported: a table is recognised by its attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from textune.data.reading.classnames import class_names
from textune.data.reading.columnar import arrow_piece
from textune.data.reading.records import plain_value, records_piece
from textune.data.reading.rows import Piece
from textune.errors import InputError
from textune.owncode import article
from textune.wording import listing, repeated_names, shorten

FORMS = (
    "a table (of pandas, polars, Arrow or the datasets library), a dictionary of columns, or an iterable of"
    " dictionaries"
)
"""What rows in memory can be, in words."""


def memory_piece(given: object, name: str, what: str) -> Piece:
    """The rows of a Python object, numbered from 1; `name` is that of the source, `what` the object in a sentence,
    such as `train is`. A `Piece` is returned as it is.

    Levels of an index without a name, which pandas gives every table, are no columns. InputError for an object
    without rows of columns, and for columns of several lengths.
    """
    if isinstance(given, Piece):
        return given
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if isinstance(given, pa.Table):
        return arrow_piece(given, name)
    if isinstance(given, Mapping) or (hasattr(given, "isna") and column_names(given) is not None):
        return _of_columns(given, name)
    # A data set of the datasets library: its rows hold integers, its features the class names.
    schema = getattr(getattr(given, "features", None), "arrow_schema", None)
    is_column = hasattr(given, "isna")
    if hasattr(given, "__arrow_c_stream__") and schema is None and not is_column and not isinstance(given, type):
        return arrow_piece(pa.table(given), name)
    if isinstance(given, str | bytes | type) or is_column or not isinstance(given, Iterable):
        raise InputError(
            f"{what} {article(given)}, not {FORMS}.", key=name, value=given, place=name, reason=article(given)
        )
    piece = records_piece((_plain_record(record) for record in given), name, "row")
    return replace(piece, class_names=class_names(schema)) if isinstance(schema, pa.Schema) else piece


def texts_with_labels(given: object, name: str, *, text: str, label: str) -> object:
    """Texts, or a pair of texts and their labels, as a dictionary of columns of these names; anything else as it is.

    InputError where there is a label too few or too many.
    """
    if isinstance(given, list) and len(given) == 2 and all(isinstance(part, list) for part in given):
        raise InputError(
            f"{name} is a list of two lists.",
            hint=f"Give texts and labels as a pair: {name}=(texts, labels).",
            key=name,
            place=name,
            reason="a list of two lists",
        )
    if isinstance(given, tuple) and len(given) == 2 and not any(isinstance(part, Mapping) for part in given):
        require_same_order(given, f"the texts and labels of {name}", key=name)
        texts, labels = (items_of(part, f"{name}[{index}]") for index, part in enumerate(given))
        if len(texts) != len(labels):
            raise InputError(
                f"{name} has {len(texts):,} texts, but {len(labels):,} labels: each text needs its own label.",
                key=name,
                value=len(labels),
                place=name,
                reason="another number of labels than of texts",
            )
        return {text: texts, label: labels}
    is_column = column_names(given) is None and (isinstance(given, Sequence) or hasattr(given, "__len__"))
    if is_column and not isinstance(given, str | bytes) and isinstance(given, Iterable):
        items = items_of(given, name)
        if items and all(isinstance(one, str) for one in items):
            return {text: items}
    return given


def require_same_order(columns: Iterable[Any], what: str, *, key: str) -> None:
    """InputError for series of pandas whose indexes have the same values in another order.

    Everything here goes by position, pandas by the index: such rows would be put together wrongly.
    """
    indexes = [
        column.index
        for column in columns
        if hasattr(column, "isna") and column_names(column) is None and hasattr(column, "index")
    ]
    for index in indexes[1:]:
        first = indexes[0]
        if len(first) == len(index) and not first.equals(index) and set(first) == set(index):
            raise InputError(
                f"{what} are series with the same index in another order: by position they do not belong together.",
                hint="Put them into one table, pandas.concat([...], axis=1), or give lists to go by position.",
                key=key,
                place=key,
                reason="the same index in another order",
            )


def items_of(given: object, what: str) -> list[Any]:
    """The items of an ordered collection, or the rows of an array; InputError for anything else."""
    if isinstance(given, pa.Array | pa.ChunkedArray):
        return list(given.to_pylist())
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not isinstance(given, Iterable):
        raise InputError(
            f"{what} is {article(given)}; a list was expected, or an array or a column of a table.",
            key=what.partition("[")[0],
            place=what,
            reason=article(given),
        )
    if hasattr(given, "isna"):  # of pandas, where NaN means that a value is missing
        return [None if missing else value for value, missing in zip(given, given.isna(), strict=True)]
    return list(given)


def column_names(given: Any) -> list[Any] | None:
    """The columns of a table; None for anything else."""
    if isinstance(given, Mapping):
        return list(given)
    names = getattr(given, "column_names", None)  # of Arrow and of the datasets library
    if names is None:
        names = getattr(given, "columns", None)  # of pandas and polars
    if names is None or callable(names) or isinstance(given, type):
        return None
    return [names] if isinstance(names, str) else list(names)


def _of_columns(given: Any, source: str) -> Piece:
    """The rows of a dictionary of columns, or of a table of pandas; values that do not fit into their column make bad
    rows."""
    columns = _index_columns(given) + [(name, given[name]) for name in column_names(given) or []]
    names = [str(name) for name, _ in columns]
    if twice := repeated_names(names):
        raise InputError(
            f"{source} has two columns of the same name: {listing(map(repr, twice))}.",
            key=source,
            value=twice[0],
            place=source,
            reason="two columns of the same name",
        )
    require_same_order([column for _, column in columns], f"the columns of {source}", key=source)
    read = [_read_column(column, f"{source}[{name!r}]") for name, column in columns]
    lengths = [len(one) for one in read]
    if len(set(lengths)) > 1:
        shown = listing((f"{shorten(name, 30)} has {num:,}" for name, num in zip(names, lengths, strict=True)), 6)
        raise InputError(
            f"the columns of {source} differ in length: {shown}.",
            key=source,
            value=sorted(set(lengths)),
            place=source,
            reason="columns of several lengths",
        )
    if all(isinstance(one, pa.Array | pa.ChunkedArray) for one in read):
        return arrow_piece(pa.table(read, names=names), source)
    lists = [one if isinstance(one, list) else one.to_pylist() for one in read]
    rows = (dict(zip(names, map(plain_value, row), strict=True)) for row in zip(*lists, strict=True))
    return records_piece(rows, source, "row")


def _index_columns(given: Any) -> list[tuple[str, Any]]:
    """The named levels of the index of a table of pandas, which are columns to Arrow, too, unless they only count."""
    index = getattr(given, "index", None)
    if index is None or callable(index) or hasattr(index, "step"):
        return []
    named = [name for name in getattr(index, "names", ()) if isinstance(name, str)]
    return [(name, index.get_level_values(name).to_series()) for name in named]


def _read_column(column: Any, what: str) -> Any:
    """A column as Arrow has it, missing values as nulls; as a list where its values have to be looked at one by
    one."""
    if column_names(column) is not None:
        raise InputError(
            f"{what} is {article(column)}: tables by name are not one table.",
            hint="Give one of them.",
            key=what.partition("[")[0],
            place=what,
            reason="a table",
        )
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    try:
        if hasattr(column, "to_arrow"):  # of polars
            return column.to_arrow()
        if hasattr(column, "isna"):  # of pandas
            return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        pass  # values of several kinds, which a list can hold
    return items_of(column, what)


def _plain_record(record: Any) -> Any:
    if not isinstance(record, Mapping):
        return record
    return {key: plain_value(value) for key, value in record.items()}
