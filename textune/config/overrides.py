"""`key=value` words of the command line, gathered into one tree before they are merged, so that their order does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textune.config.fields import annotations_at, bare, is_text_only
from textune.config.problems import Problem
from textune.config.toml import format_key, parse_key, parse_value, shorten

COMMAND_LINE = "command line"


def gather(overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """One tree of all overrides; of two for the same key the later counts. Values stay text unless the key takes more."""
    tree: dict[str, Any] = {}
    problems: list[Problem] = []
    for number, override in enumerate(overrides):
        fallback = ("override", number)
        name, equals, text = override.partition("=")
        if not equals:
            hint = "Write it as key=value, such as train.optimizer.lr=3e-5."
            problems.append(Problem(fallback, f"The override {shorten(override)} has no `=`.", hint))
            continue
        try:
            place = parse_key(name.strip())
            override.encode()
        except ValueError:
            problems.append(Problem(fallback, f"The override {shorten(override)!r} does not start with a dotted key."))
            continue
        try:
            value = _value(place, text.strip() if name.endswith(" ") else text)
        except ValueError as error:
            hint = """In a shell, put single quotes around the whole word, as in 'data.labels.names=["no", "yes"]'."""
            reason = str(error).partition(" (at ")[0]
            problems.append(
                Problem(place, f"{shorten(override)} ({COMMAND_LINE}) is not a TOML list or table: {reason}.", hint)
            )
            continue
        problem = _put(tree, place, value)
        if problem:
            problems.append(problem)
    return tree, problems


def parse_unset(keys: Sequence[str], tree: dict[str, Any]) -> tuple[list[tuple[str, ...]], list[Problem]]:
    """The places of `--unset`; a key that the overrides also set is a problem."""
    places: list[tuple[str, ...]] = []
    problems: list[Problem] = []
    for number, key in enumerate(keys):
        try:
            place = parse_key(key.strip())
        except ValueError:
            problems.append(Problem(("unset", number), f"--unset {shorten(key)!r} is not a dotted key."))
            continue
        value: Any = tree
        for part in place:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            problems.append(Problem(place, f"{format_key(*place)} is both set and unset on the command line."))
        else:
            places.append(place)
    return places, problems


def _value(place: tuple[str, ...], text: str) -> object:
    annotations = annotations_at(place)
    if text.lstrip()[:1] in ("[", "{") and not (annotations and all(is_text_only(each) for each in annotations)):
        return parse_value(text)
    return _scalar(text) if any(bare(each) is Any for each in annotations) else text


def _scalar(text: str) -> object:
    """A number, a truth value or quoted text where it is one; dates, `nan` and all else stay text."""
    try:
        value = parse_value(text)
    except ValueError:
        return text
    kept = isinstance(value, bool | int | str) or (
        isinstance(value, float) and text.strip().lower().lstrip("+-")[:1] not in "ni"
    )
    return value if kept else text


def _put(tree: dict[str, Any], place: tuple[str, ...], value: object) -> Problem | None:
    table = tree
    for length, part in enumerate(place[:-1], start=1):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            key = format_key(*place[:length])
            return Problem(
                place, f"{key} and {format_key(*place)} are both set on the command line, as a value and as a table."
            )
        table = inner
    last = place[-1]
    if isinstance(value, dict) and isinstance(table.get(last), dict):
        problems = [_put(table, (last, name), entry) for name, entry in value.items()]
        return next((problem for problem in problems if problem), None)
    if isinstance(table.get(last), dict):
        return Problem(place, f"{format_key(*place)} is set twice on the command line, as a value and as a table.")
    table[last] = value
    return None
