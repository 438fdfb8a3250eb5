"""Words of a command line, such as `--key value --key=value --flag --no_flag`, or one JSON file with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from textune.config import Problem, parse_key, refuse
from textune.errors import ConfigError
from textune.jsontext import parse_json
from textune.wording import nearest


@dataclass(frozen=True)
class Flags:
    """The values that words or a file gave, as text unless a file has them typed."""

    values: Mapping[str, object]
    places: Mapping[str, str]
    source: tuple[str, ...]
    kept: Mapping[str, str]
    """The file that was read, by its name."""

    def where(self, key: str) -> str:
        """Such as `--learning_rate`, or `args.json, line 3`."""
        return self.places.get(key, f"--{key}")


def read_words(words: Iterable[str], takes: Mapping[str, Any], *, program: str) -> Flags:
    """The flags of a program by name.

    `takes`: the type of each; one that takes true or false may stand alone or as `--no_NAME`, one that takes a list
    has several words. Dashes in names are underscores. Raises a ConfigError for an unknown flag (with the nearest
    one), a flag without its value, and for words that belong to none.
    """
    words = tuple(words)
    if len(words) == 1 and words[0].lower().endswith(".json"):
        return _read_file(Path(words[0]), takes, program)
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for word, name, given in _flags(words):
        problem = _take(values, word, name, given, takes, program)
        problems += [problem] if problem is not None else []
    refuse(problems)
    return Flags(values, {name: f"--{name}" for name in values}, tuple(_without_secrets(words, values)), {})


def _flags(words: tuple[str, ...]) -> list[tuple[str, str, list[str]]]:
    """Each flag as written, its name, and the words up to the next one."""
    found: list[tuple[str, str, list[str]]] = []
    for word in words:
        if re.match(r"--[A-Za-z]", word):
            written, equals, value = word.partition("=")
            found.append((written, written[2:].replace("-", "_"), [value] if equals else []))
        elif found:
            found[-1][2].append(word)
        else:
            message = f"{word} is no flag."
            raise ConfigError(message, hint="Flags are written --key value.", value=word, reason="it is no flag")
    return found


def _take(
    values: dict[str, object], word: str, name: str, given: list[str], takes: Mapping[str, Any], program: str
) -> Problem | None:
    negated = name.removeprefix("no_") if name.startswith("no_") and name not in takes else ""
    if negated in takes and _is_switch(takes[negated]) and not given:
        values[negated] = False
        return None
    if name not in takes:
        close = nearest(name, takes)
        hint = f"Did you mean --{close}?" if close else f"{program} has no such flag: leave it out."
        return Problem(parse_key(name), f"Unknown flag {word}.", hint, value=" ".join(given), origin=word)
    if not given and not _is_switch(takes[name]):
        return Problem(parse_key(name), f"{word} has no value.", f"Write {word} VALUE.", origin=word)
    if len(given) > 1 and not _is_list(takes[name]):
        message = f"{word} takes one value; {given[1]} belongs to no flag."
        return Problem(parse_key(name), message, "Quote a value that has spaces in it.", value=given[1], origin=word)
    values[name] = True if not given else given if len(given) > 1 else given[0]
    return None


def _kinds(takes: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return get_args(takes) if get_origin(takes) in (UnionType, Union) else (takes,)


def _is_switch(takes: Any) -> bool:
    return bool in _kinds(takes)


def _is_list(takes: Any) -> bool:
    return any((get_origin(kind) or kind) is list for kind in _kinds(takes))


_SECRET = ("token", "hub_token", "use_auth_token", "push_to_hub_token")
"""Flags whose values are written nowhere."""


def _without_secrets(texts: Iterable[str], values: Mapping[str, object]) -> list[str]:
    """The texts with three dots for the value of each token."""
    secrets = [str(values[name]) for name in _SECRET if isinstance(values.get(name), str)]
    found = list(texts)
    for secret in filter(None, secrets):
        found = [text.replace(secret, "...") for text in found]
    return found


def _read_file(file: Path, takes: Mapping[str, Any], program: str) -> Flags:
    """A JSON object of flags."""
    try:
        text = file.expanduser().read_text(encoding="utf-8")
        found = parse_json(text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", place=str(file)) from error
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError) as error:
        raise ConfigError(f"{file} is no JSON: {error}.", place=str(file), reason=str(error)) from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"{file} holds no object of flags.", hint='Such as {"learning_rate": 2e-5}.', place=str(file)
        )
    places = {key: _place(file, text, key) for key in found}
    problems = []
    for key in found:
        if key not in takes:
            close = nearest(key, takes)
            hint = f"Did you mean {close}?" if close else f"{program} has no such flag: leave it out."
            message = f"Unknown key {key} ({places[key]})."
            problems.append(Problem(parse_key(key), message, hint, value=found[key], origin=places[key]))
    refuse(problems)
    return Flags(found, places, (str(file),), {file.name: _without_secrets([text], found)[0]})


def _place(file: Path, text: str, key: str) -> str:
    at = text.find(json.dumps(key, ensure_ascii=False, allow_nan=False))
    return str(file) if at < 0 else f"{file}, line {text.count(chr(10), 0, at) + 1}"
