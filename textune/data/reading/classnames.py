"""Names that files give to the integers of a column, as the `datasets` library writes them; below `columnar.py`.

An integer has a meaning only with the names of its own file: `name_classes` replaces it before pieces are joined.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.data.reading.numeric import INTEGER, flat, is_list, is_text
from textune.data.reading.rows import Piece
from textune.data.reading.unpack import with_entries
from textune.wording import listing

_TEXT = pa.large_string()


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Label names of integer columns, from the metadata that `datasets` puts into the schema of its files."""
    features = _entry(_entry(_loaded((schema.metadata or {}).get(b"huggingface")), "info"), "features")
    if isinstance(features, list):  # as in the header of a README: [{name = ..., dtype = ...}]
        items = [(one.get("name"), one) for one in features if isinstance(one, dict)]
    else:
        items = list(features.items()) if isinstance(features, dict) else []
    return {str(column): names for column, feature in items if (names := _names_of(feature))}


def _loaded(value: Any) -> Any:
    """JSON text parsed, even if it was encoded as JSON twice; anything else unchanged."""
    if isinstance(value, (bytes, str)):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _entry(value: object, key: str) -> object:
    return _loaded(value.get(key)) if isinstance(value, dict) else None


def _names_of(feature: Any) -> tuple[str, ...]:
    """Names of a feature in any form that a version of `datasets` has written; () if it has none."""
    if isinstance(feature, list):  # a list of classes
        return _names_of(feature[0]) if len(feature) == 1 else ()
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel":
        return _as_names(feature.get("names"))
    for key in ("feature", "list", "sequence", "dtype"):
        if isinstance(inner := feature.get(key), (dict, list)):
            return _names_of(inner)
    return _as_names(_entry(feature.get("class_label"), "names"))


def _as_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        # If a number is missing, the order of the others means nothing.
        names = (
            [names[key] for key in sorted(names, key=int)]
            if {int(key) for key in names} == set(range(len(names)))
            else None
        )
    if isinstance(names, list) and all(isinstance(one, str) for one in names):
        return tuple(one.strip() for one in names)
    return ()


def name_classes(pieces: Sequence[tuple[Piece, str]]) -> list[tuple[Piece, str]]:
    """The pieces (each with its source's name), with names in place of integers if they do not all name them alike.

    Integers that one piece names and another does not become text, too; `Piece.unclear` says which file does what.
    """
    for column in dict.fromkeys(column for piece, _ in pieces for column in piece.class_names):
        having = [(piece, name) for piece, name in pieces if column in piece.table.column_names]
        named = [piece.class_names.get(column, ()) for piece, _ in having]
        texts = {_holds_text(piece, column) for piece, _ in having}
        if len(having) < len(pieces) or (len(set(named)) == 1 and len(texts) == 1):
            continue
        unclear = _unclear(column, having)
        together = _in_order({one for names in named for one in names}) if all(named) else ()
        pieces = [(_with_names(piece, column, together, unclear), name) for piece, name in pieces]
    return list(pieces)


def _with_names(piece: Piece, column: str, together: tuple[str, ...], unclear: str) -> Piece:
    """The piece with text in a column; `together` are the names of all pieces, if all have names."""
    values = to_names(piece.table.column(column), piece.class_names.get(column, ()))
    index = piece.table.column_names.index(column)
    kept = {other: names for other, names in piece.class_names.items() if other != column}
    return replace(
        piece,
        table=piece.table.set_column(index, column, values),
        class_names=kept | ({column: together} if together else {}),
        unclear=piece.unclear | ({column: unclear} if unclear else {}),
    )


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Names whose order differs between files, in an order that depends on no file."""
    numbers = all(INTEGER.fullmatch(name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def to_names(column: pa.ChunkedArray, names: tuple[str, ...]) -> pa.ChunkedArray:
    """Integers, or lists of integers, as the names at their positions, or as their digits if there are no names.

    A negative one means no label. Other columns are unchanged.
    """
    kind = column.type
    if is_list(kind):
        if not kinds.is_integer(kind.value_type):
            return column
        array = flat(column)
        return pa.chunked_array([with_entries(array, flat(to_names(pa.chunked_array([array.flatten()]), names)))])
    if not kinds.is_integer(kind):
        return column
    if not names:
        return column.cast(_TEXT)
    encoded = pc.dictionary_encode(flat(column))
    texts = pa.array([name_of(value, names) for value in encoded.dictionary.to_pylist()], _TEXT)
    return pa.chunked_array([texts.take(encoded.indices)])


def name_of(value: int, names: tuple[str, ...]) -> str | None:
    """The name of an integer; None for a negative one, which means no label."""
    if value < 0:
        return None
    return names[value] if value < len(names) else f"{value} without a name"


def _holds_text(piece: Piece, column: str) -> bool:
    kind = piece.table.schema.field(column).type
    return is_text(kind.value_type if is_list(kind) else kind)


def _unclear(column: str, pieces: Sequence[tuple[Piece, str]]) -> str:
    """Why the integers of some pieces have no known meaning: only other pieces name theirs. "" if there are none."""
    naming = [(name, piece.class_names[column]) for piece, name in pieces if piece.class_names.get(column)]
    for piece, name in pieces:
        if not piece.class_names.get(column) and (example := _integer(piece.table.column(column))) is not None:
            first, names = naming[0]
            return unnamed_integers(name, column, example, first, names)
    return ""


def unnamed_integers(source: str, column: str, example: str, other: str, names: Sequence[str]) -> str:
    """The sentence about integers in one source and names in another."""
    shown = listing(map(repr, names), 4)
    return (
        f"Column {column!r} of {source} holds integers, such as {example}, without names for them, where {other}"
        f" names its"
        f" classes ({shown}). Nothing says which class an integer means."
    )


NAME_THEM = "Set data.labels.names to the names in the order of these integers, or write the names into the file."


def _integer(column: pa.ChunkedArray) -> str | None:
    """The first value that is an integer or written as one."""
    array = flat(column)
    if is_list(array.type):
        array = array.flatten()
    if kinds.is_integer(array.type):
        array = array.drop_null()
        return str(array[0].as_py()) if len(array) else None
    if not is_text(array.type):
        return None
    values = pc.unique(pc.utf8_trim_whitespace(array.cast(_TEXT)))
    return next((text for text in values.to_pylist() if text is not None and INTEGER.fullmatch(text)), None)
