"""A config file or a preset with all that it builds on: the layers that `load.py` merges, lowest first.

`extends` names a file or a preset, or several: each is laid over those before it, and the file itself over all of
them. One that several layers build on counts once, where it comes first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.config.merge import Origin
from textune.config.overrides import EXTENDS
from textune.config.paths import absolute, user_path
from textune.config.presets import PREFIX, is_preset, preset_like, read_preset
from textune.config.toml import Tree, format_value, printable
from textune.config.trees import read_tree
from textune.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """Values to be merged, and where they were written."""

    table: Tree
    origin: Origin


@dataclass(frozen=True)
class _Source:
    """What `extends` stands in or names: a file, a preset, or the command line."""

    identity: str
    """The same for the same file or preset, however it is written."""
    shown: str
    """Its name in messages."""
    folder: Path
    """Where relative paths in it start; for a preset, that of the file which names it."""
    file: Path | None = None

    def label(self, start: Path) -> str:
        """Its name as an origin of values: files relative to the folder `start`."""
        return self.shown if self.file is None else printable(os.path.relpath(self.file, start))


def read_layers(config: str | os.PathLike[str]) -> tuple[list[Layer], Path | None]:
    """The layers of a config file or a preset, and the file. ConfigError for what is missing, wrong, or circular."""
    if is_preset(config):
        source = _Source(str(config), str(config), Path.cwd())
    else:
        file = Path(os.path.abspath(user_path(config)))
        if not os.path.exists(file) and (hint := _preset_hint(str(config))):
            raise ConfigError(f"{config}: there is no such config file.", hint=hint, place=str(config))
        source = _Source(os.path.realpath(file), str(config), file.parent, file)
    layers: dict[str, Layer] = {}
    _read(source, source.folder, (), layers)
    return list(layers.values()), source.file


def layers_of(table: Tree, origin: Origin) -> list[Layer]:
    """The layers of values that do not come from a file (a dictionary, the command line): theirs come last."""
    table = dict(table)
    source = _Source("", origin.label, origin.folder)
    layers: dict[str, Layer] = {}
    _read_parents(table.pop(EXTENDS, None), (source,), source.folder, layers)
    return [*layers.values(), Layer(table, origin)]


def _read(source: _Source, start: Path, children: Sequence[_Source], layers: dict[str, Layer]) -> None:
    """Add a file or preset to the layers, after what it builds on; `children` lead to it, `start` is for labels."""
    table = read_preset(source.identity) if source.file is None else read_tree(source.file, shown=source.shown)
    table.pop("$schema", None)
    _read_parents(table.pop(EXTENDS, None), (*children, source), start, layers)
    layers[source.identity] = Layer(table, Origin(source.label(start), source.folder))


def _read_parents(value: object, line: Sequence[_Source], start: Path, layers: dict[str, Layer]) -> None:
    if value is None:
        return
    child = line[-1]
    for name in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(name, str) or not name:
            reason = 'expected a file such as "base.toml", a preset such as "preset:tiny", or a list of them'
            raise _refusal(child, value, reason)
        parent = _parent(name, child)
        if any(parent.identity == other.identity for other in line):
            circle = " -> ".join(one.label(start) for one in [*line, parent])
            raise ConfigError(
                f"{child.shown}: extends forms a circle: {circle}.", key=EXTENDS, value=name, place=child.shown
            )
        if parent.identity not in layers:
            _read(parent, start, line, layers)


def _parent(name: str, child: _Source) -> _Source:
    if is_preset(name):
        return _Source(name, name, child.folder)
    file = Path(absolute(name, child.folder))
    if not os.path.exists(file):
        raise _refusal(child, name, f"there is no file {file}", hint=_preset_hint(name))
    beside = os.path.dirname(child.shown) if child.file is not None else ""
    shown = os.path.normpath(os.path.join(beside, os.path.relpath(file, child.folder)))
    return _Source(os.path.realpath(file), shown, file.parent, file)


def _preset_hint(name: str) -> str:
    """What to write if the name of a missing file is that of a preset; empty if it is not."""
    preset = preset_like(name, cutoff=1)
    return f"Did you mean {PREFIX}{preset}?" if preset else ""


def _refusal(child: _Source, value: object, reason: str, *, hint: str = "") -> ConfigError:
    found = format_value(value, one_line=True)
    return ConfigError(
        f"{child.shown}: extends = {found}: {reason}.",
        hint=hint,
        key=EXTENDS,
        value=value,
        place=child.shown,
        reason=reason,
    )
