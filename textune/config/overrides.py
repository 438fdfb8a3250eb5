"""Gathers overrides, given as `key=value` words or as a dictionary, into one tree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from textune.config.fields import annotations_at, bare, is_text_only, variants
from textune.config.problems import Problem
from textune.config.toml import Tree, format_key, format_value, parse_key, parse_value, shorten
from textune.errors import ConfigError

COMMAND_LINE = "command line"
EXTENDS = "extends"
OVERRIDES = "overrides"

Overrides: TypeAlias = Iterable[str] | Mapping[str, object]
"""`key=value` words; or values by dotted key, nested or not."""


def listed(name: str, words: Iterable[str]) -> tuple[str, ...]:
    """The words of a Python argument that takes a list; ConfigError for a string, which would be
    split into letters.
    """
    if isinstance(words, str):
        raise ConfigError(
            f"{name} = {shorten(words)!r} is a single string.",
            hint=f"Put it in a list: {name}=[{shorten(words)!r}].",
            key=name,
            value=words,
        )
    if not isinstance(words, Iterable):
        raise ConfigError(f"{name} = {shorten(repr(words))} is not a list of words.", key=name, value=words)
    return tuple(words)


def override_words(overrides: Overrides) -> tuple[str, ...]:
    """Overrides in either form as `key=value` words, for a command line. ConfigError for None, which no word says."""
    if not isinstance(overrides, Mapping):
        return listed("overrides", overrides)
    words = []
    for key, value in overrides.items():
        if value is None:
            raise ConfigError(
                f"overrides[{key!r}] is None.", hint=f"Unset the key instead: unset=[{key!r}].", key=str(key)
            )
        words.append(f"{key}={value if isinstance(value, str) else format_value(value)}")
    return tuple(words)


def gather(overrides: Overrides) -> tuple[Tree, list[Problem]]:
    """One tree of all overrides; the last one for a key wins. Words stay text unless the key takes more."""
    if isinstance(overrides, Mapping):
        return _gather_values(overrides)
    tree: Tree = {}
    problems: list[Problem] = []
    for number, override in enumerate(listed("overrides", overrides)):
        fallback = ("override", number)
        if not isinstance(override, str):
            raise ConfigError(
                f"overrides[{number}] is {shorten(repr(override))}, not text.",
                hint=_WORDS,
                key=f"overrides[{number}]",
                value=override,
            )
        name, equals, text = override.partition("=")
        if not equals:
            problems.append(_no_equals(fallback, override))
            continue
        try:
            place = parse_key(name.strip())
            override.encode()
        except ValueError:
            message = f"The override {shorten(override)!r} does not start with a dotted key."
            parts = [part.strip() for part in name.split(".") if part.strip()]
            try:
                meant = format_key(*parse_key(".".join(parts)))
            except ValueError:
                hint = "Settings are written KEY=VALUE, such as train.seed=3."
            else:
                hint = f"One dot is between two names: {meant}=..." if meant != name.strip() else ""
            problems.append(Problem(fallback, message, hint))
            continue
        try:
            value = _value(place, text.strip() if name.endswith(" ") else text)
        except ValueError as error:
            hint = """In a shell, put single quotes around the whole word, as in 'data.labels.names=["no", "yes"]'."""
            reason = str(error).partition(" (at ")[0]
            what = "a TOML list or table"
            if _QUOTED.fullmatch(text):
                what, hint = (
                    "valid quoted text",
                    "Leave the inner quotes out, or use single quotes around backslashes.",
                )
            problems.append(Problem(place, f"{shorten(override)} ({COMMAND_LINE}) is not {what}: {reason}.", hint))
            continue
        if place == (EXTENDS,):  # several words add up, since one would hide what another asks for
            value = [*tree.get(EXTENDS, []), *(value if isinstance(value, list) else [value])]
        problem = _put(tree, place, value)
        if problem:
            problems.append(problem)
    return tree, problems


def parse_unset(keys: Iterable[str], tree: Tree) -> tuple[list[tuple[str, ...]], list[Problem]]:
    """The places of `--unset`; a key that the overrides also set is a problem."""
    places: list[tuple[str, ...]] = []
    problems: list[Problem] = []
    for number, key in enumerate(listed("unset", keys)):
        try:
            place = parse_key(key.strip())
        except ValueError:
            problems.append(Problem(("unset", number), f"--unset {shorten(key)!r} is not a dotted key."))
            continue
        value: object = tree
        for part in place:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, dict):
            problems.append(Problem(place, f"{format_key(*place)} is both set and unset on the command line."))
        else:
            places.append(place)
    return places, problems


_QUOTED = re.compile(r""" *("[^"]*"|'[^']*') *""")
_WORDS = """Write overrides=["train.seed=1"] or overrides={"train.seed": 1}."""


def _gather_values(overrides: Mapping[str, object]) -> tuple[Tree, list[Problem]]:
    tree: Tree = {}
    problems: list[Problem | None] = []
    for number, (key, value) in enumerate(overrides.items()):
        try:
            place = parse_key(key)
        except (ValueError, AttributeError, TypeError):
            problems.append(
                Problem(("override", number), f"The override {shorten(repr(key))} is not a dotted key.", _WORDS)
            )
            continue
        if isinstance(value, Mapping) and annotations_at(place) and any(map(variants, annotations_at(place))):
            inner, found = _gather_values(value)  # a section: its keys may be dotted too
            problems += found
            problems += [_put(tree, (*place, name), entry) for name, entry in inner.items()]
        else:
            problems.append(_put(tree, place, value))
    return tree, [problem for problem in problems if problem]


def _no_equals(place: tuple[str, int], word: str) -> Problem:
    if word.lower().endswith(".toml") or os.path.isfile(word):
        message = f"{shorten(word)} is a second file; expected a setting (KEY=VALUE)."
        return Problem(place, message, f"To lay it over the first, write extends={shorten(word)}.")
    hint = "Settings are written KEY=VALUE, such as train.optimizer.lr=3e-5."
    return Problem(place, f"The setting {shorten(word)} has no `=`.", hint)


def _value(place: tuple[str, ...], text: str) -> object:
    annotations = annotations_at(place)
    if _QUOTED.fullmatch(text):  # the shell kept the TOML quotes
        return parse_value(text)
    if text.lstrip()[:1] in ("[", "{") and not (annotations and all(is_text_only(each) for each in annotations)):
        return parse_value(text)
    return _scalar(text) if any(bare(each) is Any for each in annotations) else text


def _scalar(text: str) -> object:
    """The number, boolean or quoted text that is written there; dates, `nan` and everything else stay text."""
    try:
        value = parse_value(text)
    except ValueError:
        return text
    kept = isinstance(value, bool | int | str) or (
        isinstance(value, float) and text.strip().lower().lstrip("+-")[:1] not in "ni"
    )
    return value if kept else text


def _put(tree: Tree, place: tuple[str, ...], value: object) -> Problem | None:
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
