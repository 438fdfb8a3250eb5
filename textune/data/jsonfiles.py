"""Readers of json (a list of records, or an object keyed by row) and jsonl (one record a line)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from textune.data.files import read_text
from textune.data.lines import read_lines
from textune.data.records import RecordTable, describe_keys
from textune.data.rows import Piece, shorten
from textune.errors import DataError


def read_jsonl(path: Path, name: str, *, encoding: str, wanted: frozenset[str] | None) -> Piece:
    """One object a line; blank lines are no rows."""
    lines = read_lines(path, encoding)
    table = RecordTable(wanted)
    table.bad.extend((one.line, one.reason, one.hint) for one in lines.bad)
    is_list = False
    for line, text in zip(_numbers(lines.line_N), _texts(lines.text), strict=True):
        if not text or text.isspace():
            continue
        is_list = is_list or text.startswith("[")
        try:
            record = json.loads(text, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            hint = 'A JSON list needs format = "json".' if is_list else ""
            table.bad.append((line, f"not JSON: {error.msg} at column {error.colno}", hint))
        except (ValueError, RecursionError) as error:
            table.bad.append((line, _odd_json(error), ""))
        else:
            table.add(record, line)
    return table.finish(name, "line")


def _numbers(line_N: np.ndarray) -> list[int]:
    return [int(line) for line in line_N]


def _texts(text: Any) -> Any:
    for chunk in text.chunks:
        yield from chunk.to_pylist()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of the pairs; ValueError where a key stands there twice, which plain `json` would hide."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shorten(next(key for key in keys if keys.count(key) > 1), 30)} stands there twice")
    return result


def _odd_json(error: Exception) -> str:
    return "not usable JSON: nested too deeply" if isinstance(error, RecursionError) else f"not usable JSON: {error}"


def read_json(path: Path, name: str, *, encoding: str, wanted: frozenset[str] | None, lenient: bool) -> Piece:
    """One JSON document. With `lenient`, a file that turns out to hold an object a line is read as such."""
    text = read_text(path, encoding)
    if not text.strip():
        raise DataError(f"{name} is empty: it holds white space only.")
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        if _is_jsonl(text, error):
            if lenient:
                return read_jsonl(path, name, encoding=encoding, wanted=wanted)
            raise DataError(f"{name} holds one JSON value a line.", hint='Set format = "jsonl".') from error
        place = f"{name}, line {error.lineno}, column {error.colno}"
        hint = "The file is cut short." if error.pos >= len(text.rstrip()) else "Mend the file."
        raise DataError(f"{place}: not JSON: {error.msg}.", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: {_odd_json(error)}.") from error
    return _document_piece(document, name, wanted)


def _is_jsonl(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the first line is a whole object, so that only what follows it is too much."""
    return (
        error.msg == "Extra data"
        and error.lineno > 1
        and text.lstrip().startswith("{")
        and "\n" not in text[: error.pos].strip()
    )


def _document_piece(document: Any, name: str, wanted: frozenset[str] | None) -> Piece:
    table = RecordTable(wanted)
    if isinstance(document, list):
        for number, record in enumerate(document, 1):
            table.add(record, number)
        return table.finish(name, "record")
    if not isinstance(document, dict):
        raise DataError(f"{name} holds {shorten(document)}, not a list of records or an object keyed by row.")
    if document and not any(isinstance(value, dict) for value in document.values()):
        lists = {key: len(value) for key, value in document.items() if isinstance(value, list)}
        hint = "Write each row as an object with its columns, in a list."
        raise DataError(
            f"{name} is an object with the keys {describe_keys(document)}, not rows."
            + (f" The key {max(lists, key=lists.__getitem__)!r} holds a list." if lists else ""),
            hint=hint,
        )
    by_key = all(key.isascii() and key.isdigit() and len(key) < 18 for key in document)
    for number, (key, record) in enumerate(document.items(), 1):
        table.add(record, int(key) if by_key else number)
    return table.finish(name, "key" if by_key else "entry")
