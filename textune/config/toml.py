"""TOML text to tables and back, with errors that name line and column."""

from __future__ import annotations

import datetime
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from textune.config.syntax import find_fault
from textune.config.values import Duration
from textune.errors import ConfigError
from textune.wording import nearest

Tree: TypeAlias = dict[str, Any]
"""A table of TOML, with tables in it."""


_DATA_SUFFIXES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".arrow", ".gz", ".zst"}
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_MAX_WIDTH = 110
_MAX_REMARK_COLUMN = 48


def read_toml(path: Path, *, shown: str) -> Tree:
    """The tables of a TOML file; `shown` is its name in messages.

    Raises ConfigError, with line and column, if it is missing, a folder, unreadable, not UTF-8 or not TOML.
    """
    text = read_text(path, shown=shown)
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise _syntax_error(str(error), text, path, shown) from None
    except RecursionError:
        raise ConfigError(f"{shown}: lists or tables are nested too deeply.", place=shown) from None


def read_text(path: Path, *, shown: str) -> str:
    """The text of a config file; ConfigError if it is missing, a folder, unreadable or not UTF-8."""
    if os.path.isdir(path):
        inside = sorted(entry.name for entry in path.glob("*.toml"))
        hint = f"Give the file, such as {Path(shown) / inside[0]}." if inside else "Give the TOML file itself."
        raise ConfigError(f"{shown} is a folder, not a config file.", hint=hint, place=shown)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{shown}: there is no such config file.", hint=_hint_for_missing(path, shown), place=shown
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{shown} cannot be read: {error.strerror}.", place=shown, reason=error.strerror or ""
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = _hint_for_data(path, shown) or "Save the file as UTF-8."
        raise ConfigError(
            f"{shown}, line {line}: this is not UTF-8 text.", hint=hint, place=f"{shown}, line {line}"
        ) from None


def parse_value(text: str) -> object:
    """A TOML value as written on a command line, such as `["a", "b"]`; ValueError if it is not a TOML value."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if set(tree) != {"value"}:
        raise ValueError("more than one value")
    return tree["value"]


def parse_key(text: str) -> tuple[str, ...]:
    """The parts of a dotted key; a part with a dot or other special characters is quoted. ValueError if a part is
    empty.
    """
    if '"' in text or "'" in text:
        tree: object = tomllib.loads(f"{text} = 0")
        parts = []
        while isinstance(tree, dict):
            if len(tree) != 1:
                raise ValueError("not one key")
            [(part, tree)] = tree.items()
            parts.append(part)
        return tuple(parts)
    plain = tuple(part.strip() for part in text.split("."))
    if not all(plain):
        raise ValueError("a part of the key is empty")
    return plain


def format_key(*parts: str | int) -> str:
    """A dotted key as written in TOML; the index in a list (from 0) is shown in brackets."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else format_string(part))
    return text


def format_string(text: str) -> str:
    """A TOML basic string on one line."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(c)) for c in text) + '"'


def format_value(value: object, *, one_line: bool = False) -> str:
    """A value as TOML; a long list takes several lines unless `one_line`. None, which TOML lacks, is left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, str):
        return format_string(value)
    if isinstance(value, Duration | Path):
        return format_string(str(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        entries = [
            f"{format_key(str(k))} = {format_value(v, one_line=True)}" for k, v in value.items() if v is not None
        ]
        return f"{{ {', '.join(entries)} }}" if entries else "{}"
    if isinstance(value, list | tuple):
        items = [format_value(item, one_line=True) for item in value if item is not None]
        line = f"[{', '.join(items)}]"
        return line if one_line or len(line) <= _MAX_WIDTH else _wrap(items)
    return str(value)


def align(lines: Sequence[tuple[str, str]]) -> list[str]:
    """`code  # remark` for each pair, with the remarks aligned if the code is short; either part can be empty."""
    ends = [code.rpartition("\n")[2] for code, _ in lines]
    column = max((len(end) for end in ends if len(end) <= _MAX_REMARK_COLUMN), default=0)
    aligned = []
    for (code, remark), end in zip(lines, ends, strict=True):
        gap = " " * (max(0, column - len(end)) + 2) if code else ""
        aligned.append(f"{code}{gap}# {remark}" if remark else code)
    return aligned


def printable(text: str) -> str:
    """The text with a question mark for each character that is not allowed in a TOML comment or a one-line message."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shorten(text: str, width: int = 80) -> str:
    """The text, or its beginning if it is long."""
    return text if len(text) <= width else text[: width - 3] + "..."


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _format_float(value: float) -> str:
    if not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    return re.sub(r"e([+-])0*(\d)", r"e\1\2", repr(value)).replace("e+", "e")


def _wrap(items: list[str]) -> str:
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > _MAX_WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join(["[", *lines, line, "]"])


def _hint_for_missing(path: Path, shown: str) -> str:
    if "=" in shown:
        return "Give the config first, such as config.toml or preset:tiny, and settings after it."
    others = [entry.name for entry in path.parent.glob("*.toml")] if os.path.isdir(path.parent) else []
    if near := nearest(path.name, others):
        return f"Did you mean {Path(shown).with_name(near)}?"
    return "`textune init DATA --out config.toml` writes a config for your data."


def _hint_for_data(path: Path, shown: str) -> str:
    if path.suffix.lower() not in _DATA_SUFFIXES:
        return ""
    return f"This looks like data; `textune init {shown} --out config.toml` writes a config for it."


def _syntax_error(reason: str, text: str, path: Path, shown: str) -> ConfigError:
    fault = find_fault(reason, text)
    place = "" if fault.line is None else f", line {fault.line}, column {fault.column}"
    hint = _hint_for_data(path, shown) or printable(shorten(fault.hint, 200))
    reason = printable(shorten(fault.message, 200))
    return ConfigError(f"{shown}{place}: {reason}", hint=hint, place=f"{shown}{place}", reason=reason)
