"""The values of a run of torchrecipes, each with where it was set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from textune.adapters.hydra import Composed, compose
from textune.adapters.shown import shown as shown_as_json
from textune.adapters.torchrecipes.keys import KEYS, Key
from textune.config import Problem, parse_key, refuse
from textune.wording import listing, nearest

DEFAULT = "default"
MISSING = "???"


@dataclass(frozen=True)
class Settings:
    """All values by dotted key: those that somebody set, and the defaults of Lightning and of the recipe."""

    values: Mapping[str, Any]
    composed: Composed

    def __getitem__(self, key: str) -> Any:
        """The value of a key of `KEYS`, or of one in an open table of it; None where there is none."""
        if key in self.values:
            return self.values[key]
        found: Any = self.composed.tree
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def table(self, key: str) -> dict[str, Any]:
        """An open table without `_target_`; empty where there is none."""
        found = self[key]
        return {name: value for name, value in found.items() if name != "_target_"} if isinstance(found, dict) else {}

    def target(self, key: str) -> str | None:
        """The class or function that an open table names."""
        found = self[f"{key}._target_"]
        return None if found is None else str(found)

    def place(self, key: str) -> str:
        """Where a key was set, such as `cpu.yaml, line 2` or `command line`."""
        place = tuple(key.split("."))
        known = self.composed.places
        within = next((said for at, said in known.items() if at[: len(place)] == place), None)
        above = next((said for at, said in known.items() if place[: len(at)] == at), None)
        return within or above or DEFAULT

    def is_set(self, key: str) -> bool:
        """Whether somebody set it."""
        return self.place(key) != DEFAULT

    def said(self, key: str) -> str:
        """Key, value and place, as a sentence names them."""
        return f"{key} = {shown(self[key])} ({self.place(key)})"

    def origin(self, *keys: str) -> str:
        """What a line of ours was made of."""
        return ", ".join(
            f"{key} = {shown(self[key])}" + ("" if self.is_set(key) else f" (default of {_whose(key)})")
            for key in keys
        )

    def problem(self, key: str, reason: str, hint: str = "") -> Problem:
        """What is wrong with a value."""
        return Problem(parse_key(key), f"{self.said(key)}: {reason}.", hint, self[key], self.place(key))


def _whose(key: str) -> str:
    return "pytorch_lightning.Trainer" if key.startswith("trainer.") else "torchrecipes"


def read_settings(file: Path | None, words: Iterable[str], folders: Sequence[Path]) -> Settings:
    """The values of a YAML file with its groups and of words; ConfigError lists every unknown key and wrong value."""
    composed = compose(file, words, folders=folders)
    problems = list(_missing(composed.tree, ()))
    found = dict(_known(composed.tree, composed, problems))
    values: dict[str, Any] = {}
    for name, key in KEYS.items():
        values[name] = found.get(name, key.default)
        if name in found and (reason := _wrong(key, found[name])):
            place = Settings(found, composed).place(name)
            message = f"{name} = {shown(found[name])} ({place}): {reason}."
            problems.append(Problem(parse_key(name), message, key.instead, found[name], place))
    refuse(problems)
    return Settings(values, composed)


def _wrong(key: Key, value: object) -> str:
    """Why a value cannot be used; empty where it can."""
    if key.only:
        return "" if any(value == one and type(value) is type(one) for one in key.only) else _cannot(key)
    if isinstance(value, bool) and key.takes in (int, int | None, float | None, int | float | None):
        return "expected a number"
    try:
        TypeAdapter(key.takes).validate_python(value, strict=not _is_float(key))
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        return said[0].lower() + said[1:]
    return ""


def _is_float(key: Key) -> bool:
    return "float" in str(key.takes)


def _cannot(key: Key) -> str:
    told = [shown(one) for one in key.only if one is not None]
    return f"only {listing(told)} can be had here" if told else "this cannot be had here"


def _known(
    tree: Mapping[str, Any], composed: Composed, problems: list[Problem], above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Each known key with its value; unknown ones become problems."""
    for name, value in tree.items():
        key = f"{above}{name}"
        if key in KEYS:
            yield key, value
        elif any(known.startswith(f"{key}.") for known in KEYS) and isinstance(value, Mapping):
            yield from _known(value, composed, problems, f"{key}.")
        elif any(known.startswith(f"{key}.") for known in KEYS):
            place = Settings({}, composed).place(key)
            reason = "there is no such group, and it is a table"
            problems.append(Problem(parse_key(key), f"{key} = {shown(value)} ({place}): {reason}.", "", value, place))
        else:
            problems.append(_unknown(key, value, Settings({}, composed).place(key)))


def _unknown(key: str, value: object, place: str) -> Problem:
    last = key.rpartition(".")[2]
    by_name = {known.rpartition(".")[2]: known for known in KEYS}
    near = by_name.get(last) or nearest(key, KEYS, cutoff=0.75) or by_name.get(nearest(last, by_name) or "")
    hint = f"Did you mean {near}?" if near else "torchrecipes has no such key: leave it out."
    return Problem(parse_key(key), f"Unknown key {key} ({place}).", hint, value, place)


def require_keys(settings: Settings, table: str, known: Iterable[str]) -> None:
    """ConfigError for keys of an open table that its class does not have."""
    known = list(known)
    problems = []
    for name, value in settings.table(table).items():
        if name not in known:
            key = f"{table}.{name}"
            near = nearest(name, known)
            hint = f"Did you mean {table}.{near}?" if near else f"It has {listing(known)}."
            message = f"Unknown key {key} ({settings.place(key)})."
            problems.append(Problem(parse_key(key), message, hint, value, settings.place(key)))
    refuse(problems)


def _missing(tree: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Problem]:
    """Keys that have to be given, and are not."""
    for name, value in tree.items():
        place = (*above, name)
        if isinstance(value, Mapping):
            yield from _missing(value, place)
        elif value == MISSING:
            key = ".".join(place)
            yield Problem(place, f"{key} has no value yet.", f"Give it: {key}=VALUE.", value)


def shown(value: object) -> str:
    """A value as messages write it; text without quotes, as Hydra's words have it."""
    if isinstance(value, str):
        return value if len(value) <= 90 else f"{value[:87]}..."
    return shown_as_json(value)
