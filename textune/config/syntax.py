"""Explains mistakes in TOML text to people who do not know TOML: text without quotes, a key set twice. Used by
`toml.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

_MAX_QUOTED = 100
"""Most unquoted words to look for in one line."""
_TWICE = re.compile(r"Cannot (overwrite|declare|mutate)|Duplicate inline table key '(.*)'$")
_VALUE_ENDS = ("Invalid value", "Expected newline", "Unclosed array", "Unclosed inline table")
"""The parser's messages for a value without quotes."""
_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?")
_NUMBER_LIKE = re.compile(r"[\d\s.,_eE+-]*")


@dataclass(frozen=True)
class Fault:
    """A mistake in TOML text; `line` (from 1) and `column` are None if `message` names the lines itself."""

    message: str
    hint: str = ""
    line: int | None = None
    column: int | None = None


def find_fault(reason: str, text: str) -> Fault:
    """The mistake behind a message of Python's parser, such as `Invalid value (at line 2, column 9)`."""
    lines = text.replace("\r\n", "\n").split("\n")
    match = re.fullmatch(r"(?s)(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", reason)
    if match is None:
        return Fault(f"{reason}.")
    row = int(match[2] or len(lines))
    column = int(match[3] or len(lines[-1]) + 1)
    said = "Unterminated string" if match[1] == "Illegal character '\\n'" else match[1]
    if twice := _TWICE.match(match[1]):
        return _set_twice(lines, row, inline=twice[2]) or Fault(f"{match[1]}.", "", row, column)
    line = lines[row - 1]
    found = _without_quotes(lines, row, column) if match[1].startswith(_VALUE_ENDS) else None
    if found is not None:
        word, fixed = found
        return Fault(f"`{word}` has no quotes.", f"Text needs quotes: {fixed}.", row, column)
    return Fault(f"{said}, in `{line.strip()}`.", _hint(said, line, column), row, column)


def _hint(reason: str, line: str, column: int) -> str:
    if reason.startswith("Expected '='"):
        return "A setting is written key = value."
    if reason.startswith("Unterminated string"):
        return "The closing quote is missing."
    word = _bare_word(line, column)
    if word.lower() in ("true", "false"):
        return f"Write {word.lower()}, in lower case."
    if word.lower() in ("none", "null", "nil"):
        return "TOML has no such value: to leave a key unset, remove it."
    if re.search(r"=\s*\d+,\d+\s*(#|$)", line):
        return "A number has a decimal point, not a comma."
    if re.search("[‘’“”„«»]", line):
        return "Use straight quotes: \"text\" or 'text'."
    return "Write a path or pattern with backslashes in single quotes." if "\\" in line else ""


# --- text without quotes ---------------------------------------------------------------------------------------------


def _without_quotes(lines: Sequence[str], row: int, column: int) -> tuple[str, str] | None:
    """The first word of a line that lacks quotes, and the line with all such words quoted; None if there is none."""
    first, line = "", lines[row - 1]
    for _ in range(_MAX_QUOTED):
        word = _bare_word(line, column)
        if not _is_text(word):
            break
        first = first or word
        start = line.rindex(word, 0, max(column - 1 + len(word), len(word)))
        quoted = f"'{word}'" if "\\" in word or '"' in word else f'"{word}"'
        line = line[:start] + quoted + line[start + len(word) :]
        place = _error_place([*lines[: row - 1], line, *lines[row:]])
        if place is None or place[0] != row:
            break
        column = place[1]
    return (first, re.sub(r"\s+#[^\"']*$", "", line).strip().rstrip(",")) if first else None


def _bare_word(line: str, column: int) -> str:
    """The text around a column (from 1) between the marks of lists and tables; empty if it holds quotes."""
    before = re.split(r"[\[\]{},=]", line[: column - 1])[-1]
    after = re.split(r"[\[\]{},#]", line[column - 1 :])[0]
    word = (before + after).strip()
    return "" if "=" in after or re.search("[\"'‘’“”„«»]", word) else word


def _is_text(word: str) -> bool:
    return (
        bool(word)
        and not _NUMBER_LIKE.fullmatch(word)
        and word.lower() not in ("true", "false", "none", "null", "nil")
    )


def _error_place(lines: Sequence[str]) -> tuple[int, int] | None:
    """Line and column of the first error; None if there is none, or at the end."""
    try:
        tomllib.loads("\n".join(lines))
    except ValueError as error:
        match = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        return (int(match[1]), int(match[2])) if match else None
    return None


# --- set twice -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Statement:
    """A header, or a key with its value."""

    line: int
    place: tuple[str, ...]
    header: str
    """`[` or `[[`; empty for a key."""
    table: tuple[str, ...] = ()
    """The table whose header it follows."""

    def __str__(self) -> str:
        name = ".".join(self.place[len(self.table) :])
        return f"[{name}]" if self.header else f"`{name}`"


def _set_twice(lines: Sequence[str], row: int, *, inline: str | None) -> Fault | None:
    """Which key or table is set twice, and in which lines."""
    if inline is not None:
        return Fault(f"`{inline}` is set twice in one table (line {row}).", "Keep one of them.")
    statements = _statements(lines, row)
    if not statements:
        return None
    *before, second = statements
    # each item of a list of tables starts anew
    anew = [n for n, one in enumerate(before) if one.header == "[[" and second.place[: len(one.place)] == one.place]
    earlier = before[anew[-1] if anew and not second.header else 0 :]
    first = next((one for one in earlier if one.place == second.place), None)
    if first is None:
        first = next(
            (one for one in earlier if _overlap(one.place, second.place) and not (one.header or second.header)), None
        )
        others = (one for one in earlier if one.place != second.table and _overlap(one.place, second.place))
        first = first or next(others, None)
        if first is None:
            return None
        message = f"{first} (line {first.line}) and {second} (line {second.line}) set the same key."
        return Fault(message, "Keep one of them.")
    where = f"lines {first.line} and {second.line}"
    if first.header and second.header:
        return Fault(f"{second} appears twice ({where}).", "Put its keys under one of them.")
    if first.header or second.header:
        return Fault(f"`{'.'.join(second.place)}` is set as a value and as a table ({where}).", "Keep one of them.")
    table = f" in [{'.'.join(second.table)}]" if second.table else ""
    return Fault(f"{second} is set twice{table} ({where}).", "Keep one of them.")


def _statements(lines: Sequence[str], last: int) -> list[_Statement]:
    """The headers and keys up to a line, each with the line where it begins: a line before which the text is
    complete.
    """
    found: list[_Statement] = []
    table: tuple[str, ...] = ()
    for number in range(1, last + 1):
        line = lines[number - 1]
        if not line.strip() or line.lstrip().startswith("#") or not _is_whole(lines[: number - 1]):
            continue
        if header := _HEADER.fullmatch(line):
            table = _parts(header[2]) or ()
            found.append(_Statement(number, table, header[1]))
            continue
        ends = (index for index, letter in enumerate(line) if letter == "=")
        key = next((parts for end in ends if (parts := _parts(line[:end]))), ())
        found.append(_Statement(number, (*table, *key), "", table))
    return found


def _is_whole(lines: Sequence[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except ValueError:
        return False
    return True


def _parts(key: str) -> tuple[str, ...] | None:
    try:
        tree: object = tomllib.loads(f"{key} = 0")
    except ValueError:
        return None
    parts = []
    while isinstance(tree, dict):
        [(part, tree)] = tree.items()
        parts.append(part)
    return tuple(parts)


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return one[: len(other)] == other or other[: len(one)] == one
