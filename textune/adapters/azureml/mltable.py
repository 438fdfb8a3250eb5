"""A manifest `MLTable` as a source of rows: which files it names, and how they are read.

    type: mltable
    paths:                              file, folder or pattern, relative to the manifest
      - file: ./train.jsonl
    transformations:
      - read_json_lines: {encoding: utf8}

What changes rows in a way that a source here cannot is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from textune.config import FilesSource
from textune.errors import ConfigError

MANIFEST = "MLTable"
_HEADERS = ("all_files_same_headers", "all_files_different_headers", "from_first_file")
_CHANGES_NOTHING = frozenset({"convert_column_types", "extract_columns_from_partition_format"})
"""Transformations after which text and label are the same text."""
_OPTIONS_PASSED_OVER = frozenset({"include_path_column", "empty_as_string", "infer_column_types"})
_ENCODINGS = {
    "utf8": "utf-8",
    "utf8bom": "utf-8",  # a byte-order mark is skipped in any case
    "iso88591": "latin-1",
    "utf16": "utf-16",
    "utf32": "utf-32",
    "windows1252": "cp1252",
}
"""Encodings that have another name in Python."""
_HINT = "See docs/migrating.md for the transformations that are read; write what it makes as a jsonl file instead."


def read_mltable(given: str, *, key: str) -> FilesSource:
    """The source that a folder with a manifest, or the manifest itself, describes.

    `key`: the input that named it. ConfigError for a manifest that is missing or no YAML, for remote paths, and for
    transformations that cannot be done here; each says which.
    """
    path = Path(given).expanduser().absolute()
    file = path / MANIFEST if path.is_dir() else path
    if not file.is_file():
        raise _refused(key, given, f"there is no file {MANIFEST}", "Name the folder that holds the manifest.")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise _refused(key, given, f"it is no YAML: {' '.join(str(error).split())}", "Correct the file.") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("paths"), list):
        raise _refused(key, given, "it has no list of paths", "A manifest begins with `paths:` and a list.")
    keys: dict[str, Any] = {"files": tuple(_path(one, file.parent, key, given) for one in tree["paths"])}
    for one in tree.get("transformations") or ():
        made = _transformed(one, key, given)
        if twice := sorted(made.keys() & keys.keys()):
            raise _refused(
                key, given, f"{one!r} comes after another that sets {', '.join(twice)}", "Keep one of them."
            )
        keys |= made
    try:
        return FilesSource(**keys)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(key, given, f"{first['loc'][0]}: {first['msg']}", "Correct the manifest.") from error


def _path(one: object, folder: Path, key: str, given: str) -> str:
    known = ("file", "folder", "pattern")
    if not isinstance(one, dict) or len(one) != 1 or (kind := next(iter(one))) not in known:
        raise _refused(key, given, f"{one!r} is no path", "Write `- file: ./train.jsonl`.")
    written = str(one[kind])
    if "://" in written:
        hint = "Download it, and name the file relative to the manifest."
        raise _refused(key, given, f"{written} is not on this machine", hint)
    path = folder / written
    return str(path / "*" if kind == "folder" else path)


def _transformed(one: object, key: str, given: str) -> dict[str, Any]:
    """The keys of a source that a transformation stands for."""
    if isinstance(one, str):
        one = {one: {}}
    if not isinstance(one, dict) or len(one) != 1:
        raise _refused(key, given, f"{one!r} is no transformation", _HINT)
    name, options = next(iter(one.items()))
    if name in _CHANGES_NOTHING:
        return {}
    if name not in _READ:
        raise _refused(key, given, f"the transformation {name} cannot be done here", _HINT)
    found = _READ[name](options if options is not None else {})
    if found is None:
        raise _refused(key, given, f"{name}: {options!r} cannot be done here", _HINT)
    return found


def _json_lines(options: object) -> dict[str, Any] | None:
    known = _known(options, {"encoding", "invalid_lines"})
    if known is None or known.get("invalid_lines", "error") != "error":
        return None
    return {"format": "jsonl", **_encoding(known)}


def _delimited(options: object) -> dict[str, Any] | None:
    known = _known(options, {"delimiter", "encoding", "header", "support_multi_line"})
    if known is None or known.get("header", _HEADERS[0]) not in _HEADERS:
        return None
    delimiter = str(known.get("delimiter", ","))
    return {"format": "tsv" if delimiter in ("\t", "\\t") else "csv", "delimiter": delimiter, **_encoding(known)}


def _parquet(options: object) -> dict[str, Any] | None:
    return {"format": "parquet"} if _known(options, set()) is not None else None


def _take(options: object) -> dict[str, Any] | None:
    count = options.get("count") if isinstance(options, dict) else options
    return {"take": count} if isinstance(count, int) and not isinstance(count, bool) else None


def _keep(options: object) -> dict[str, Any] | None:
    columns = options.get("columns") if isinstance(options, dict) else options
    columns = [columns] if isinstance(columns, str) else columns
    return {"select": tuple(map(str, columns))} if isinstance(columns, list) and columns else None


_READ: dict[str, Callable[[object], dict[str, Any] | None]] = {
    "read_json_lines": _json_lines,
    "read_delimited": _delimited,
    "read_parquet": _parquet,
    "take": _take,
    "keep_columns": _keep,
}
"""What a transformation becomes, by its name; None for options that cannot be done."""


def _known(options: object, known: set[str]) -> dict[str, object] | None:
    """The options, where all of them are known or change no text; else None."""
    return options if isinstance(options, dict) and set(options) <= known | _OPTIONS_PASSED_OVER else None


def _encoding(options: Mapping[str, object]) -> dict[str, Any]:
    encoding = str(options.get("encoding", "utf8"))
    return {"encoding": _ENCODINGS.get(encoding, encoding)}


def _refused(key: str, given: str, reason: str, hint: str) -> ConfigError:
    return ConfigError(f"--{key} = {given}: {reason}.", hint=hint, key=key, value=given, place=given, reason=reason)
