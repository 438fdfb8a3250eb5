"""Rows in memory for the sets of a run: `textune.train(config, train=rows, validation=rows)`.

rows of any form --> pieces by set;  the configuration, where each such set has `kind = "given"`
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from textune.adapters import load_any
from textune.config import DEFAULT, Loaded, Overrides, format_key, has_label_column, listed, override_words
from textune.data import GivenRows, column_names, memory_piece, read_source, texts_with_labels, unnamed_columns
from textune.errors import InputError
from textune.owncode import article
from textune.pipeline.rowsalone import Naming, are_rows, decided, propose_for_rows
from textune.ranks import launched, launched_world
from textune.wording import listing

NOTHING_NAMED = Naming()


@dataclass(frozen=True)
class SetsInMemory:
    """The rows of the sets of a run as they were given; None where the configuration says where they come from."""

    train: object = None
    validation: object = None
    test: object = None
    evaluations: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """By name."""
    rows: GivenRows = field(default_factory=lambda: MappingProxyType({}))
    """Rows that the configuration itself names."""

    @property
    def by_key(self) -> Iterator[tuple[str, str, object]]:
        """The key in the configuration, the name and the rows of every set that is given."""
        for argument, by_name in (("evaluations", self.evaluations), ("rows", self.rows)):
            if not isinstance(by_name, Mapping):
                raise InputError(
                    f"{argument} is {article(by_name)}, not a dictionary of rows by name.",
                    hint=f'Give them so: {argument}={{"NAME": rows}}.',
                    key=argument,
                    reason=f"{article(by_name)}, not a dictionary",
                )
        splits = (("train", self.train), ("validation", self.validation), ("test", self.test))
        yield from ((format_key("data", name), name, rows) for name, rows in splits if rows is not None)
        for name, rows in self.evaluations.items():
            yield format_key("data", "evaluations", str(name)), str(name), rows


def load_with_rows(
    config: object, overrides: Overrides, unset: Iterable[str], given: SetsInMemory, naming: Naming = NOTHING_NAMED
) -> tuple[Loaded, GivenRows]:
    """The configuration with the sets that are in memory, and all rows in memory by name.

    `config` may itself be rows to train on: then everything that `init` proposes for files is decided from them, and a
    note says what. Where a configuration does not name a column of the training rows, and there is none of the usual
    name, it is found if only one can be meant; a note says so. InputError or DataError for what cannot be rows with
    such columns.
    """
    _require_no_sets(config)
    alone = are_rows(config)
    if alone:
        given, config = _with_training_rows(given, config), None
    overrides = _also(overrides, naming.keys)
    processes = launched_world() if launched() else None
    sets = list(given.by_key)
    if not sets:
        return load_any(config, overrides, unset, processes=processes, preset=naming.preset), given.rows  # type: ignore[arg-type]
    in_memory = {f"{key}.{part}": value for key, name, _ in sets for part, value in _source(name)}
    overrides = _also(overrides, in_memory)
    if alone:
        return _load_alone(overrides, unset, sets, given.rows, naming, processes)
    loaded = load_any(config, overrides, unset, processes=processes, preset=naming.preset)  # type: ignore[arg-type]
    columns = loaded.experiment.data.columns
    rows = _pieces(sets, given.rows, text=columns.text, label=columns.label)
    found = {} if given.train is None else _unnamed(loaded, rows)
    if not found:
        return loaded, rows
    columns_found = {f"data.columns.{key}": name for key, name in found.items()}
    loaded = load_any(config, _also(overrides, columns_found), unset, processes=processes, preset=naming.preset)  # type: ignore[arg-type]
    said = ", ".join(f"{key} = {name!r}" for key, name in found.items())
    return replace(loaded, notes=(*loaded.notes, f"the columns of train are taken so: {said} (data.columns)")), rows


def _require_no_sets(config: object) -> None:
    """InputError for sets of rows by name, as the datasets library has them."""
    if not isinstance(config, Mapping) or "train" not in config:
        return
    names = [name for name, value in config.items() if _is_table(value)]
    if names:
        others = [name for name in names if name in ("validation", "test")]
        given = "".join(f', {name}=sets["{name}"]' for name in others)
        raise InputError(
            f"the first argument has sets of rows by name, {listing(map(repr, names), 6)}: it takes one, to train on.",
            hint=f'Name them: (sets["train"]{given}).',
            key="train",
            value=names,
            reason="sets of rows by name",
        )


def _is_table(value: object) -> bool:
    """Whether the value of a dictionary is rows of several columns; a section of a configuration is none."""
    if isinstance(value, Mapping):
        return False
    rows = isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)
    return rows or column_names(value) is not None


def _with_training_rows(given: SetsInMemory, rows: object) -> SetsInMemory:
    if given.train is not None:
        raise InputError(
            "training rows are given twice, as the first argument and as train.",
            hint="Give a configuration first, or leave train out.",
            key="train",
            reason="given twice",
        )
    return replace(given, train=rows)


def _load_alone(
    overrides: Overrides,
    unset: Iterable[str],
    sets: _Sets,
    known: GivenRows,
    naming: Naming,
    processes: int | None,
) -> tuple[Loaded, GivenRows]:
    """The same of rows without a configuration."""
    label = naming.label if isinstance(naming.label, str) else "label"
    rows = _pieces(sets, known, text=naming.text or "text", label=label)
    proposed = propose_for_rows(rows, [name for _, name, _ in sets if name in ("validation", "test")], naming)
    loaded = load_any(proposed.tree, overrides, unset, processes=processes, preset=naming.preset)
    notes = (decided(proposed, loaded.experiment), *proposed.notes, *loaded.notes)
    return replace(loaded, notes=notes), rows


_Sets = list[tuple[str, str, object]]
"""The key, the name and the rows of every set that is given."""


def _pieces(sets: _Sets, known: GivenRows, *, text: str, label: str) -> dict[str, object]:
    """The rows of every set by name, beside those that the configuration names; `text` and `label` are the columns of
    texts that come with their labels alone."""
    rows = dict(known)
    for key, name, some in sets:
        if name in rows:
            raise InputError(f"{name} is given twice, by itself and in rows.", key=name, place=f"rows[{name!r}]")
        _require_no_path(some, key, name)
        rows[name] = memory_piece(texts_with_labels(some, name, text=text, label=label), name, f"{name} is")
    return rows


def _require_no_path(some: object, key: str, name: str) -> None:
    if isinstance(some, str | os.PathLike):
        path = os.fspath(some)
        raise InputError(
            f"{name} = {path!r:.80} is {article(some)}, not rows in memory.",
            hint=f'Files are named in the configuration, or by overrides: {key}.kind = "files" and {key}.files.',
            key=name,
            value=path,
            place=name,
            reason="not rows in memory",
        )


def _source(name: str) -> tuple[tuple[str, str], ...]:
    return ("kind", "given"), ("name", name)


def _also(overrides: Overrides, values: Mapping[str, object]) -> Overrides:
    """Overrides in either form, and these values."""
    if isinstance(overrides, Mapping):
        return {**overrides, **values}
    words = listed("overrides", overrides)
    return [*words, *override_words(values)] if words else dict(values)


def _unnamed(loaded: Loaded, rows: GivenRows) -> Mapping[str, str]:
    """By its key in `data.columns`, the columns that the configuration does not name and the training rows have under
    another name than the usual one; nothing where labels stand in several columns."""
    section = loaded.experiment.data
    columns, task = section.columns, loaded.experiment.task
    if columns.template is not None or columns.labels or not has_label_column(task):
        return {}
    read = read_source(section.train, on_bad_row="skip", given=rows)  # type: ignore[arg-type]  # no stream: given
    there = read.table.column_names
    usual = {"text": columns.text, "label": columns.label}
    lacking = {key for key in usual if loaded.origins[f"data.columns.{key}"] == DEFAULT and usual[key] not in there}
    if not lacking or any(name not in there for key, name in usual.items() if key not in lacking):
        return {}
    known = {key: None if key in lacking else name for key, name in usual.items()}
    found = unnamed_columns(read, text=known["text"], label=known["label"])
    return {key: name for key, name in found.items() if usual.get(key) != name}
