"""The first row of a file, as far as it can be told without reading the file: which columns there are."""

from __future__ import annotations

import csv
import glob
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = 1 << 20
"""Characters that are looked at."""
Row = Mapping[str, Any]


def files_of(patterns: Sequence[str]) -> list[str]:
    """The files that paths and patterns name, from the current folder on; none where nothing is there."""
    found: list[str] = []
    for pattern in patterns:
        path = os.path.expanduser(pattern)
        found += sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
    return [path for path in found if os.path.isfile(path)]


def head_of(path: str, encoding: str = "utf-8-sig") -> str:
    """How a file begins; "" where that cannot be told."""
    try:
        if path.endswith(".gz"):
            with gzip.open(path, "rt", encoding=encoding, errors="replace") as packed:
                return packed.read(_HEAD)
        with open(path, encoding=encoding, errors="replace") as file:
            return file.read(_HEAD)
    except (OSError, EOFError, LookupError):
        return ""


def first_row(head: str, loader: str, *, delimiter: str = ",", names: Sequence[str] = (), skip: int = 0) -> Row | None:
    """The first row by column; None where that cannot be told."""
    if loader == "text":
        return {"text": head.partition("\n")[0]}
    if loader == "csv":
        lines = head.splitlines()[skip:]
        rows = [row for row in csv.reader(lines[:200], delimiter=delimiter) if row]
        header, cells = (list(names), rows[:1]) if names else (rows[0] if rows else [], rows[1:2])
        return dict(zip(header, [*(cells[0] if cells else []), *[""] * len(header)], strict=False)) or None
    return _first_record(head)


def _first_record(head: str) -> Row | None:
    """Of JSON lines, or of a list of objects."""
    text = head.lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(text[1:].lstrip() if text.startswith("[") else text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
