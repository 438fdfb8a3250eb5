"""A foreign configuration as a TOML file of ours, each line with what it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from textune.adapters.foreign import Foreign, Line
from textune.adapters.remarks import about
from textune.config import (
    Experiment,
    absolute,
    align,
    format_key,
    format_value,
    keys_of,
    marker_at,
    parse_key,
    printable,
)


def as_toml(foreign: Foreign, folder: Path | None = None) -> str:
    """The text of a config file that trains the same, with what is left out and what differs as comments.

    `folder`: where the file will be, if that is not the current folder.
    """
    foreign = replace(foreign, lines=tuple(_seen_from(line, folder) for line in foreign.lines)) if folder else foreign
    lines = about(foreign)
    for header, table in _tables(foreign.lines):
        lines += ["", *filter(None, [header]), *align(table)]
    return "\n".join(lines) + "\n"


def _seen_from(line: Line, folder: Path) -> Line:
    """The line with its paths, which start from the current folder, as they are written in another one."""
    marker = marker_at(parse_key(line.key))
    if marker is None or line.value is None:
        return line

    def moved(path: str) -> str:
        full = absolute(path, Path.cwd(), hub=marker.hub)
        kept = full == path or path.startswith("~") or not os.path.isabs(full)
        return path if kept else os.path.relpath(full, folder.absolute())

    value = line.value
    return replace(line, value=moved(value) if isinstance(value, str) else tuple(map(moved, value)))  # type: ignore[call-overload]


def _tables(lines: Iterable[Line]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The lines by their table, in the order of the schema's sections; a table within another stands behind it."""
    sections = list(keys_of(Experiment))
    tables: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for line in lines:
        *table, name = parse_key(line.key)
        code = f"{format_key(name)} = {format_value(line.value)}"
        tables.setdefault(tuple(table), []).append((code, printable(line.origin)))
    if () in tables:  # a list of tables, such as `track`, stands before the first table
        yield "", tables.pop(())
    for header in sorted(tables, key=lambda header: (sections.index(header[0]), header)):
        yield f"[{format_key(*header)}]", tables[header]
