"""Lists written as text in a cell, as Python, JSON, NumPy and databases write them to csv; used by
`labels/values.py`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

from textune.data.reading.numeric import INTEGER, NUMBER

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PIECE = re.compile(rf"(?:(?:{_QUOTED})\s*)+|[^'\"]+")
"""One entry: text in quotes (Python joins several), or text without any."""
_ARRAY = re.compile(r"array\((\[.*\])(?:,\s*dtype=[\w<>'.]+)?\)", re.DOTALL)
_SCALAR = re.compile(r"\bnp\.\w+\(([^()]*)\)")
"""How NumPy shows one of its values in a list: `np.int64(1)`."""
_SEEMING = re.compile(
    r"""(?:\w+\()?(?:\[(?:[^\]]*[\s,;:'"\[(].*)?\]|\{(?:.*[,;:'"].*)?\}|\((?:.*[,;'"].*)?\))\)?""", re.DOTALL
)
_ENDS = {"[": "]", "(": ")", "{": "}"}
_WORDS = {"true": "true", "false": "false"}
_MISSING = {"none", "null", "nan", "na", "<na>"}

Entries = tuple[str | None, ...]


def read_lists(cells: Sequence[str], delimiter: str | None) -> list[Entries | None]:
    """The entries of each cell as text (None for a missing one), None for a cell that is not a list; [] if there are
    no lists.

    Unquoted words in brackets, such as `[joy, anger]`, count as lists only if some cell has several words, or none:
    `[NEG]` may be a name.
    """
    if sum(cell.startswith(("[", "(", "{", "array(", "set()")) for cell in cells) * 2 <= len(cells):
        return []
    found = [_entries(cell, delimiter) for cell in cells]
    bare = [one for one in found if one is not None and one[1]]
    if bare and all(len(entries) < 2 for entries, _ in bare) and "[]" not in cells and "{}" not in cells:
        found = [None if one is not None and one[1] else one for one in found]
    return [None if one is None else one[0] for one in found] if any(one is not None for one in found) else []


def seems_list(cell: str) -> bool:
    """Whether a cell that is read as a name may have been meant as a list: nested, cut off by `...`, or among plain
    names."""
    return _SEEMING.fullmatch(cell) is not None


def _entries(cell: str, delimiter: str | None) -> tuple[Entries, bool] | None:
    """The entries, and whether one of them is a word without quotes."""
    text = cell.strip()
    if text == "set()":
        return (), False
    if array := _ARRAY.fullmatch(text):
        text = array[1]
    if len(text) < 2 or _ENDS.get(text[0]) != text[-1]:
        return None
    body = _SCALAR.sub(r"\1", text[1:-1])
    outside = re.sub(_QUOTED, "", body)
    if re.search(r"""["'\[\](){}]""", outside) or ":" in outside or "..." in outside:
        return None
    comma = next((one for one in (delimiter or "", ",", ";") if one.strip() and one in outside), ",")
    if comma in outside:
        pieces = [piece.strip() for piece in re.findall(rf"(?:{_QUOTED}|(?!{re.escape(comma)})[\s\S])+", body)]
    else:
        pieces = re.findall(rf"{_QUOTED}|[^\s'\"]+", body)
        if any(_is_word(piece) for piece in pieces):  # one name of several words
            pieces = [body.strip()]
    pieces = [piece for piece in pieces if piece]
    if not all(_PIECE.fullmatch(piece) for piece in pieces):
        return None
    words = any(_is_word(piece) for piece in pieces)
    if words and text[0] == "(":
        return None
    return tuple(_entry(piece) for piece in pieces), words


def _is_word(piece: str) -> bool:
    plain = piece.lower()
    return not (piece[:1] in "'\"" or NUMBER.fullmatch(piece) or plain in _WORDS or plain in _MISSING)


def _entry(piece: str) -> str | None:
    if piece[:1] in {"'", '"'}:
        return _unquoted(piece).strip()
    if piece.lower() in _MISSING:
        return None
    if NUMBER.fullmatch(piece) and not INTEGER.fullmatch(piece):
        return repr(float(piece))
    return _WORDS.get(piece.lower(), piece)


def _unquoted(piece: str) -> str:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(piece)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, str):
            return value
    return piece[1:-1]
