"""The values of a run of bsmetadata, each with where it was set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from textune.adapters.bsmetadata.keys import KEYS
from textune.adapters.hydra import Composed, compose
from textune.adapters.shown import shown
from textune.config import Problem, parse_key, refuse
from textune.wording import nearest

DEFAULT = "default"


@dataclass(frozen=True)
class Given:
    """One value."""

    key: str
    value: Any
    place: str
    """Such as `v2.yaml, line 12`, `command line` or `default`."""

    @property
    def said(self) -> str:
        """The key, the value and the place, as a sentence names them."""
        return f"{self.short} ({self.place})"

    @property
    def short(self) -> str:
        """The last part of the key, and the value."""
        return f"{self.key.rpartition('.')[2]} = {shown(self.value)}"

    @property
    def is_default(self) -> bool:
        """Whether nobody set it."""
        return self.place == DEFAULT


@dataclass(frozen=True)
class Settings:
    """All values by dotted key, those of the Hydra configuration's dataclasses where nobody set one."""

    values: Mapping[str, Given]
    files: tuple[Path, ...] = ()
    of_hydra: tuple[str, ...] = ()
    """Words and keys about Hydra itself."""

    def __getitem__(self, key: str) -> Any:
        return self.values[key].value

    def given(self, key: str) -> Given:
        """The value with its place."""
        return self.values[key]

    def origin(self, *keys: str) -> str:
        """What a line of ours was made of, such as `max_train_steps = 100000`."""
        return ", ".join(
            self.values[key].short + (" (its default)" if self.values[key].is_default else "") for key in keys
        )


def read_settings(file: Path | None, words: Iterable[str]) -> Settings:
    """The values of a YAML file and of words that override it; ConfigError lists every unknown key and wrong value."""
    composed = compose(file, words)
    problems: list[Problem] = []
    values: dict[str, Given] = {}
    found = dict(_flat(composed.tree, composed, problems))
    for key, known in KEYS.items():
        if key not in found:
            values[key] = Given(key, known.default, DEFAULT)
            continue
        value, place = found[key]
        try:
            values[key] = Given(key, TypeAdapter(known.takes).validate_python(value), place)
        except ValidationError as error:
            values[key] = Given(key, known.default, DEFAULT)
            reason = error.errors()[0]["msg"]
            message = f"{key} = {shown(value)} ({place}) cannot be used: {reason[0].lower()}{reason[1:]}."
            problems.append(Problem(parse_key(key), message, value=value, origin=place))
    refuse(problems)
    return Settings(values, tuple(composed.files), tuple(composed.of_hydra))


def _flat(
    tree: Mapping[str, Any], composed: Composed, problems: list[Problem], above: tuple[str, ...] = ()
) -> Iterable[tuple[str, tuple[Any, str]]]:
    """Each known key with its value and place; unknown ones become problems."""
    for name, value in tree.items():
        place = (*above, name)
        key = ".".join(place)
        if key in KEYS:
            yield key, (value, _place(place, composed))
        elif any(known.startswith(f"{key}.") for known in KEYS) and isinstance(value, Mapping | None):
            yield from _flat(value or {}, composed, problems, place)
        elif any(known.startswith(f"{key}.") for known in KEYS):
            message = f"{key} = {shown(value)} ({_place(place, composed)}): expected a mapping of keys to values."
            problems.append(Problem(place, message, value=value, origin=_place(place, composed)))
        else:
            problems.append(_unknown(key, value, _place(place, composed)))


def _place(key: tuple[str, ...], composed: Composed) -> str:
    """Where a key, or the first in its table, was set."""
    return next((place for known, place in composed.places.items() if known[: len(key)] == key), "")


def _unknown(key: str, value: object, place: str) -> Problem:
    name = key.rpartition(".")[2]
    elsewhere = [known for known in KEYS if known.rpartition(".")[2] == name]
    close = elsewhere[0] if elsewhere else nearest(key, KEYS, cutoff=0.75)
    if close is None:
        near = nearest(name, [known.rpartition(".")[2] for known in KEYS])
        close = next((known for known in KEYS if near is not None and known.rpartition(".")[2] == near), None)
    hint = f"Did you mean {close}?" if close else "bsmetadata has no such key: leave it out."
    return Problem(parse_key(key), f"Unknown key {key} ({place}).", hint, value=value, origin=place)
