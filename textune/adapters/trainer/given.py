"""The values of TrainingArguments that somebody gave, checked, each with where it was set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from textune.adapters.foreign import LeftOut
from textune.adapters.shown import shown
from textune.adapters.trainer.fields import FIELDS
from textune.adapters.trainer.older import OLDER
from textune.config import Problem, parse_key, refuse
from textune.wording import nearest


@dataclass
class Values:
    """Every argument, with its default where nobody gave one."""

    where: Callable[[str], str]
    values: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)
    """Those that were given, with the name they were given by."""
    written: dict[str, object] = field(default_factory=dict)
    """What those that were given by an older name had there."""
    own: frozenset[str] = frozenset()
    """Those with another default than TrainingArguments has."""
    called: Mapping[str, str] = field(default_factory=dict)
    """Names of the other system, where they are others than those of TrainingArguments."""
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def given(self, key: str) -> bool:
        """Whether somebody set it."""
        return key in self.names

    def origin(self, *keys: str) -> str:
        """What a line of ours was made of, such as `learning_rate = 2e-05 (config.toml, line 12)`."""
        return ", ".join(self._origin(key) for key in keys)

    def _origin(self, key: str) -> str:
        if not self.given(key):
            whose = "its default" if key in self.own else "default of TrainingArguments"
            return f"{self.called.get(key, key)} = {shown(self[key])} ({whose})"
        name = self.names[key]
        return f"{self.called.get(name, name)} = {shown(self.written.get(key, self[key]))} ({self.where(name)})"

    def problem(self, key: str, reason: str, hint: str = "") -> Problem:
        """What is wrong with a value, with its name and place."""
        name = self.names.get(key, key)
        called = self.called.get(name, name)
        place = self.where(name) if self.given(key) else ""
        return Problem(parse_key(called), f"{self.origin(key)}: {reason}", hint, value=self[key], origin=place)

    def refuse(self, key: str, reason: str, hint: str = "") -> NoReturn:
        """Raise the ConfigError for a value."""
        refuse([self.problem(key, reason, hint)])
        raise AssertionError("a problem is always refused")

    def leave_out(self, key: str, reason: str) -> None:
        """Say that a value that was given changes nothing."""
        if self.given(key):
            name = self.names[key]
            self.left_out.append(LeftOut(self.called.get(name, name), reason))


def read_values(
    given: Mapping[str, object],
    where: Callable[[str], str],
    defaults: Mapping[str, object],
    called: Mapping[str, str],
) -> Values:
    """The values of today's fields; ConfigError lists every unknown name and wrong value."""
    usual = {name: known.default for name, known in FIELDS.items()} | dict(defaults)
    values = Values(where, usual, own=frozenset(defaults), called=called)
    problems: list[Problem] = []
    for name, value in given.items():
        problems += _take(values, name, value, given)
    refuse(problems)
    for name in values.names:
        known = FIELDS[name]
        if known.refused and values[name] not in (known.default, *known.harmless):
            problems.append(values.problem(name, "it cannot be done here.", known.refused))
    refuse(problems)
    return values


def _take(values: Values, name: str, value: object, given: Mapping[str, object]) -> list[Problem]:
    """Put one value in its place; what is wrong with it."""
    older = OLDER.get(name)
    known = older or FIELDS.get(name)
    place, called = values.where(name), values.called.get(name, name)
    if known is None:
        close = nearest(name, [*FIELDS, *OLDER])
        hint = f"Did you mean {close}?" if close else "TrainingArguments has no such field: leave it out."
        return [Problem(parse_key(name), f"Unknown key {name} ({place}).", hint, value=value, origin=place)]
    found, reason = checked(known.takes, value)
    if reason:
        message = f"{called} = {shown(value)} ({place}) cannot be used: {reason}."
        return [Problem(parse_key(name), message, value=value, origin=place)]
    if older is None:
        if name not in values.names or values.names[name] == name:
            values.values[name], values.names[name] = found, name
            _note_unused(values, name)
        return []
    if older.refused:
        if not found:
            values.left_out.append(LeftOut(name, "it is off"))
            return []
        message = f"{called} = {shown(value)} ({place}) cannot be done here."
        return [Problem(parse_key(name), message, older.refused, value=value, origin=place)]
    if older.unused:
        values.left_out.append(LeftOut(name, older.unused))
        return []
    if _today_counts(older.name, found, given):
        values.left_out.append(LeftOut(name, f"{older.name} is given too, or it is off"))
        return []
    values.values[older.name], values.names[older.name] = older.value(found), name
    values.written[older.name] = found
    _note_unused(values, older.name)
    return []


def checked(takes: Any, value: object) -> tuple[Any, str]:
    """The value as the type has it, and what is wrong with it, if anything: neither infinity nor true is a number."""
    kinds = get_args(takes) if get_origin(takes) in (UnionType, Union) else (takes,)
    if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
        return None, "a number was expected"
    try:
        return TypeAdapter(takes, config=ConfigDict(allow_inf_nan=False)).validate_python(value), ""
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return None, f"{reason[0].lower()}{reason[1:]}"


def _today_counts(today: str, found: object, given: Mapping[str, object]) -> bool:
    """Whether the name of today decides beside an older one: where both are given, or the older one is unset."""
    if today in given and given[today] not in (None, 0, "0", "0.0"):
        return True
    return found is None or (found is False and today != "accelerator_config") or found == 0


def _note_unused(values: Values, name: str) -> None:
    if FIELDS[name].unused:
        values.leave_out(name, FIELDS[name].unused)
