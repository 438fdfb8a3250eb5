"""A YAML file as a tree, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from textune.errors import ConfigError

Place = tuple[str, ...]

_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""A number as `5e-5`, which YAML 1.1 reads as text; OmegaConf, which reads these files elsewhere, does not."""


_PACKAGE = re.compile(r"(?:\s*(?:#(?! *@package).*)?\n)*# *@package +(\S+)")


@dataclass(frozen=True)
class YamlFile:
    """A YAML file that holds a mapping."""

    path: Path
    tree: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    """The line of each key, from 1."""
    package: str = ""
    """Where its values go, if its first lines say so (`# @package NAME`)."""

    def place(self, key: Place) -> str:
        """Where a key stands, such as `v2.yaml, line 12`."""
        known = self.lines.get(key)
        return self.path.name if known is None else f"{self.path.name}, line {known}"


def read_yaml(path: Path) -> YamlFile:
    """The mapping of a YAML file.

    ConfigError, with the line where there is one, for a file that is missing, not YAML or not a mapping, that has a
    key twice.
    """
    shown = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ConfigError(f"{shown}: {what}.", place=shown, reason=what) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown} is not UTF-8 text.", hint="Save it as UTF-8.", place=shown) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = shown if mark is None else f"{shown}, line {mark.line + 1}, column {mark.column + 1}"
        reason = getattr(error, "problem", None) or "it cannot be read as YAML"
        raise ConfigError(f"{place}: {reason}.", place=place, reason=reason) from None
    except RecursionError:
        raise ConfigError(f"{shown} is nested too deeply.", place=shown) from None
    if tree is None:
        return YamlFile(path, {}, package=_package(text))
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{shown} does not hold a mapping of keys to values.", place=shown)
    lines: dict[Place, int] = {}
    _note_lines(node, (), lines, shown, set())
    return YamlFile(path, {str(key): plain(value) for key, value in tree.items()}, lines, _package(text))


def _package(text: str) -> str:
    """What the comment before the first key says."""
    found = _PACKAGE.match(text)
    return found[1] if found else ""


def plain(value: Any) -> Any:
    """The value with numbers such as `5e-5` as numbers, and names as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value


def _note_lines(node: yaml.Node, place: Place, lines: dict[Place, int], shown: str, seen: set[int]) -> None:
    """The lines of all keys in a mapping; a node that is referred to again is read once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _note_lines(item, (*place, str(number)), lines, shown, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here, line = (*place, str(key.value)), key.start_mark.line + 1
        if here in lines:
            name = ".".join(here)
            where = f"{shown}, line {line}"
            raise ConfigError(
                f"{where}: {name} is already set in line {lines[here]}.", hint="Keep one.", key=name, place=where
            )
        lines[here] = line
        _note_lines(value, here, lines, shown, seen)
