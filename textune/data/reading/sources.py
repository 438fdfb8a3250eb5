"""Where rows come from: every kind of source to one Arrow table; the first step of `data`.

    read_source(section) -> Rows        csv, tsv, json, jsonl, parquet, arrow, text  (formats.py: one reader for each)
                                        saved and hub data sets                      (columnar.py)
                                        the user's own class, rows in memory         (here)
                                        several sources, one after the other         (here)

Cells of csv, tsv and text stay text exactly as written; the other formats keep their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from textune.config import (
    ConcatSource,
    FilesSource,
    GivenSource,
    HubSource,
    OnBadRow,
    PythonSource,
    SavedSource,
    Source,
)
from textune.data.reading.columnar import read_hub, read_saved
from textune.data.reading.excluded import without_excluded
from textune.data.reading.files import find_files, short_names
from textune.data.reading.fingerprint import fingerprint_table
from textune.data.reading.formats import FORMATS, DataFile, format_of, require_fitting
from textune.data.reading.memory import memory_piece
from textune.data.reading.rows import Piece, Places, Rows, SkippedRow, refuse
from textune.data.reading.selection import MayLack, join_pieces, lacks_none, select_rows, wanted_columns
from textune.errors import DataError
from textune.owncode import OwnObject, article
from textune.wording import count, listing

__all__ = ["Places", "Rows", "SkippedRow", "read_source"]


GivenRows = Mapping[str, Any]
"""Rows in memory by name, in any of the forms of `memory.FORMS`."""


def read_source(
    source: Source,
    *,
    on_bad_row: OnBadRow = "error",
    given: GivenRows = MappingProxyType({}),
    may_lack: MayLack = lacks_none,
    key: str = "",
) -> Rows:
    """All rows of a source, selected as its section says; `given` are the rows in memory that it can name; `may_lack`:
    columns that not all of several files need to have; `key`: where the source stands in the configuration, such as
    `data.train`.

    `on_bad_row`: "error" raises DataError for the first row that cannot be read and says how many more there are;
    "skip" leaves them out and lists them in `Rows.skipped`. A file that cannot be read and a source without rows are
    errors.
    """
    piece, name = _read(source, on_bad_row, given, may_lack, key)
    if piece.table.num_rows == 0:
        raise _no_rows(piece, name)
    return Rows(
        table=piece.table,
        source=name,
        fingerprint=fingerprint_table(piece.table),
        skipped=piece.bad,
        places=piece.places,
        class_names=piece.class_names,
        dropped=piece.dropped,
        unclear=piece.unclear,
        hint=piece.hint,
        notes=piece.notes,
    )


def _no_rows(piece: Piece, name: str) -> DataError:
    if piece.bad:
        return DataError(
            f"{name} has no row that can be read: {piece.bad[0].place}: {piece.bad[0].reason}.",
            hint=piece.bad[0].hint,
            place=piece.bad[0].place,
            reason=piece.bad[0].reason,
        )
    has_header = any(ending in name for ending in (".csv", ".tsv", ".tab"))
    return DataError(f"{name} holds no rows.", hint="It needs rows below the header line." if has_header else "")


def _read(source: Source, on_bad_row: OnBadRow, given: GivenRows, may_lack: MayLack, key: str) -> tuple[Piece, str]:
    """One source with its selection applied, and its short name."""
    if isinstance(source, FilesSource):
        piece, name = _read_files(source, on_bad_row, may_lack, key)
    elif isinstance(source, HubSource):
        piece, name = read_hub(source), source.name
    elif isinstance(source, SavedSource):
        piece, name = read_saved(source), Path(source.folder).name
    elif isinstance(source, PythonSource):
        piece, name = _read_python(source), source.object
    elif isinstance(source, GivenSource):
        piece, name = _read_given(source, given), source.name
    else:
        piece, name = _read_concat(source, on_bad_row, given, may_lack, key)
    if piece.bad and on_bad_row == "error":
        raise refuse(piece.bad, name)
    return select_rows(piece, source, name=name), name


def _read_concat(
    source: ConcatSource, on_bad_row: OnBadRow, given: GivenRows, may_lack: MayLack, key: str
) -> tuple[Piece, str]:
    read = (
        _read(one, on_bad_row, given, may_lack, f"{key}.sources[{number}]" if key else "")
        for number, one in enumerate(source.sources)
    )
    pieces, names = zip(*read, strict=True)
    return join_pieces(pieces, names, may_lack), " + ".join(names) if len(
        names
    ) <= 3 else f"{names[0]} and {len(names) - 1} more"


def _read_files(source: FilesSource, on_bad_row: OnBadRow, may_lack: MayLack, key: str) -> tuple[Piece, str]:
    place = f"{key}." if key else ""
    paths = find_files(source.files, key=f"{place}files")
    labels: list[Path | None] = [None] * len(paths)
    if source.label_files:
        given = find_files(source.label_files, key=f"{place}label_files")
        if len(given) != len(paths):
            found = f"{count(len(paths), 'text file')} and {count(len(given), 'label file')}"
            raise DataError(f"{found}: each text file needs its own label file.")
        labels = list(given)
    else:
        paths = list(dict.fromkeys(paths))
    kept = without_excluded([path.as_posix() for path in paths], source.exclude, key=f"{place}exclude")
    paths, labels = [paths[index] for index in kept], [labels[index] for index in kept]
    names = short_names(paths)
    require_fitting(source, {format_of(path, source.format) for path in paths}, paths[0].name)
    wanted = wanted_columns(source)
    pieces = []
    for path, name, label in zip(paths, names, labels, strict=True):
        file = DataFile(path, name, source, explains_bad_rows=on_bad_row == "error", wanted=wanted, labels=label)
        read = FORMATS[format_of(path, source.format)].read
        piece = read(file)
        if wanted and not wanted <= set(piece.table.column_names):
            # A column is missing: read all columns, so that the message can list them.
            piece = read(replace(file, wanted=None))
        pieces.append(piece)
    short = names[0] if len(names) == 1 else f"{names[0]} and {count(len(names) - 1, 'more file')}"
    return join_pieces(pieces, names, may_lack), short


def _read_python(source: PythonSource) -> Piece:
    """Call the user's object; CodeError where it is not there, does not take its options, or fails."""
    code = OwnObject.find(source.object, key="object")
    if not callable(code.target):
        raise code.error(f"it is {article(code.target)}, not a class or function")
    with code.calling("while it gives rows"):
        rows = code.build(source.options)
        if source.part is not None:
            rows = _part(rows, source.part, code)
        if source.column_names:
            rows = [_named(row, source.column_names, number, code) for number, row in enumerate(rows)]
        return memory_piece(rows, source.object, f"The Python source {source.object!r} returned")


def _part(sets: object, part: int, code: OwnObject) -> object:
    """One of several sets of rows."""
    if not isinstance(sets, tuple | list) or part >= len(sets):
        found = count(len(sets), "set of rows", "sets of rows") if isinstance(sets, tuple) else article(sets)
        raise code.error(f"it returned {found}, and part = {part} is asked for", value=part)
    return sets[part]


def _named(row: object, names: Sequence[str], number: int, code: OwnObject) -> dict[str, object]:
    """A row that is a tuple, as a dictionary; dictionaries stay as they are."""
    if isinstance(row, dict):
        return row
    if not isinstance(row, tuple | list) or len(row) != len(names):
        found = count(len(row), "value") if isinstance(row, tuple | list) else article(row)
        raise code.error(f"row {number + 1} is {found}, and column_names has {count(len(names), 'name')}")
    return dict(zip(names, row, strict=True))


def _read_given(source: GivenSource, given: GivenRows) -> Piece:
    if not isinstance(given, Mapping):
        raise DataError(
            f"rows is {article(given)}, not a dictionary of rows by name.",
            hint=f'Give them so: rows={{"{source.name}": rows}}.',
            key="rows",
            reason=f"{article(given)}, not a dictionary",
        )
    if source.name not in given:
        found = listing(map(repr, given), 6) if given else "none"
        raise DataError(
            f"No rows are given under the name {source.name!r}; given: {found}.",
            hint=f"Give them in Python: {_argument(source.name)}.",
            key="name",
            value=source.name,
        )
    return memory_piece(given[source.name], source.name, f"rows[{source.name!r}] is")


def _argument(name: str) -> str:
    """How rows of this name are given."""
    by_name = f'rows={{"{name}": rows}}'
    return f"{name}=rows to textune.train, {by_name} elsewhere" if name in ("train", "validation", "test") else by_name
