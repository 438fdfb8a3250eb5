"""A config file as tables, by its name: TOML, or the same keys as JSON or YAML."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textune.config.toml import Tree, read_text, read_toml
from textune.errors import ConfigError

CONFIG_SUFFIXES = (".toml", ".json", ".yaml", ".yml")
"""Of config files; one of another name is read as TOML."""


def read_tree(path: Path, *, shown: str) -> Tree:
    """The tables of a config file; `shown` is its name in messages.

    Raises ConfigError, with the line where there is one, if it is missing, a folder, unreadable, not of its kind, or
    has a key twice.
    """
    reader = {".json": _from_json, ".yaml": _from_yaml, ".yml": _from_yaml}.get(path.suffix.lower())
    return read_toml(path, shown=shown) if reader is None else _read(path, shown, reader)


def _read(path: Path, shown: str, reader: Callable[[str, str], Any]) -> Tree:
    try:
        tree = reader(read_text(path, shown=shown), shown)
    except RecursionError:
        raise ConfigError(f"{shown}: lists or tables are nested too deeply.", place=shown) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else "a single value"
        raise ConfigError(
            f"{shown} holds {what}, not tables of keys.",
            hint=f"If this is data, `textune init {shown} --out config.toml` writes a config for it.",
            place=shown,
            reason=f"{what}, not tables of keys",
        )
    return tree


def _from_json(text: str, shown: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            raise _Twice(next(name for name in names if names.count(name) > 1))
        return table

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"{shown}, line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{place}: this is not JSON: {error.msg}.", place=place, reason=error.msg) from None
    except _Twice as twice:
        _refuse_twice_in_json(text, shown)
        raise ConfigError(
            f"{shown}: the key {twice} is there twice.", hint="Keep one.", key=str(twice), place=shown
        ) from None


class _Twice(Exception):
    """A key that an object of JSON has twice; the standard library does not say where."""


def _refuse_twice_in_json(text: str, shown: str) -> None:
    """ConfigError with both lines: nearly all JSON is YAML, which knows them; without an error, this one is not."""
    import yaml

    with contextlib.suppress(yaml.YAMLError):
        _check_keys(yaml.SafeLoader(text.replace("\t", " ")).get_single_node(), shown, set())


def _from_yaml(text: str, shown: str) -> Any:
    """Plain values as YAML 1.2 has them: `on` and `no` are text, `5e-5` is a number. A key is text, as it is written,
    and stands once."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        loader.yaml_implicit_resolvers = {None: [(f"tag:yaml.org,2002:{name}", form) for name, form in _PLAIN.items()]}
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node, shown, set())
        return loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        place = f"{shown}, line {text.count(chr(10), 0, error.position) + 1}"
        reason = f"the character U+{error.character:04X} may not be in a YAML file"
        raise ConfigError(f"{place}: {reason}.", hint="Remove it.", place=place, reason=reason) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = shown if mark is None else f"{shown}, line {mark.line + 1}, column {mark.column + 1}"
        reason = getattr(error, "problem", None) or "it cannot be read as YAML"
        raise ConfigError(f"{place}: {reason}.", place=place, reason=reason) from None
    except ValueError as error:
        raise ConfigError(f"{shown}: {error}.", place=shown, reason=str(error)) from None


def _check_keys(node: Any, shown: str, seen: set[int]) -> None:
    """Make each key text; ConfigError where a mapping has a key twice, and for a tag that TOML and JSON have nothing
    for. A node that is referred to again is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.tag not in _TAGS:
        place = f"{shown}, line {node.start_mark.line + 1}"
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise ConfigError(f"{place}: the tag {tag} is not known here.", hint="Leave it out.", key=tag, place=place)
    if isinstance(node.value, str):
        return
    lines: dict[str, int] = {}
    for child in node.value:
        if isinstance(child, tuple):
            _check_key(child[0], shown, lines)
        _check_keys(child[1] if isinstance(child, tuple) else child, shown, seen)


def _check_key(key: Any, shown: str, lines: dict[str, int]) -> None:
    """One key of a mapping, whose keys so far stand in these lines."""
    line = key.start_mark.line + 1
    place = f"{shown}, line {line}"
    if not isinstance(key.value, str):
        raise ConfigError(f"{place}: a list or a table cannot be a key.", place=place, reason="a key that is no text")
    if key.value in lines:
        raise ConfigError(
            f"{place}: {key.value} is already set in line {lines[key.value]}.",
            hint="Keep one.",
            key=key.value,
            place=place,
        )
    lines[key.value] = line
    if key.tag != _MERGE:
        key.tag = _TEXT


_TEXT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge"))
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
"""What a value may be: what TOML and JSON have, too."""
_PLAIN = {
    "null": re.compile(r"(~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"([-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(
        r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
    ),
    "merge": re.compile(r"<<\Z"),
}
"""What text without quotes stands for besides itself."""
