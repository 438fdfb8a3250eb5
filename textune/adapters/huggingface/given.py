"""The flags of a script, checked, each with its default where nobody gave one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from textune.adapters.flags import Flags
from textune.adapters.foreign import LeftOut
from textune.adapters.huggingface.scripts import Script, own_flags
from textune.adapters.shown import shown
from textune.adapters.trainer import checked
from textune.config import Problem, parse_key, refuse


@dataclass(frozen=True)
class Settings:
    """Values of the flags that the script defines itself."""

    script: Script
    flags: Flags
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """The value; None for a flag that this script does not have."""
        return self.values.get(name)

    def given(self, name: str) -> bool:
        """Whether somebody set it."""
        return name in self.flags.values

    def origin(self, name: str) -> str:
        """What a line of ours was made of."""
        place = self.flags.where(name)
        if not self.given(name):
            return f"{name} = {shown(self[name])} (default of {self.script}.py)"
        return f"--{name} {shown(self[name])}" if place == f"--{name}" else f"{name} = {shown(self[name])} ({place})"

    def refuse(self, name: str, reason: str, hint: str = "") -> NoReturn:
        """Raise the ConfigError for a value."""
        place = self.flags.where(name)
        refuse([Problem(parse_key(name), f"{self.origin(name)}: {reason}", hint, value=self[name], origin=place)])
        raise AssertionError("a problem is always refused")

    def unused(self) -> list[LeftOut]:
        """Flags that were given and change nothing here."""
        known = own_flags(self.script)
        return [
            LeftOut(name, known[name].unused) for name in self.flags.values if name in known and known[name].unused
        ]


def read_settings(script: Script, flags: Flags) -> Settings:
    """ConfigError lists every wrong value."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, known in own_flags(script).items():
        values[name] = known.default
        if name in flags.values:
            values[name], reason = checked(known.takes, flags.values[name])
            if reason:
                place, value = flags.where(name), flags.values[name]
                message = f"{name} = {shown(value)} ({place}) cannot be used: {reason}."
                problems.append(Problem(parse_key(name), message, value=value, origin=place))
    refuse(problems)
    return Settings(script, flags, values)
