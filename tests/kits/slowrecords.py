"""The slow twin of reading documents: one entry after the other, each rule in plain words."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from textune.metadata.rendering.timestamps import parse_timestamp
from textune.metadata.types import TYPES

_SAME_KEY = {("length", "global"): "generation_length_text", ("length", "local"): "generation_length_sentence"}
_OTHER_KEY = {"website_description": "website_desc", "datasource": "generation_datasource"}
_ON_ONE_SIDE = ("entity", "entity_paragraph")
"""Types whose names stand before or after a span, so that there is nothing to nest."""
_ORDERS = ("relative_start_pos", "relative_end_pos")
_SPAN = ("char_start_idx", "char_end_idx")


def read_slowly(
    rows: Sequence[dict[str, Any]], types: Sequence[str], *, original: bool = False, most_crossed: int = 64
) -> tuple[list[tuple[Any, ...]], dict[str, int], dict[str, int]]:
    """The entries of all documents as `kits.records.listed` has them, the bad ones counted by kind, and the documents
    that have a type which is not named. `most_crossed`: spans that one may cross."""
    kept: list[tuple[Any, ...]] = []
    bad: Counter[str] = Counter()
    not_named: Counter[str] = Counter()
    columns = list(dict.fromkeys(name for row in rows for name in row if name.startswith("metadata")))
    for number, row in enumerate(rows):
        found: list[tuple[str, Any]] = []
        others: set[str] = set()
        is_first = row.get("metadata") is not None
        for column in columns:
            cell = row.get(column)
            if cell is None or (column == "metadata") != is_first:
                continue
            suffix = column.removeprefix("metadata_")
            if not is_first and suffix not in types:
                if cell != []:
                    others.add(suffix)
                continue
            for entry in _entries(cell, bad):
                if not is_first:
                    found.append((suffix, entry))
                elif not isinstance(entry.get("key"), str):
                    bad["key"] += 1
                elif (name := _type(entry["key"], entry.get("type"))) in types:
                    found.append((name, entry))
                else:
                    others.add(name)
        not_named.update(others)
        listed = _checked(number, row.get("text") or "", found, bad, original=original)
        kept += listed if original else _without_crossing(listed, bad, most_crossed)
    return kept, dict(+bad), dict(not_named)


def _entries(cell: Any, bad: Counter[str]) -> list[dict[str, Any]]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            bad["shape"] += 1
            return []
    if not isinstance(cell, list):
        bad["shape"] += cell is not None
        return []
    bad["shape"] += sum(not isinstance(entry, dict) for entry in cell)
    return [entry for entry in cell if isinstance(entry, dict)]


def _type(key: str, scope: Any) -> str:
    if key == "length":
        return _SAME_KEY["length", "local" if scope == "local" else "global"]
    return _OTHER_KEY.get(key, key)


def _checked(
    number: int, text: str, found: list[tuple[str, dict[str, Any]]], bad: Counter[str], *, original: bool
) -> list[tuple[Any, ...]]:
    good = []
    for name, entry in found:
        kind = _fault(name, entry, text, original=original)
        if kind:
            bad[kind] += 1
        else:
            good.append((name, entry))
    without = _without_positions(good, bad, original=original)
    result = []
    for index, (name, entry) in enumerate(good):
        if without.get(index):
            bad[without[index]] += 1
            continue
        is_local = entry["type"] == "local"
        span = [int(entry[key]) if is_local else -1 for key in _SPAN]
        has = is_local and index not in without
        orders = [int(entry[key]) if has else -1 for key in _ORDERS]
        attributes = _attributes(entry.get("html_attrs")) if name == "html" else ()
        value = _text(entry["value"], original=original)
        result.append((name, value, number, *span, *orders, attributes or ()))
    return result


def _without_crossing(listed: list[tuple[Any, ...]], bad: Counter[str], most: int) -> list[tuple[Any, ...]]:
    """The entries of a document without those that begin inside too many others which end before they do."""
    spans = {index: one[3:5] for index, one in enumerate(listed) if one[3] >= 0 and one[0] not in _ON_ONE_SIDE}
    kept: dict[int, tuple[int, int]] = {}
    for index, (start, end) in sorted(spans.items(), key=lambda one: (one[1][0], -one[1][1])):
        if sum(other_start < start < other_end < end for other_start, other_end in kept.values()) > most:
            bad["crossing"] += 1
        else:
            kept[index] = (start, end)
    return [one for index, one in enumerate(listed) if index not in spans or index in kept]


def _fault(name: str, entry: dict[str, Any], text: str, *, original: bool) -> str:
    """What is wrong with an entry by itself."""
    scope = entry.get("type")
    if not isinstance(scope, str) or scope not in ("global", "local"):
        return "scope"
    if not original and name in TYPES and TYPES[name].scope != scope:
        return "scope"
    value = _text(entry.get("value"), original=original)
    if value is None or (name == "timestamp" and scope == "global" and parse_timestamp(value) is None):
        return "value"
    if name == "html" and entry.get("html_attrs") is not None and _attributes(entry["html_attrs"]) is None:
        return "attributes"
    if scope == "local":
        start, end = (_whole(entry.get(key)) for key in _SPAN)
        if start is None or end is None or not 0 <= start <= end <= len(text):
            return "span"
    return ""


def _without_positions(good: list[tuple[str, dict[str, Any]]], bad: Counter[str], *, original: bool) -> dict[int, str]:
    """The entries without positions, and the kind of fault of those that should have them."""
    result: dict[int, str] = {}
    of_type: dict[str, list[int]] = {}
    for index, (name, entry) in enumerate(good):
        if entry["type"] == "local":
            of_type.setdefault(name, []).append(index)
    for name, indices in of_type.items():
        entries = {index: good[index][1] for index in indices}
        if original and entries[indices[0]].get(_ORDERS[0]) is None:
            result |= dict.fromkeys(indices, "")
            continue
        both, neither = [], []
        for index in indices:
            orders = [entries[index].get(key) for key in _ORDERS]
            if orders == [None, None]:
                neither.append(index)
            elif any(_whole(order) is None or _whole(order) < 0 for order in orders):  # type: ignore[operator]
                result[index] = "order"
            else:
                both.append(index)
        result |= dict.fromkeys(neither, "order" if both else "")
        tags = {index: tuple(int(entries[index][key]) for key in (*_SPAN, *_ORDERS)) for index in both}
        result |= _faults_of_tags(tags, nest=not original and name not in _ON_ONE_SIDE)
    return result


def _faults_of_tags(tags: dict[int, tuple[int, ...]], *, nest: bool) -> dict[int, str]:
    result: dict[int, str] = {}
    taken: set[tuple[int, int]] = set()
    for index, (start, end, first, last) in tags.items():
        for place in ((start, first), (end, last)):
            if place in taken:
                result[index] = "order"
            taken.add(place)
        if start == end and first > last:
            result[index] = "order"
    if not nest:
        return result
    left = {index: tag for index, tag in tags.items() if index not in result}
    events = [((start, first), True, index) for index, (start, _, first, _) in left.items()]
    events += [((end, last), False, index) for index, (_, end, _, last) in left.items()]
    stack: list[int] = []
    for _, opens, index in sorted(events):
        if opens:
            stack.append(index)
        elif index in stack:
            while (top := stack.pop()) != index:
                result[top] = "nesting"
    return result


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 - 2**63 < value < 2**63:
        return None
    return value


def _text(value: Any, *, original: bool) -> str | None:
    if isinstance(value, bool):
        return str(value) if original else str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, (int, datetime.date, datetime.time, decimal.Decimal)):
        return str(value)
    return value if isinstance(value, str) and _is_unicode(value) else None


def _attributes(value: Any) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(value, dict):
        return None
    names = [] if value.get("attrs") is None else value["attrs"]
    values = [] if value.get("values") is None else value["values"]
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return None
    pairs = []
    for name, one in zip(names, values, strict=True):
        text = "" if one is None else _text(one, original=False)
        if not isinstance(name, str) or text is None or not _is_unicode(name):
            return None
        pairs.append((name, text))
    return tuple(pairs)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
