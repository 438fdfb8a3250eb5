"""From what a sweep tries to its cells: values by key, a readable name, and the configuration of a run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from textune.config import (
    Absent,
    Config,
    Experiment,
    Layer,
    Loaded,
    Origin,
    Problem,
    SearchKeys,
    format_value,
    load_config,
    parse_key,
    refuse,
    require_runnable,
)
from textune.errors import TextuneError
from textune.wording import count, listing

Values: TypeAlias = Mapping[str, object]
"""What a cell sets, by dotted key."""

MAX_CELLS = 10_000
"""Most combinations of one grid."""
_MAX_NAME, _MAX_VALUE = 100, 40
_MAX_SHOWN = 5
"""Refused cells that one message names."""


@dataclass(frozen=True)
class Cell:
    """One combination of values."""

    name: str
    """Readable, unique, and the name of its run folder."""
    values: Values
    loaded: Loaded | None = None
    """The configuration of its run; None where it is refused."""
    refusal: TextuneError | None = None
    """Why it cannot be run."""


@dataclass(frozen=True)
class Ground:
    """What the cells of a stage are laid over."""

    config: Config | None
    origin: Origin
    """Of the values in the sweep."""
    over: tuple[Layer, ...] = ()

    def with_(self, table: Mapping[str, object]) -> Ground:
        """The same with a table laid over it."""
        return replace(self, over=(*self.over, Layer(dict(table), self.origin)))

    def load(self, values: Values) -> Loaded:
        """The configuration with these values, complete and free of contradictions; ConfigError where it is not."""
        loaded = self.bare(values)
        require_runnable(loaded.experiment)
        refuse(_nothing_to_compare(loaded.experiment))
        return loaded

    def bare(self, values: Values) -> Loaded:
        """The same, which may lack what a run needs."""
        return load_config(self.config, over=(*self.over, Layer(tree_of(values), self.origin)))

    def check(self, cell: Cell) -> Cell:
        """The cell with its configuration, or with why it is refused."""
        try:
            return replace(cell, loaded=self.load(cell.values))
        except TextuneError as error:
            return replace(cell, refusal=error)


def _nothing_to_compare(experiment: Experiment) -> list[Problem]:
    chosen = experiment.evaluate.best_by
    if chosen != "validation" or not isinstance(experiment.data.validation, Absent):
        return []
    message = "the runs of a sweep are compared on rows that are held out, and there are none."
    return [Problem(("data", "validation"), message, 'Write [data.validation], such as kind = "split".')]


def tree_of(values: Values) -> dict[str, object]:
    """Nested tables of values by dotted key."""
    tree: dict[str, object] = {}
    for key, value in values.items():
        *parents, last = parse_key(key)
        table = tree
        for part in parents:
            inner = table.setdefault(part, {})
            assert isinstance(inner, dict), f"{key} is set within another key"
            table = inner
        table[last] = value
    return tree


# --- combinations ----------------------------------------------------------------------------------------------------


def combinations(search: SearchKeys) -> list[Values]:
    """Every combination of a grid, in the order of the file: its last key changes first. ConfigError for too many."""
    axes: list[Sequence[Values]] = [search.together] if search.together else []
    axes += [[{key: value} for value in values] for key, values in search.grid.items()]
    num = 1
    for axis in axes:
        num *= len(axis)
    if num > MAX_CELLS:
        message = f"the grid has {num:,} combinations; at most {MAX_CELLS:,} are possible."
        refuse([Problem(("grid",), message, "Name fewer values, or draw from them: [random].", num)])
    return [{key: value for part in parts for key, value in part.items()} for parts in itertools.product(*axes)]


def named(each: Sequence[Values], *, numbered: bool = False, taken: Sequence[str] = ()) -> list[Cell]:
    """The cells of some combinations of the same keys, each with a name; `numbered`: the names begin with a number.

    A name follows from the values alone, unless two would be the same: then all but the first end with a hash.
    `taken`: names of cells before these.
    """
    short = short_keys(list(dict.fromkeys(key for values in each for key in values)))
    seen = {name.lower() for name in taken}
    cells = []
    for number, values in enumerate(each, start=len(taken) + 1):
        name = ",".join(f"{short[key]}={_in_a_name(value)}" for key, value in values.items())
        name = f"{number:03}-{name}" if numbered else name
        if len(name) > _MAX_NAME:
            name = f"{name[: _MAX_NAME - 9].rstrip('-.,=')}-{_hash_of(values)}"
        if name.lower() in seen:  # not every file system keeps upper and lower case apart
            name = f"{name}-{_hash_of(values)}"
        seen.add(name.lower())
        cells.append(Cell(name, values))
    return cells


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted key the end of it that no other of them has: `lr`, or `optimizer.lr`."""
    parts = {key: parse_key(key) for key in keys}
    found = {}
    for key, own in parts.items():
        others = [other for other in parts.values() if other != own]
        lengths = range(1, len(own) + 1)
        length = next((n for n in lengths if all(other[-n:] != own[-n:] for other in others)), len(own))
        found[key] = _plain(".".join(own[-length:]))
    return found


def _in_a_name(value: object) -> str:
    """A value in the name of a folder."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return re.sub(r"e([+-])0*", r"e\1", f"{value:.4g}").replace("e+", "e")
    if isinstance(value, str):
        return _plain(value.rstrip("/").rpartition("/")[2]) or "empty"
    if isinstance(value, Mapping):
        return "+".join(_in_a_name(inner) for inner in value.values())[:_MAX_VALUE] or "empty"
    if isinstance(value, list | tuple):
        return "+".join(_in_a_name(inner) for inner in value)[:_MAX_VALUE] or "none"
    return _plain(str(value))


def _plain(text: str) -> str:
    """The text in characters that every file system and every shell takes as they are."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text.replace("%", "pct"))[:_MAX_VALUE].strip("-.")


def _hash_of(values: Values) -> str:
    text = json.dumps(values, sort_keys=True, default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# --- checks ----------------------------------------------------------------------------------------------------------


def require_different(cells: Sequence[Cell]) -> None:
    """ConfigError where two cells describe the same run."""
    seen: dict[str, str] = {}
    for cell in cells:
        if cell.loaded is None:
            continue
        text = json.dumps(cell.loaded.resolved, sort_keys=True, allow_nan=False)
        if text in seen:
            message = f"the cells {seen[text]} and {cell.name} are the same run."
            refuse([Problem(("grid",), message, "Remove one of them.", cell.name)])
        seen[text] = cell.name


def require_some_sound(cells: Sequence[Cell], *, keep_going: bool) -> None:
    """The error of the cells that are refused: of any of them, or, with `keep_going`, only where none is left."""
    refused = [cell for cell in cells if cell.refusal is not None]
    if not refused or (keep_going and len(refused) < len(cells)):
        return
    by_reason: dict[str, list[Cell]] = {}
    for cell in refused:
        by_reason.setdefault(str(cell.refusal), []).append(cell)
    [first, *others] = by_reason.values()
    error = first[0].refusal
    assert error is not None
    error.introduce(f"{_cells(first)}: ")
    error.key = error.key or next(iter(first[0].values), "")
    for more in others[: _MAX_SHOWN - 1]:
        error.advise(f"{_cells(more)}: {more[0].refusal}")
    if len(others) >= _MAX_SHOWN:
        error.advise(f"There are {count(len(others) - _MAX_SHOWN + 1, 'other reason')} in other cells.")
    if len(refused) < len(cells):
        error.advise("With --keep-going the other cells are run.")
    raise error


def _cells(cells: Sequence[Cell]) -> str:
    names = listing([cell.name for cell in cells], _MAX_SHOWN)
    return f"{'cell' if len(cells) == 1 else 'cells'} {names}"


def values_in_words(values: Values) -> str:
    """`lr = 1e-5, batch_size = 16`."""
    short = short_keys(list(values))
    return ", ".join(f"{short[key]} = {format_value(value, one_line=True)}" for key, value in values.items())
