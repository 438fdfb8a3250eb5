"""The values of one table of specs, each with where it was set; keys and values that do not fit become problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from textune.adapters.trainingwizard.keys import ELSEWHERE, REQUIRED, Key
from textune.adapters.trainingwizard.specfile import Place, SpecFile
from textune.config import Problem, format_key, format_value
from textune.wording import nearest


@dataclass(frozen=True)
class Given:
    """One value."""

    key: str
    """Dotted, from the top of the file."""
    value: Any
    place: str = ""
    """Such as `config.toml, line 12`; empty where it is the default."""

    @property
    def is_default(self) -> bool:
        """Whether nobody set it."""
        return not self.place

    @property
    def short(self) -> str:
        """The last part of the key, and the value."""
        return f"{self.key.rpartition('.')[2]} = {shown(self.value)}"

    @property
    def said(self) -> str:
        """The key, the value and the place, as a sentence names them."""
        return (
            f"{self.key} = {shown(self.value)} ({self.place})" if self.place else f"{self.key} = {shown(self.value)}"
        )

    @property
    def origin(self) -> str:
        """What a line of ours was made of."""
        return f"default of {self.key}" if self.is_default else f"{self.short} ({self.place})"

    def problem(self, reason: str, hint: str = "") -> Problem:
        """Why the value cannot be used."""
        return Problem((self.key,), f"{self.said}: {reason}", hint, value=self.value, origin=self.place)


@dataclass
class Table:
    """All values of a table, those of the defaults where nobody set one."""

    file: SpecFile
    place: Place
    values: Mapping[str, Given] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """Keys beyond those that are known, where the table may have some."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def given(self, name: str) -> Given:
        """The value with its place; also of one of `more`."""
        if name in self.more:
            return given_at(self.file, (*self.place, name), self.more[name])
        return self.values[name]

    def origin(self, *names: str) -> str:
        """What a line of ours was made of, such as `num_labels = 2`."""
        return ", ".join(self.given(name).origin for name in names)

    @property
    def where(self) -> str:
        """Where the table stands."""
        return self.file.place(self.place)


def given_at(file: SpecFile, place: Place, value: Any) -> Given:
    """A value of the file."""
    return Given(format_key(*place), value, file.place(place))


def read_table(
    file: SpecFile,
    place: Place,
    tree: object,
    keys: Mapping[str, Key],
    problems: list[Problem],
    *,
    open_ended: bool = False,
) -> Table:
    """The values of a table that may have these keys; with `open_ended` also others, which are kept aside."""
    table = Table(file, place)
    if not isinstance(tree, Mapping):
        message = f"{format_key(*place)} = {shown(tree)} ({file.place(place)}): expected a table of keys."
        problems.append(Problem(place, message, value=tree, origin=file.place(place)))
        tree = {}
    values: dict[str, Given] = {}
    known = {one for name, key in keys.items() for one in (name, *key.aliases)}
    for name in tree:
        if name in known:
            continue
        if open_ended:
            table.more[name] = tree[name]
        else:
            problems.append(unknown_key(file, (*place, name), tree[name], keys))
    for name, key in keys.items():
        named = next((one for one in (name, *key.aliases) if one in tree), None)
        at = (*place, named or name)
        if named is None:
            if key.default is REQUIRED:
                where = f"[{format_key(*place)}]" if place else "the top of the file"
                message = f"{format_key(*at)} is not set ({file.place(place)}): {where} needs it."
                problems.append(Problem(at, message, key.hint, origin=file.place(place)))
            values[name] = Given(format_key(*at), None if key.default is REQUIRED else key.default)
            continue
        values[name] = given_at(file, at, _checked(file, at, tree[named], key, problems))
    table.values = values
    return table


def _checked(file: SpecFile, at: Place, value: object, key: Key, problems: list[Problem]) -> Any:
    try:
        return TypeAdapter(key.takes).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        reason = f"{reason[0].lower()}{reason[1:]}"
        message = f"{format_key(*at)} = {shown(value)} ({file.place(at)}) cannot be used: {reason}."
        problems.append(Problem(at, message, key.hint, value=value, origin=file.place(at)))
        return key.default if key.default is not REQUIRED else None


def unknown_key(file: SpecFile, at: Place, value: object, keys: Mapping[str, object]) -> Problem:
    """A key that the table may not have; the nearest one, or where it belongs, is the hint."""
    name = at[-1]
    message = f"Unknown key {format_key(*at)} ({file.place(at)})."
    home = ELSEWHERE.get(name)
    close = nearest(name, keys)
    if home is not None and name not in keys and home != ".".join(at[:-1]):
        hint = f"{name} belongs into [{home}]."
    elif close is not None:
        hint = f"Did you mean {format_key(*at[:-1], close)}?"
    else:
        hint = f"It may have: {', '.join(keys)}."
    return Problem(at, message, hint, value=value, origin=file.place(at))


def shown(value: object) -> str:
    """A value as messages write it: short, as TOML has it."""
    if value is None:
        return "none"
    text = format_value(value, one_line=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
