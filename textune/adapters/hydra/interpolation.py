"""`${key}` in the values of a configuration: the value of another key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from textune.adapters.hydra.yamlfile import Place
from textune.errors import ConfigError
from textune.wording import nearest

_REFERENCE = re.compile(r"\$\{\s*([^{}]*?)\s*\}")
MISSING = "???"
"""A value that has to be given."""


def resolve(tree: dict[str, Any], places: Mapping[Place, str]) -> None:
    """Put the values of other keys where values refer to them, also within a text and in lists.

    ConfigError, with key, value and place, for a reference to a key that is not there, to itself, or to a function.
    """
    _Resolver(tree, places).all_of(tree, ())


class _Resolver:
    def __init__(self, tree: dict[str, Any], places: Mapping[Place, str]) -> None:
        self.tree, self.places = tree, places

    def all_of(self, table: Any, place: Place) -> None:
        """Each value of a table or a list, in place."""
        for name, value in list(table.items() if isinstance(table, dict) else enumerate(table)):
            here = (*place, str(name))
            if isinstance(value, dict | list):
                self.all_of(value, here)
            elif isinstance(value, str) and "${" in value:
                table[name] = self.value(value, here, ())

    def value(self, text: str, place: Place, on_the_way: tuple[Place, ...]) -> Any:
        """What a text with references stands for; one that is nothing but a reference keeps the type of its target."""
        if place in on_the_way:
            raise self.refused(text, place, "it leads back to itself", "Write a value.")
        whole = _REFERENCE.fullmatch(text)
        if whole:
            return self.target(whole[1], text, place, (*on_the_way, place))
        done = _REFERENCE.sub(lambda found: str(self.target(found[1], text, place, (*on_the_way, place))), text)
        if "${" in done:
            raise self.refused(text, place, "its brackets do not match", "Write ${KEY}.")
        return done

    def target(self, name: str, text: str, place: Place, on_the_way: tuple[Place, ...]) -> Any:
        """The value of the key of that name; leading dots are seen from the table of `place`."""
        if ":" in name:
            variable = name.partition(":")[2].partition(",")[0]
            shell = f'"${variable}"' if name.startswith(("oc.env:", "env:")) else "VALUE"
            key = ".".join(place)
            raise self.refused(text, place, "functions are not called here", f"Write the value: {key}={shell}.")
        dots = len(name) - len(name.lstrip("."))
        parts = tuple(name[dots:].replace("[", ".").replace("]", "").split("."))
        whole = (*place[: len(place) - dots], *parts) if dots else parts
        found: Any = self.tree
        for part in whole:
            if isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise self.missing(".".join(whole), text, place)
        if isinstance(found, str) and "${" in found:
            return self.value(found, whole, on_the_way)
        if isinstance(found, dict | list):
            if place[: len(whole)] == whole:
                raise self.refused(text, place, "it is a part of what it refers to", "Write a value.")
            found = deepcopy(found)
            self.all_of(found, whole)
        return found

    def missing(self, name: str, text: str, place: Place) -> ConfigError:
        """There is no key of that name."""
        close = nearest(name, [".".join(key) for key in self.places])
        hint = f"Did you mean ${{{close}}}?" if close else f"Set it: +{name}=VALUE."
        return self.refused(text, place, f"there is no key {name}", hint)

    def refused(self, text: str, place: Place, reason: str, hint: str) -> ConfigError:
        """What is wrong with a reference."""
        key = ".".join(place)
        where = next((known for at, known in self.places.items() if at == place[: len(at)]), "")
        start = f"{where}: " if where else ""
        return ConfigError(
            f"{start}{key} = {text}: {reason}.", hint=hint, key=key, value=text, place=where, reason=reason
        )
