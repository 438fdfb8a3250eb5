"""Readers of json (a list of records, or an object keyed by row) and jsonl (one record per line)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from textune.config import FilesSource
from textune.data.reading.documents import add_listed, document_piece
from textune.data.reading.files import TextLines, raw_blocks, read_text
from textune.data.reading.records import RecordTable, describe_keys
from textune.data.reading.rows import Piece
from textune.errors import DataError, Setting, Words
from textune.wording import shorten


def read_jsonl(path: Path, name: str, section: FilesSource, *, wanted: frozenset[str] | None) -> Piece:
    """One object per line, or with `column_names` a list of their values; blank lines are not rows."""
    table = RecordTable(wanted)
    table.list_hint = Words("Name the values of rows that are lists with ", Setting("column_names"), ".")
    lines = TextLines(path.name, raw_blocks(path), section.encoding)
    texts: list[str] = []
    numbers: list[int] = []
    for line in lines:
        problem, lines.problem = lines.problem, None
        if problem is not None:
            table.bad.append((problem.line, problem.reason, problem.hint))
        elif line.strip(" \t\r\n"):
            texts.append(line.removesuffix("\n").removesuffix("\r"))
            numbers.append(lines.number)
        if len(texts) == _BLOCK_LINES:
            add_lines(table, texts, numbers, section.column_names)
            texts, numbers = [], []
    if texts:
        if lines.number == numbers[0] and not table.bad:
            _refuse_table(texts[0], name)
        add_lines(table, texts, numbers, section.column_names)
    return table.finish(name, "line")


_AS_JSON = Words(Setting("format", "json", "Set"), ".")


def _refuse_table(only_line: str, name: str) -> None:
    """DataError if the only line of a file is a whole table, as pandas' `to_json` writes it without `lines=True`."""
    value, _ = parse_line(only_line)
    if isinstance(value, list) and value and all(isinstance(item, dict | list) for item in value):
        raise DataError(
            f"{name} holds all rows in one list, not an object per line.", hint=_AS_JSON, key="format", place=name
        )
    if isinstance(value, dict) and value and all(item and isinstance(item, dict | list) for item in value.values()):
        raise DataError(
            f"{name} holds a whole table in one object ({describe_keys(value)}), not an object per line.",
            hint=Words(
                Setting("format", "json", "Set"), ', or write rows: df.to_json(path, orient="records", lines=True).'
            ),
            key="format",
            place=name,
        )


_BLOCK_LINES = 5000
_BETWEEN = "\x01end of line\x01"
"""Separates lines that are parsed together; it cannot occur in JSON text."""


def add_lines(
    table: RecordTable, texts: Sequence[str], numbers: Sequence[int], column_names: Sequence[str] = ()
) -> None:
    """Add the JSON objects of lines with these numbers, all at once if possible; other lines are set aside.

    With `column_names` each line is a list of the values that they name.
    """
    records = None if column_names else _parse_together(texts)
    if records is not None:
        table.add_all(records, numbers)
        return
    for text, number in zip(texts, numbers, strict=True):
        value, reason = parse_line(text)
        if reason:
            spans = reason.startswith("not JSON") and texts[0].strip() in {"[", "{"}
            is_list = reason.startswith("not JSON") and texts[0].startswith("[")
            what = "A JSON list needs " if is_list else "JSON over several lines needs "
            hint = Words(what, Setting("format", "json"), ".")
            table.bad.append((number, reason, hint if spans or is_list else ""))
        elif column_names:
            add_listed(table, value, number, column_names)
        else:
            table.add(value, number)


def parse_line(text: str) -> tuple[object, str]:
    """The JSON value of a line, and what is wrong with it, if anything."""
    try:
        return _DECODER.decode(text), ""
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        return None, _odd_json(error)


def _parse_together(texts: Sequence[str]) -> list[object] | None:
    """The values of many lines from one call, several times faster; None where they must be parsed one by one."""
    separator = f",{json.dumps(_BETWEEN, allow_nan=False)},"
    if any(separator[1:-1] in text for text in texts):
        return None
    joined = f"[{separator.join(texts)}]"
    try:
        values = json.loads(joined)
        records = values[::2]
        # Each key is written once as `":`, so a repeated key shows in the count; where the count proves nothing
        # (nested objects, the same characters inside a text), every object is checked.
        is_plain = not any(f"{blank}:" in joined for blank in " \t\r\n")
        if not is_plain or joined.count('":') != sum(map(len, records)):
            records = _DECODER.decode(joined)[::2]
    except (ValueError, RecursionError, TypeError):
        return None
    # A line that is not exactly one value would shift or swallow a separator.
    whole = len(values) == 2 * len(texts) - 1 and values[1::2] == [_BETWEEN] * (len(texts) - 1)
    return records if whole else None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A dictionary of the pairs; ValueError where a key occurs twice, which plain `json` would hide."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shorten(next(key for key in keys if keys.count(key) > 1), 30)} occurs twice")
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _odd_json(error: Exception) -> str:
    return "not usable JSON: nested too deeply" if isinstance(error, RecursionError) else f"not usable JSON: {error}"


def read_json(path: Path, name: str, section: FilesSource, *, wanted: frozenset[str] | None) -> Piece:
    """One JSON document. Without a format set, a file that turns out to hold an object per line is read as such."""
    text = read_text(path, section.encoding)
    if not text.strip():
        raise DataError(f"{name} is empty: it holds white space only.")
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if _is_jsonl(text, error):
            if section.split is not None:
                raise DataError(
                    f"{name} holds one JSON value per line, not splits.",
                    hint=Words("Remove ", Setting("split"), "."),
                    key="split",
                    value=section.split,
                    place=name,
                ) from error
            if section.format == "auto":
                return read_jsonl(path, name, section, wanted=wanted)
            raise DataError(
                f"{name} holds one JSON value per line.",
                hint=Words(Setting("format", "jsonl", "Set"), "."),
                key="format",
                value=section.format,
                place=name,
            ) from error
        place = f"{name}, line {error.lineno}, column {error.colno}"
        hint = "The file is truncated." if error.pos >= len(text.rstrip()) else "Fix the file."
        raise DataError(f"{place}: not JSON: {error.msg}.", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: {_odd_json(error)}.") from error
    return document_piece(document, name, split=section.split, column_names=section.column_names, wanted=wanted)


def _is_jsonl(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the first line is a whole object, so that only what follows it is the problem."""
    return (
        error.msg == "Extra data"
        and error.lineno > 1
        and text.lstrip().startswith("{")
        and "\n" not in text[: error.pos].strip()
    )
