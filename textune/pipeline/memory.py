"""Rows in memory for the sets of a run: `textune.train(config, train=rows, validation=rows)`.

rows of any form --> pieces by set;  the configuration, where each such set has `kind = "given"`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from textune.adapters import load_any
from textune.config import DEFAULT, Config, Loaded, Overrides, format_key, has_label_column, listed
from textune.data import GivenRows, memory_piece, read_source, texts_with_labels, unnamed_columns
from textune.errors import InputError
from textune.owncode import article
from textune.ranks import launched, launched_world


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
    config: Config | None, overrides: Overrides, unset: Iterable[str], given: SetsInMemory
) -> tuple[Loaded, GivenRows]:
    """The configuration with the sets that are in memory, and all rows in memory by name.

    Where the configuration does not name a column of the training rows, and there is none of the usual name, it is
    found if only one can be meant; a note says so. InputError or DataError for what cannot be rows with such columns.
    """
    processes = launched_world() if launched() else None
    sets = list(given.by_key)
    if not sets:
        return load_any(config, overrides, unset, processes=processes), given.rows
    in_memory = {f"{key}.{part}": value for key, name, _ in sets for part, value in _source(name)}
    overrides = _also(overrides, in_memory)
    loaded = load_any(config, overrides, unset, processes=processes)
    rows = dict(given.rows)
    columns = loaded.experiment.data.columns
    for _, name, some in sets:
        if name in rows:
            raise InputError(f"{name} is given twice, by itself and in rows.", key=name, place=f"rows[{name!r}]")
        named = texts_with_labels(some, name, text=columns.text, label=columns.label)
        rows[name] = memory_piece(named, name, f"{name} is")
    found = {} if given.train is None else _unnamed(loaded, rows)
    if not found:
        return loaded, rows
    columns_found = {f"data.columns.{key}": name for key, name in found.items()}
    loaded = load_any(config, _also(overrides, columns_found), unset, processes=processes)
    said = ", ".join(f"{key} = {name!r}" for key, name in found.items())
    return replace(loaded, notes=(*loaded.notes, f"the columns of train are taken so: {said} (data.columns)")), rows


def _source(name: str) -> tuple[tuple[str, str], ...]:
    return ("kind", "given"), ("name", name)


def _also(overrides: Overrides, values: Mapping[str, str]) -> Overrides:
    """Overrides in either form, and these values."""
    if isinstance(overrides, Mapping):
        return {**overrides, **values}
    words = listed("overrides", overrides)
    return [*words, *(f"{key}={value}" for key, value in values.items())] if words else dict(values)


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
