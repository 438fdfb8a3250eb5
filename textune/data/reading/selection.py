"""Chooses and orders the rows of a source (where, rename, replace, select, shuffle, take) and joins the pieces of
several files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.config import RowSelection
from textune.data.reading.classnames import name_classes, to_names
from textune.data.reading.numeric import is_text
from textune.data.reading.records import json_texts
from textune.data.reading.rows import JSON_FIELD, Piece, Places, missing_column
from textune.draws import Draws
from textune.errors import DataError
from textune.wording import listing, repeated_names, shorten


def wanted_columns(section: RowSelection) -> frozenset[str] | None:
    """Columns, as the files name them, that `select`, `where`, `rename` and `replace` need; None for all."""
    if not section.select:
        return None
    old_names = {new: old for old, new in section.rename.items()}
    return (
        frozenset(old_names.get(name, name) for name in (*section.select, *section.replace))
        | frozenset(section.where)
        | frozenset(section.rename)
    )


def select_rows(piece: Piece, section: RowSelection, *, name: str) -> Piece:
    """Apply where, rename, replace, select, shuffle and take, in this order. DataError for an absent column."""
    for column, values in section.where.items():
        piece = _filter(piece, column, values, name)
    if section.rename:
        piece = _rename(piece, section.rename, name)
    for column, others in section.replace.items():
        piece = _replace(piece, column, others, name)
    if section.select:
        for column in section.select:
            if column not in piece.table.column_names:
                raise missing_column(column, piece, source=name, key="select")
        piece = replace(piece, table=piece.table.select(list(dict.fromkeys(section.select))))
    num_rows = piece.table.num_rows
    if section.shuffle:
        piece = piece.take(Draws.of_seed(section.shuffle_seed).permutation(num_rows)[: section.take])
    elif section.take is not None and section.take < num_rows:
        piece = replace(
            piece, table=piece.table.slice(0, section.take), places=piece.places.take(np.arange(section.take))
        )
    return piece


def _filter(piece: Piece, column: str, values: Sequence[str], name: str) -> Piece:
    cells = _plain_cells(piece, column, name, key="where")
    texts = cells.cast(pa.large_string())
    accepted = pa.array(
        [value.lower() for value in values] if kinds.is_boolean(cells.type) else values, pa.large_string()
    )
    chosen = pc.is_in(texts, value_set=accepted)
    if named := piece.class_names.get(column):  # an integer can be given by its digits or by its name
        texts = to_names(cells, named)
        chosen = pc.or_(chosen, pc.is_in(texts, value_set=accepted))
    kept = np.flatnonzero(chosen.to_numpy())
    if not len(kept) and piece.table.num_rows:
        found = listing((shorten(value, 30) for value in pc.unique(texts).to_pylist()), 8)
        wanted = listing((repr(value) for value in values), 8)
        raise DataError(f"{name}: no row has {wanted} in column {column!r}; found there: {found}.")
    return piece.take(kept)


def _plain_cells(piece: Piece, column: str, name: str, *, key: str) -> pa.ChunkedArray:
    """The cells of a column; DataError if it is not there or holds lists or tables, where `key` names it."""
    if column not in piece.table.column_names:
        raise missing_column(column, piece, source=name, key=key)
    cells = piece.table.column(column)
    if kinds.is_nested(cells.type):
        raise DataError(f"{name}: {key} needs a column of plain values; {column!r} holds {cells.type}.")
    return cells


def _replace(piece: Piece, column: str, values: dict[str, str], name: str) -> Piece:
    """Other values for some of a column's; one that nothing has is none's business, as files of a set may differ."""
    cells = _plain_cells(piece, column, name, key="replace")
    named = piece.class_names.get(column)
    texts = to_names(cells, named) if named else cells
    texts = texts.cast(pa.large_string())
    index = pc.index_in(texts, value_set=pa.array(list(values), pa.large_string()))
    replaced = pc.if_else(
        pc.is_valid(index), pc.take(pa.array(list(values.values()), pa.large_string()), index), texts
    )
    table = piece.table.set_column(piece.table.column_names.index(column), column, replaced)
    return replace(piece, table=table, class_names={key: of for key, of in piece.class_names.items() if key != column})


def _rename(piece: Piece, rename: dict[str, str], name: str) -> Piece:
    for old in rename:
        if old not in piece.table.column_names:
            raise missing_column(old, piece, source=name, key="rename")
    names = [rename.get(old, old) for old in piece.table.column_names]
    twice = repeated_names(names)
    if twice:
        raise DataError(f"{name}: rename makes two columns named {twice[0]!r}.")
    class_names = {rename.get(old, old): labels for old, labels in piece.class_names.items()}
    unclear = {rename.get(old, old): why for old, why in piece.unclear.items()}
    return replace(piece, table=piece.table.rename_columns(names), class_names=class_names, unclear=unclear)


MayLack = Callable[[str], bool]
"""Whether pieces may lack a column of this name."""


def lacks_none(name: str) -> bool:
    """All pieces have all columns."""
    return False


def join_pieces(pieces: Sequence[Piece], names: Sequence[str], may_lack: MayLack = lacks_none) -> Piece:
    """Pieces one after the other, with the columns that all have; other columns are dropped and recorded with the
    reason. Those that pieces `may_lack` are null there, and JSON text where pieces have them in different forms.

    Integers that the pieces do not name alike become names first. Pieces without rows do not affect the columns.
    """
    if len(pieces) == 1:
        return pieces[0]
    filled = [(piece, name) for piece, name in zip(pieces, names, strict=True) if piece.table.num_rows]
    filled = name_classes(filled or [(pieces[0], names[0])])
    dropped = {column: why for piece, _ in filled for column, why in piece.dropped.items()}
    columns: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
    for column in dict.fromkeys(column for piece, _ in filled for column in piece.table.column_names):
        joined = _join_column(column, filled) if not may_lack(column) else _join_sparse(column, filled)
        if isinstance(joined, str):
            dropped[column] = joined
        else:
            columns[column] = joined
    if not columns:
        shown = listing((f"{name} has {listing(map(repr, piece.table.column_names), 4)}" for piece, name in filled), 3)
        raise DataError(f"The files share no column: {shown}.")
    first = filled[0][0]
    schema = pa.schema([field for field, _ in columns.values()])
    return Piece(
        table=pa.Table.from_arrays([array for _, array in columns.values()], schema=schema),
        places=Places.concat([piece.places for piece, _ in filled]),
        bad=tuple(row for piece in pieces for row in piece.bad),
        class_names={column: labels for column, labels in first.class_names.items() if column in columns},
        dropped={column: why for column, why in dropped.items() if column not in columns},
        unclear={column: why for piece, _ in filled for column, why in piece.unclear.items() if column in columns},
        hint=next((piece.hint for piece in pieces if piece.hint), ""),
        notes=tuple(note for piece in pieces for note in piece.notes),
    )


def _join_column(column: str, filled: Sequence[tuple[Piece, str]]) -> tuple[pa.Field, pa.ChunkedArray] | str:
    """The column of all pieces joined, or why that is impossible."""
    having = [name for piece, name in filled if column in piece.table.column_names]
    if len(having) < len(filled):
        return f"it is in {having[0]} but not in {listing((name for _, name in filled if name not in having), 3)}"
    fields = [piece.table.schema.field(column) for piece, _ in filled]
    if any(is_text(field.type) for field in fields):  # the spelling of true and false in the other files
        fields = [pa.field(column, pa.large_string()) if kinds.is_boolean(field.type) else field for field in fields]
    field = _common_field(fields)
    try:
        if field is not None:
            chunks = [chunk for piece, _ in filled for chunk in piece.table.column(column).cast(field.type).chunks]
            return field, pa.chunked_array(chunks, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        # Such as objects whose inner fields differ.
        pass
    other = next((index for index, one in enumerate(fields) if one.type != fields[0].type), 0)
    return f"it holds {fields[0].type} in {filled[0][1]} but {fields[other].type} in {filled[other][1]}"


def _join_sparse(column: str, filled: Sequence[tuple[Piece, str]]) -> tuple[pa.Field, pa.ChunkedArray]:
    """The column of all pieces joined, null where a piece does not have it."""
    having = [piece for piece, _ in filled if column in piece.table.column_names]
    fields = {
        field.with_nullable(True)
        for field in (piece.table.schema.field(column) for piece in having)
        if not kinds.is_null(field.type)
    }
    field = fields.pop() if len(fields) == 1 else pa.field(column, pa.large_string(), metadata=JSON_FIELD)
    chunks: list[pa.Array] = []
    for piece, _ in filled:
        cells = piece.table.column(column) if piece in having else None
        if cells is None or kinds.is_null(cells.type):
            chunks.append(pa.nulls(piece.table.num_rows, field.type))
        elif cells.type == field.type:
            chunks += cells.chunks
        else:
            chunks.append(json_texts(cells))
    return field, pa.chunked_array(chunks, field.type)


def _common_field(fields: Sequence[pa.Field]) -> pa.Field | None:
    """One field that can hold all of them; None if they are of different kinds."""
    marks = {tuple(sorted((field.metadata or {}).items())) for field in fields if not kinds.is_null(field.type)}
    if len(marks) > 1:
        return None
    try:
        schemas = [pa.schema([field.remove_metadata()]) for field in fields]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    metadata = dict(marks.pop()) if marks else {}
    return common.with_metadata(metadata) if metadata else common
