"""Small tables that taggers look things up in: jsonl, csv, tsv or parquet with named columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from textune.data import StreamOptions, open_rows, stream_format
from textune.errors import DataError
from textune.jsontext import is_unicode
from textune.wording import listing, shorten


def read_table(
    path: str, columns: Sequence[str], *, needed: Sequence[str], option: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each row; DataError where the file cannot be read or lacks a column that is needed.

    `option`: the one that names the file.
    """
    if not Path(path).is_file():
        raise DataError(
            f"--{option} {path}: there is no such file.",
            hint="Check the path.",
            key=option,
            value=path,
            place=path,
            reason="there is no such file",
        )
    options = StreamOptions(stream_format(path, None))
    seen = set[str]()
    for number, row in open_rows(path, options, text_column="text").rows():
        seen |= row.keys()
        if not seen.issuperset(needed) and options.format != "jsonl":
            raise _without_column(path, columns, needed, seen, option)
        place = f"{path}, {options.unit} {number:,}"
        for name in columns:
            _require_unicode(row.get(name), name, place, option)
        yield place, row


def _require_unicode(cell: object, name: str, place: str, option: str) -> None:
    for text in cell if isinstance(cell, list) else [cell]:
        if isinstance(text, str) and not is_unicode(text):
            raise DataError(
                f"{place}, column {name!r}: {shorten(ascii(text), 40)} is not valid Unicode.",
                hint="It holds half of a surrogate pair: mend the text, or remove the line.",
                key=option,
                value=text,
                place=place,
                reason="it is not valid Unicode",
            )


def _without_column(
    path: str, columns: Sequence[str], needed: Sequence[str], seen: set[str], option: str
) -> DataError:
    missing = next(name for name in needed if name not in seen)
    return DataError(
        f"{path}: there is no column {missing!r}; it has {listing(sorted(seen), 8)}.",
        hint=f"The columns of such a file are {listing(columns)}.",
        key=option,
        value=missing,
        place=path,
        reason="the column is missing",
    )
