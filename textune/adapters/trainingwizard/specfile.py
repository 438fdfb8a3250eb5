"""A file of specs as a tree, with the line of every key: TOML, or JSON."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.config import read_toml
from textune.errors import ConfigError
from textune.jsontext import parse_json

Place = tuple[str, ...]


@dataclass(frozen=True)
class SpecFile:
    """A file that holds a table of keys."""

    path: Path
    tree: dict[str, Any]
    text: str = ""
    lines: dict[Place, int] = field(default_factory=dict)
    """The line of each key, from 1; none where the file is JSON."""

    def place(self, key: Place) -> str:
        """Where a key, or the table that it is in, stands, such as `config.toml, line 12`."""
        for length in range(len(key), 0, -1):
            if (line := self.lines.get(key[:length])) is not None:
                return f"{self.path.name}, line {line}"
        return self.path.name


def read_specs(path: Path) -> SpecFile:
    """The table of a TOML or JSON file.

    ConfigError, with the line where there is one, for a file that is missing, of another kind, or no table.
    """
    shown = str(path)
    if path.suffix.lower() == ".json":
        return _read_json(path, shown)
    if path.suffix.lower() != ".toml":
        raise ConfigError(
            f"{shown} is neither .toml nor .json, which files of training-wizard are.", key="FILE", value=shown
        )
    tree = read_toml(path, shown=shown)
    text = path.read_text(encoding="utf-8-sig")
    return SpecFile(path, tree, text, dict(_lines_of(text)))


def _read_json(path: Path, shown: str) -> SpecFile:
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = parse_json(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{shown} is not UTF-8 text.", hint="Save it as UTF-8.", place=shown) from None
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ConfigError(f"{shown}: {what}.", place=shown, reason=what) from None
    except ValueError as error:
        raise ConfigError(f"{shown} is not JSON: {error}.", place=shown, reason=str(error)) from None
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{shown} does not hold a table of keys.", place=shown)
    return SpecFile(path, dict(tree), text)


def _lines_of(text: str) -> Iterator[tuple[Place, int]]:
    """Each key of a TOML text that can be parsed, with the line where its statement begins."""
    table: Place = ()
    pending: list[str] = []
    begins = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not pending:
            begins = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if line.lstrip().startswith("["):
                table = next(iter(_keys_of(tomllib.loads(line))), ())
                yield table, number
                continue
        pending.append(line)
        try:
            statement = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:  # a list or a text that goes on in the next line
            continue
        pending = []
        for key in _keys_of(statement):
            yield (*table, *key), begins


def _keys_of(tree: Mapping[str, Any]) -> Iterator[Place]:
    """Every key, the innermost first, so that the one of a header is the first."""
    for name, value in tree.items():
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], Mapping) else value
        if isinstance(inner, Mapping):
            yield from ((name, *key) for key in _keys_of(inner))
        yield (name,)
