"""Records of both versions with everything that can be wrong with them, by chance."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
MakeEntry = Callable[[random.Random, str, str], Any]
TYPES = ("html", "timestamp", "entity", "url", "generation_length_text", "generation_length_sentence", "mood")
_KEYS = ("html", "timestamp", "entity", "url", "length", "mood", "title", "website_description", "datasource")
_ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        7,
        2**31,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) + 1,
        2**200,
        1.0,
        2.5,
        -0.0,
        1e300,
    ),
    *("", "b", "global", "local", "2018-12-10", "\u0000", "\ud800", "é\u0301🙂", "x" * 300, "[]", "null", "[{}]"),
    *([], [None], [[]], ["a", "b"], {}, {"key": "url"}, {"attrs": ["a"], "values": []}, {"attrs": 3, "values": [3]}),
)
_TEXTS = ("", "a", "some text with words", "é\u0301🙂 zwölf 中文", "a" * 50)


def odd(draw: random.Random) -> Any:
    """A value that stands where another should; now and then one that is not finite, or nested deeply."""
    if draw.random() < 0.02:
        return draw.choice([float("nan"), float("inf"), json.loads("[" * 60 + "]" * 60)])
    return draw.choice(_ODD)


def good_entry(draw: random.Random, text: str, key: str) -> Row:
    """An entry that is mostly right."""
    scope = "local" if key in ("html", "entity") or (key == "length" and draw.random() < 0.5) else "global"
    entry: Row = {"key": key, "type": scope, "value": draw.choice(["2018-12-10", "b", "9", "Bob_Ross"])}
    if scope == "local":
        start, end = sorted((draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)))
        entry |= {"char_start_idx": start, "char_end_idx": end}
        if key == "html" or draw.random() < 0.2:
            entry |= {"relative_start_pos": draw.randrange(4), "relative_end_pos": draw.randrange(4)}
        if key == "html":
            entry["html_attrs"] = {"attrs": ["class", "id"], "values": ["x", "y"]}
    return entry


def broken_entry(draw: random.Random, text: str, key: str) -> Any:
    """An entry with a few changes, or something else in its place."""
    if draw.random() < 0.05:
        return odd(draw)
    entry = good_entry(draw, text, key)
    for _ in range(draw.choice([0, 0, 0, 1, 1, 2])):
        name = draw.choice(list(entry))
        if draw.random() < 0.3:
            del entry[name]
        else:
            entry[name] = odd(draw)
        if not entry:
            break
    return entry


def _entries(draw: random.Random, text: str, keys: tuple[str, ...], entry: MakeEntry) -> Any:
    if entry is broken_entry and draw.random() < 0.05:
        return odd(draw)
    return [entry(draw, text, draw.choice(keys)) for _ in range(draw.choice([0, 1, 1, 2, 5, 9]))]


def broken_row(draw: random.Random, *, entry: MakeEntry = broken_entry) -> Row:
    """A row of either version, or of both."""
    text = draw.choice(_TEXTS)
    row: Row = {"text": text if draw.random() < 0.98 else None}
    kind = draw.random()
    if kind < 0.5:
        row["metadata"] = _entries(draw, text, _KEYS, entry)
    if kind > 0.45:
        for name in draw.sample([*TYPES, "title", "other"], 4):
            key = "length" if "length" in name else name
            row[f"metadata_{name}"] = _entries(draw, text, (key,), entry)
    return row


def broken_line(draw: random.Random, row: Row) -> bytes:
    """The row as a line of jsonl; a few lines are no JSON, cut off, or not UTF-8."""
    line = json.dumps(row).encode()
    kind = draw.random()
    if kind < 0.005:
        return line[: draw.randrange(1, len(line))]
    if kind < 0.01:
        return line.replace(b'"text"', draw.choice([b'"\xff\xfe"', b"text", b'"text": {}, "text"', b"NaN"]))
    if kind < 0.012:
        return draw.choice([b"[]", b"3", b'"text"', b"[" * 5000, b"null", b"\x00", b"{}"])
    return line
