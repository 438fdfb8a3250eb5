"""The file of a sweep: a configuration, and which of its keys are tried with which values; `load_sweep` reads it.

[grid]              every combination of some values
[[together]]        values that belong together: each table sets several keys
[random], [optuna]  values drawn from distributions, in advance or by what the runs before have shown
[[stages]]          several of these searches, one after the other
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from textune.config.fields import Place, annotations_at, keys_of, table_values, variants
from textune.config.merge import Origin
from textune.config.overrides import COMMAND_LINE, EXTENDS, OVERRIDES, Overrides, gather
from textune.config.parents import Layer
from textune.config.paths import absolute, user_path
from textune.config.presets import is_preset
from textune.config.problems import (
    Problem,
    keys_called,
    refuse,
    set_in,
    translate,
    unknown_key,
    unknown_kind,
    wrong_value,
)
from textune.config.schema import Experiment
from textune.config.section import Section
from textune.config.sweepkeys import Distribution, OptunaSearch, RandomSearch, SearchKeys, Stage, Sweep
from textune.config.toml import Tree, format_key, format_value, parse_key, read_toml, shorten
from textune.errors import ConfigError
from textune.wording import nearest


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep and where it came from."""

    sweep: Sweep
    path: Path | None
    """Its file; None for a dictionary."""

    @property
    def label(self) -> str:
        """Its name in messages, and as the origin of values."""
        return self.path.name if self.path is not None else "sweep"

    @property
    def name(self) -> str:
        """What its folder is called, if the user does not say."""
        return self.path.stem if self.path is not None else "sweep"

    @property
    def folder(self) -> Path:
        """Where its relative paths start from."""
        return self.path.parent if self.path is not None else Path.cwd()

    @property
    def origin(self) -> Origin:
        """That of the values it sets."""
        return Origin(self.label, self.folder)

    @property
    def config(self) -> str | None:
        """The file or preset that all runs are made of; None where it is a table of the sweep."""
        own = self.sweep.config
        if not isinstance(own, str) or is_preset(own):
            return own if isinstance(own, str) else None
        return own if os.path.isabs(own) else os.path.relpath(absolute(own, self.folder))

    @property
    def shown(self) -> str:
        """The configuration in words."""
        return self.config or f"the configuration in {self.label}"

    def layers(self, search: Stage, overrides: Overrides) -> list[Layer]:
        """What is laid over the configuration before the cells of a search are; `overrides` are for every run.

        ConfigError for overrides that cannot be read, or that set a key which is tried.
        """
        own = self.sweep.config
        tables: list[Tree] = [own] if isinstance(own, dict) else []
        if self.sweep.metric is not None:
            tables.append({"evaluate": {"metric": self.sweep.metric}})
        if search.config is not None:
            tables.append({EXTENDS: search.config} if isinstance(search.config, str) else search.config)
        given, problems = gather(overrides)
        refuse([*problems, *self._set_twice(given)])
        label = OVERRIDES if isinstance(overrides, Mapping) else COMMAND_LINE
        return [*(Layer(table, self.origin) for table in tables), Layer(given, Origin(label, Path.cwd()))]

    def _set_twice(self, given: Tree) -> Iterator[Problem]:
        for key in dict.fromkeys(key for search in self.sweep.searches for key in search.keys):
            value: object = given
            for part in parse_key(key):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                message = f"{key} is set for every run, but {self.label} tries several values."
                yield Problem(parse_key(key), message, "Keep one of them.", value)


def load_sweep(sweep: str | os.PathLike[str] | Mapping[str, object]) -> LoadedSweep:
    """Read a sweep from a file, or from a dictionary of the same form.

    Raises a ConfigError that lists every problem: a key of the file or of the configuration that does not exist, a
    value of the wrong type, an empty list, nothing to try, two kinds of search at once.
    """
    if isinstance(sweep, Mapping):
        path, label, table = None, "sweep", copy.deepcopy(dict(sweep))
        table |= {name: os.fspath(value) for name, value in table.items() if isinstance(value, os.PathLike)}
    elif isinstance(sweep, str | os.PathLike):
        path = Path(os.path.abspath(user_path(sweep)))
        if not os.path.exists(path):
            near = nearest(path.name, [other.name for other in path.parent.glob("*.toml")])
            hint = (
                f"Did you mean {Path(sweep).with_name(near)}?"
                if near
                else "It names a `config`, and values in [grid]."
            )
            raise ConfigError(f"{os.fspath(sweep)}: there is no such file of a sweep.", hint=hint, place=str(sweep))
        label, table = path.name, read_toml(path, shown=str(sweep))
    else:
        raise ConfigError(
            f"{shorten(repr(sweep))} is not a sweep.", hint="Give the name of a TOML file, or a dictionary."
        )
    problems = _flatten(table, label)
    refuse(problems)
    try:
        found = Sweep.model_validate(table)
    except ValidationError as error:
        refuse(translate(error, lambda place: label, root=Sweep))
        raise
    refuse([problem for place, search in _searches(found) for problem in _search_problems(search, place, label)])
    refuse(_stage_problems(found, label))
    return LoadedSweep(found, path)


def _flatten(table: Tree, label: str) -> list[Problem]:
    """Put every table of keys of the configuration into one of dotted keys; what is unknown is a problem."""
    problems = _unknown_keys(table, Sweep, (), label)
    stages = table.get("stages", [])
    if not isinstance(stages, list | tuple) or not all(isinstance(stage, dict) for stage in stages):
        stages = []
    places: list[tuple[Place, Tree, type[Section]]] = [((), table, Sweep)]
    places += [(("stages", number), stage, Stage) for number, stage in enumerate(stages)]
    for place, search, section in places:
        problems += _unknown_keys(search, section, place, label) if place else []
        for name in ("random", "optuna"):
            drawn = search.get(name)
            if isinstance(drawn, dict):
                own = RandomSearch if name == "random" else OptunaSearch
                problems += _unknown_keys(drawn, own, (*place, name), label)
                if drawn.get("space") == {}:
                    message = f"{format_key(*place, name, 'space')}{set_in(label)} is empty."
                    hint = 'Name a distribution for each key, as in "train.batch_size" = [16, 32].'
                    problems.append(Problem((*place, name, "space"), message, hint, {}, label))
                problems += _flattened(drawn, "space", (*place, name, "space"), label)
                problems += _unknown_distributions(drawn.get("space"), (*place, name, "space"), label)
        problems += _flattened(search, "grid", (*place, "grid"), label)
        problems += _lists(search.get("grid"), (*place, "grid"), label)
        together = search.get("together")
        for number in range(len(together) if isinstance(together, list) else 0):
            problems += _flattened(together, number, (*place, "together", number), label)
    return problems


def _flattened(holder: Any, name: Any, place: Place, label: str) -> list[Problem]:
    """Replace the table `holder[name]` by one of dotted keys of the configuration."""
    table = holder.get(name) if isinstance(holder, dict) else holder[name]
    if not isinstance(table, Mapping):
        return []
    problems: list[Problem] = []
    holder[name] = {}
    for key, value in _leaves(table, (), place, label, problems):
        if key in holder[name]:
            problems.append(Problem((*place, key), f"{format_key(*place)}{set_in(label)} has {key} twice."))
        holder[name][key] = value
    return problems


def _leaves(
    table: Mapping[str, Any], parents: tuple[str, ...], place: Place, label: str, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        try:
            here = (*parents, *parse_key(str(name)))
        except ValueError:
            message = f"{format_key(*place)}{set_in(label)}: {shorten(repr(name))} is not a dotted key."
            problems.append(Problem((*place, str(name)), message, value=name, origin=label))
            continue
        annotations = annotations_at(here)
        if not annotations and here != (EXTENDS,):
            problems.append(_unknown_setting(here, label))
        elif isinstance(value, Mapping) and any(
            variants(each) or table_values(each) is not None for each in annotations
        ):
            yield from _leaves(value, here, place, label, problems)
        else:
            yield format_key(*here), value


def _unknown_setting(place: tuple[str, ...], label: str) -> Problem:
    """A key that the configuration does not have, with the nearest one."""
    length = next(length for length in range(1, len(place) + 1) if not annotations_at(place[:length]))
    parents = annotations_at(place[: length - 1])
    choices = variants(parents[0]) if parents else {}
    if not choices:
        holder = format_key(*place[: length - 1])
        message = f"Unknown key {format_key(*place)}{set_in(label)}: {holder} is a value, not a table."
        return Problem(place, message, origin=label)
    found = unknown_key(place[:length], next(iter(choices.values())), choices, label)
    return Problem(place, found.message, found.hint, origin=label)


def _unknown_keys(table: Tree, section: type[Section], place: Place, label: str) -> list[Problem]:
    """Keys that a section of the file does not have."""
    problems = []
    known = keys_of(section)
    for name in table:
        if name in known:
            continue
        near = nearest(str(name), known)
        hint = f"Did you mean {format_key(*place, near)}?" if near else f"The keys here are {', '.join(known)}."
        try:
            meant = keys_called(str(name)) if not near else []
        except ValueError:
            meant = []
        if meant or name in keys_of(Experiment):
            key = f"{name}.KEY" if name in keys_of(Experiment) else meant[0]
            hint = f'Values to try stand in [grid], as in "{key}" = [A, B]; the same of all runs in `config`.'
        message = f"Unknown key {format_key(*place, str(name))}{set_in(label)}."
        problems.append(Problem((*place, str(name)), message, hint, origin=label))
    return problems


def _unknown_distributions(space: object, place: Place, label: str) -> list[Problem]:
    """Distributions of a kind that does not exist, or with keys that it does not have."""
    problems: list[Problem] = []
    choices = variants(Distribution)
    for key, value in space.items() if isinstance(space, dict) else ():
        here = (*place, key)
        if isinstance(value, list | tuple):
            continue
        if not isinstance(value, Mapping):
            hint = f"A value that is the same in all runs stands in `config`; to choose from several, write [{key}]."
            hint = hint.replace(f"[{key}]", f"[{format_value(value, one_line=True)}, ...]")
            expectation = 'a distribution, such as { kind = "uniform", low = 0, high = 1 }, or a list'
            found = wrong_value(here, value, expectation, label)
            problems.append(Problem(here, found.message, hint, value, label))
        elif not isinstance(value.get("kind"), str) or value["kind"] not in choices:
            problems.append(unknown_kind(here, value.get("kind", ""), choices, label))
        else:
            problems += _unknown_keys(dict(value), choices[value["kind"]], here, label)
    return problems


def _lists(grid: object, place: Place, label: str) -> list[Problem]:
    """Values of a grid that are no lists, or empty ones, or have a value twice."""
    problems: list[Problem] = []
    for key, values in grid.items() if isinstance(grid, dict) else ():
        here = (*place, key)
        said = f"{format_key(*here)} = {shorten(format_value(values, one_line=True))}{set_in(label)}"
        if not isinstance(values, list | tuple):
            hint = f"Write [{shorten(format_value(values, one_line=True))}]."
            problems.append(Problem(here, f"{said}: expected a list of values to try.", hint, values, label))
        elif not values:
            problems.append(
                Problem(here, f"{said}: there is no value to try.", "Name one, or leave the key out.", values, label)
            )
        else:
            twice = [value for at, value in enumerate(values) if _among(value, values[:at])]
            if twice:
                message = f"{said}: {format_value(twice[0], one_line=True)} is there twice."
                problems.append(Problem(here, message, value=twice[0], origin=label))
    return problems


def _among(value: object, others: Any) -> bool:
    """Whether an equal value of the same type is among others: `true` is not 1."""
    return any(type(other) is type(value) and other == value for other in others)


def _searches(sweep: Sweep) -> list[tuple[Place, SearchKeys]]:
    """The search of the file itself, if it is one, and those of its stages."""
    if not sweep.stages:
        return [((), sweep)]
    return [(("stages", number), stage) for number, stage in enumerate(sweep.stages)]


def _search_problems(search: SearchKeys, place: Place, label: str) -> list[Problem]:
    kinds = [name for name in ("random", "optuna") if getattr(search, name) is not None]
    kinds = [*(["grid"] if search.grid or search.together else []), *kinds]
    where = f"{format_key(*place)}{set_in(label)}: " if place else f"{label}: "
    if not kinds:
        hint = 'Name values in [grid], as in "train.optimizer.lr" = [1e-5, 3e-5], or write [random] or [optuna].'
        return [Problem((*place, "grid"), f"{where}there is nothing to try.", hint, origin=label)]
    if len(kinds) > 1:
        said = " and ".join(f"[{kind}]" for kind in kinds)
        hint = "Keep one of them, or make each a stage: [[stages]]."
        return [Problem((*place, kinds[1]), f"{where}{said} are two kinds of search.", hint, origin=label)]
    return [*_overlaps(search, label), *_incomparable(search, label)]


def _overlaps(search: SearchKeys, label: str) -> list[Problem]:
    """A key that is set within another, or by both kinds of tables of a grid."""
    problems = []
    shared = [key for key in search.grid if any(key in table for table in search.together)]
    for key in shared:
        message = f"{key}{set_in(label)} is both in grid and in together."
        problems.append(Problem(parse_key(key), message, "Keep one of them.", origin=label))
    places = {key: parse_key(key) for key in search.keys}
    for outer, whole in places.items():
        for inner, part in places.items():
            if len(part) > len(whole) and part[: len(whole)] == whole:
                message = f"{outer} and {inner}{set_in(label)} are both set, as a table and as a value in it."
                problems.append(Problem(part, message, "Keep one of them.", origin=label))
    return problems


_PRETRAINED = "model.pretrained"
_FIXED = {
    "evaluate.metric": "runs are compared by one metric: `metric`, at the top of the sweep",
    "evaluate.best_by": "runs are compared on one set",
    "data.validation": "runs are compared on the same rows",
}
"""Keys that decide how runs are compared, with all that is in them, and why they cannot be tried."""


def _incomparable(search: SearchKeys, label: str) -> list[Problem]:
    return [
        Problem(parse_key(key), f"{key}{set_in(label)} cannot be tried: {reason}.", "Remove it.", origin=label)
        for key in search.keys
        for fixed, reason in _FIXED.items()
        if key == fixed or key.startswith(f"{fixed}.")
    ]


def _stage_problems(sweep: Sweep, label: str) -> list[Problem]:
    if not sweep.stages:
        return []
    problems = [
        Problem(
            (name,),
            f"{label}: [{name}] and [[stages]] are both there: each stage has a search of its own.",
            f"Write [stages.{name}] in the stage that it belongs to.",
            origin=label,
        )
        for name in keys_of(SearchKeys)
        if getattr(sweep, name)
    ]
    for number, stage in enumerate(sweep.stages):
        if number and stage.continues != "settings" and _PRETRAINED in stage.keys:
            message = f"{_PRETRAINED}{set_in(label)} is tried in a stage that starts from the model of the one before."
            hint = f'Set stages[{number}].continues = "settings", or remove it.'
            problems.append(Problem(parse_key(_PRETRAINED), message, hint, origin=label))
    names = [stage.name or str(number) for number, stage in enumerate(sweep.stages, start=1)]
    for number, name in enumerate(names):
        if name.lower() in [other.lower() for other in names[:number]]:
            message = f"stages[{number}].name = {format_value(name)}{set_in(label)}: another stage has that name."
            problems.append(Problem(("stages", number, "name"), message, value=name, origin=label))
    return problems
