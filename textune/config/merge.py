"""Merges defaults, files and overrides into one tree, and remembers where each value came from.

Tables merge; lists and single values replace; a table whose `kind` changes is replaced as a whole. Problems are
collected, not raised, so that the user sees all of them at once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from textune.config.backbones import BACKBONES, Backbone
from textune.config.fields import (
    REQUIRED,
    Place,
    annotations_at,
    bare,
    default_of,
    expected,
    item_variants,
    keys_of,
    metadata,
    named_variants,
    table_values,
    variants,
)
from textune.config.paths import absolute
from textune.config.presets import is_preset
from textune.config.problems import Problem, not_a_table, set_in, unknown_key, unknown_kind, wrong_value
from textune.config.schema import Experiment
from textune.config.section import Kept, Section, ShortForm
from textune.config.toml import Tree, format_key, format_string
from textune.config.values import PathMarker
from textune.errors import ConfigError


@dataclass(frozen=True)
class Origin:
    """Where values were written: a name for messages, and the folder that relative paths start from."""

    label: str
    folder: Path


@dataclass
class Merged:
    """The tree so far, the origin of each value that is not a default, and what went wrong."""

    values: Tree = field(default_factory=lambda: Experiment().model_dump())
    origins: dict[Place, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def merge(self, table: Mapping[str, object], origin: Origin) -> None:
        """Merge `table` into the tree; its values win. None means the default."""
        self._section({"": Experiment}, "", self.values, table, (), origin)

    def unset(self, place: tuple[str, ...]) -> None:
        """Reset a key to its default, as if no file had set it; resetting a `kind` resets its whole table."""
        parents = annotations_at(place[:-1])
        choices = variants(parents[0]) if parents else {}
        if not parents or not annotations_at(place):
            section = next(iter(choices.values()), None)
            unknown = Problem(place, f"Unknown key {format_key(*place)} (--unset).")
            self.problems.append(unknown_key(place, section, choices, "--unset") if section else unknown)
            return
        table: object = self.values
        for part in place[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if place[-1] == "kind" and len(choices) > 1:
            if isinstance(table, dict):
                self._unset_kind(table, choices, place)
        elif isinstance(table, dict) and place[-1] in table:
            del table[place[-1]]
            self._forget(place)
        elif not choices:
            self.problems.append(Problem(place, f"{format_key(*place)} (--unset) is not set anywhere."))

    def _unset_kind(self, table: Tree, choices: Mapping[str, type[Section]], place: tuple[str, ...]) -> None:
        holders = variants(annotations_at(place[:-2])[0]).values()  # empty for a table whose name the user chose
        start = {_start(holder, place[-2])["kind"] for holder in holders} or {next(iter(choices))}
        if table["kind"] in start:
            return
        for name in table.keys() - _kept(choices[table["kind"]], choices[min(start)]):
            del table[name]
            self._forget((*place[:-1], name))
        if table:
            table["kind"] = min(start)
        else:
            self.unset(place[:-1])

    def origin_of(self, place: Place) -> Origin | None:
        """The origin of the value at `place`, or of the list or table that holds it; None for a default."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]]
        return None

    def labels_of(self, place: Place) -> list[str]:
        """The origins of the value at `place` itself; several if it is a table merged from several; []
        for a default.
        """
        return list(
            dict.fromkeys(found.label for inner, found in self.origins.items() if inner[: len(place)] == place)
        )

    def resolve_paths(self) -> None:
        """Make every path absolute: those under `data` start from `data.folder` if set, others from where they were
        written.
        """
        data = self.values.get("data", {})
        folder = data.get("folder")
        if isinstance(folder, str) and folder:
            data["folder"] = folder = self._absolute(folder, ("data", "folder"), PathMarker(), None)
        base = Path(folder) if isinstance(folder, str) and folder else None
        self._resolve({"": Experiment}, self.values, (), base)

    def _section(
        self,
        choices: Mapping[str, type[Section]],
        kind: str,
        target: Tree,
        table: Mapping[str, object],
        place: Place,
        origin: Origin,
    ) -> None:
        section = choices[kind]
        annotations = keys_of(section)
        for name, value in table.items():
            here = (*place, str(name))
            if name not in annotations:
                self.problems.append(unknown_key(here, section, choices, origin.label))
            elif value is None:
                target.pop(name, None)
                self._forget(here)
            elif variants(annotations[name]):
                short = metadata(annotations[name], ShortForm)
                if short is not None and not isinstance(value, Mapping | Section):
                    value = {short.key: value}
                start = target[name] if isinstance(target.get(name), dict) else _start(section, name)
                target[name] = self._table(variants(annotations[name]), start, value, here, origin)
            elif item_variants(annotations[name]):
                self._tables(annotations[name], target, value, here, origin)
            elif named_variants(annotations[name]):
                self._named_tables(annotations[name], target, value, here, origin)
            else:
                self._value(annotations[name], target, value, here, origin)

    def _table(
        self, choices: Mapping[str, type[Section]], current: Tree, value: object, place: Place, origin: Origin
    ) -> Tree:
        if isinstance(value, Section):
            given = value.model_fields_set | ({"kind"} & set(keys_of(type(value))))
            value = {name: getattr(value, name) for name in given}
        if not isinstance(value, Mapping):
            self.problems.append(not_a_table(place, value, choices, origin.label))
            return current
        kind = ""
        if len(choices) > 1:
            kind = value.get("kind", current["kind"])
            if not isinstance(kind, str) or kind not in choices:
                self.problems.append(unknown_kind(place, kind, choices, origin.label))
                return current
            if kind != current["kind"]:
                kept = _kept(choices[current["kind"]], choices[kind]) & current.keys()
                self._note_what_is_lost(choices[kind], current["kind"], {*value, *kept}, place, origin)
                self._forget(place, but=kept)
                current = {"kind": kind} | {name: current[name] for name in kept}
        self._section(choices, kind, current, value, place, origin)
        return current

    def _tables(self, annotation: object, target: Tree, value: object, place: Place, origin: Origin) -> None:
        if not isinstance(value, list | tuple):
            self.problems.append(wrong_value(place, value, expected(annotation), origin.label))
            return
        self._forget(place)
        self.origins[place] = origin
        choices = item_variants(annotation)
        first = next(iter(choices))
        target[str(place[-1])] = [
            self._table(choices, {"kind": first} if first else {}, item, (*place, index), origin)
            for index, item in enumerate(value)
        ]

    def _named_tables(self, annotation: object, target: Tree, value: object, place: Place, origin: Origin) -> None:
        if not isinstance(value, Mapping):
            self.problems.append(wrong_value(place, value, expected(annotation), origin.label))
            return
        choices = named_variants(annotation)
        tables: Tree = target.setdefault(str(place[-1]), {})
        for name, table in ((str(name), table) for name, table in value.items()):
            here = (*place, name)
            if table is None:
                tables.pop(name, None)
                self._forget(here)
                continue
            tables[name] = self._table(choices, tables.get(name) or {"kind": next(iter(choices))}, table, here, origin)

    def _value(self, annotation: object, target: Tree, value: object, place: Place, origin: Origin) -> None:
        name = str(place[-1])
        if isinstance(value, Mapping):
            if table_values(annotation) is None:
                self.problems.append(wrong_value(place, value, expected(annotation), origin.label))
                return
            if not isinstance(target.get(name), dict):
                self._forget(place)
                target[name] = {}
            self._free_table(target[name], value, place, origin)
        elif isinstance(value, bool) and bare(annotation) in (int, float):
            self.problems.append(wrong_value(place, value, expected(annotation), origin.label))
        else:
            self._forget(place)
            self.origins[place] = origin
            target[name] = _plain(value)

    def _free_table(self, target: Tree, table: Mapping[str, object], place: Place, origin: Origin) -> None:
        for name, value in ((str(name), value) for name, value in table.items()):
            here = (*place, name)
            if isinstance(value, Mapping) and value:
                if not isinstance(target.get(name), dict):
                    target[name] = {}
                    self._forget(here)
                self._free_table(target[name], value, here, origin)
            else:
                self._forget(here)
                self.origins[here] = origin
                target[name] = _plain(value)

    def _forget(self, place: Place, *, but: Collection[str] = ()) -> None:
        """Forget the origins of everything at `place`, save its keys in `but`."""
        self.origins = {
            inner: origin
            for inner, origin in self.origins.items()
            if inner[: len(place)] != place or inner[len(place) : len(place) + 1] in [(name,) for name in but]
        }

    def _note_what_is_lost(
        self, section: type[Section], old: str, saved: Collection[str], place: Place, origin: Origin
    ) -> None:
        names = {inner[len(place)]: found for inner, found in self.origins.items() if inner[: len(place)] == place}
        for name, found in names.items():
            if is_preset(found.label) and is_preset(origin.label):
                continue  # one preset made of another: nothing that a user has set
            if name != "kind" and name in keys_of(section) and name not in saved:
                new = section.model_fields["kind"].default
                self.notes.append(
                    f"{format_key(*place, name)}{set_in(found.label)} is ignored: {format_key(*place)} changed from"
                    f" kind "
                    f'"{old}" to "{new}"{set_in(origin.label)}, and a new kind starts from its defaults.'
                )

    def _resolve(self, choices: Mapping[str, type[Section]], table: Tree, place: Place, base: Path | None) -> None:
        section = choices.get(table.get("kind", ""), next(iter(choices.values())))
        for name, annotation in keys_of(section).items():
            value, here = table.get(name), (*place, name)
            start = base if here[0] == "data" else None
            marker = metadata(annotation, PathMarker)
            if isinstance(value, dict) and variants(annotation):
                self._resolve(variants(annotation), value, here, base)
            elif isinstance(value, dict) and named_variants(annotation):
                for key, inner in value.items():
                    self._resolve(named_variants(annotation), inner, (*here, key), base)
            elif isinstance(value, list | tuple) and item_variants(annotation):
                for index, item in enumerate(value):
                    self._resolve(item_variants(annotation), item, (*here, index), base)
            elif marker is not None and isinstance(value, str) and value:
                table[name] = self._absolute(value, here, marker, start)
            elif marker is not None and isinstance(value, list | tuple):
                table[name] = [
                    self._absolute(item, here, marker, start) if isinstance(item, str) and item else item
                    for item in value
                ]

    def _absolute(self, text: str, place: Place, marker: PathMarker, base: Path | None) -> str:
        origin = self.origin_of(place)
        folder = base or (origin.folder if origin is not None else Path.cwd())
        try:
            if marker.hub and place[0] == "model" and text in BACKBONES:
                return self._named_backbone(BACKBONES[text], place, folder)
            return absolute(text, folder, hub=marker.hub)
        except ConfigError as error:
            label = origin.label if origin is not None else ""
            self.problems.append(
                Problem(
                    place,
                    f"{format_key(*place)}{set_in(label)}: {error.message}",
                    error.hint,
                    value=error.value,
                    origin=label,
                )
            )
            return text

    def _named_backbone(self, backbone: Backbone, place: Place, folder: Path) -> str:
        """Where a named backbone is: a folder of that name wins, then its package if that is installed, then the hub;
        a note says which."""
        key = f"{format_key(*place)} = {format_string(backbone.name)}"
        found = absolute(backbone.name, folder, hub=True)
        if found != backbone.name:
            self.notes.append(f"{key} is the folder {found}, not the backbone of that name in `textune models`.")
            return found
        if backbone.is_installed:
            self.notes.append(f"{key} is {backbone.hub}, from the installed package {backbone.pip_name}.")
            return absolute(backbone.in_package, folder)
        self.notes.append(f"{key} is {backbone.hub} on the Hugging Face hub.")
        return backbone.hub


def _kept(old: type[Section], new: type[Section]) -> set[str]:
    """The keys whose values a table of kind `old` keeps when it becomes one of kind `new`."""
    return {name for name, annotation in keys_of(old).items() if metadata(annotation, Kept)} & keys_of(new).keys()


def _start(section: type[Section], name: str) -> Tree:
    default = default_of(section, name)
    if default is not REQUIRED and isinstance(default, Section):
        return default.model_dump()
    first = next(iter(variants(keys_of(section)[name])))
    return {"kind": first} if first else {}


def _plain(value: object) -> object:
    """Path objects as text, also inside lists; everything else unchanged."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
