"""A data source of training-wizard: as keys of ours or, where these do not reach, as rows that code gives."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textune.adapters.foreign import LeftOut
from textune.adapters.trainingwizard.classes import class_named, is_own
from textune.adapters.trainingwizard.given import Given, Table, given_at, read_table
from textune.adapters.trainingwizard.keys import PREPROCESSING, SOURCES, TOKEN_LENGTH_FILTER
from textune.adapters.trainingwizard.options import option_keys
from textune.adapters.trainingwizard.own import OBJECT, first_row_of
from textune.adapters.trainingwizard.peek import Row, files_of, first_row, head_of
from textune.adapters.trainingwizard.specfile import Place, SpecFile
from textune.config import Problem, absolute, format_key

Keys = Sequence[tuple[str, object, str]]
"""Keys of a source of ours with values and origins."""


@dataclass(frozen=True)
class Source:
    """Where rows come from."""

    place: Place
    spec: Mapping[str, Any]
    """The table, as code of the source's class takes it."""
    keys: Keys
    row: Row | None = None
    """The first row, as far as it is known."""
    template: str = ""
    """Text made of several columns; empty where the column `text` is the text."""
    label: str = "labels"
    """The column of the label."""

    @property
    def needs_code(self) -> bool:
        """Whether code gives the rows."""
        return self.keys[0][1] == "python"

    def has(self, column: str) -> bool:
        """Whether the rows are known to have a column."""
        return self.row is not None and column in self.row


@dataclass
class Remarks:
    """What is noted while a file is read."""

    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def unused(self, table: Table, keys: Mapping[str, Any]) -> None:
        """Keys that somebody set and that change nothing here."""
        for name, key in keys.items():
            if key.unused and not table.given(name).is_default:
                self.left_out.append(LeftOut(table.given(name).key, key.unused))


def read_source(file: SpecFile, place: Place, tree: Mapping[str, Any], remarks: Remarks) -> Source:
    """The data source of a table; what does not fit is noted as a problem."""
    name = class_named(file, place, tree, SOURCES, remarks.problems, default="SimpleDataSourceSpec")
    if not name:
        return Source(place, tree, [("kind", "files", "")])
    if is_own(name):
        return by_code(file, place, tree, f"spec_class = {name}")
    table = read_table(file, place, tree, SOURCES[name], remarks.problems)
    if remarks.problems:
        return Source(place, tree, [("kind", "files", "")])
    reader = {"MultiDataSourceSpec": _concatenated, "SequenceClassificationDatasourceSpec": _templated}
    return reader.get(name, _files)(file, table, tree, remarks)


def by_code(file: SpecFile, place: Place, tree: Mapping[str, Any], why: str) -> Source:
    """The rows of a source as its class gives them."""
    spec = _with_absolute_files(tree)
    keys = [("kind", "python", why), ("object", OBJECT, why), ("options", {"spec": spec}, f"[{format_key(*place)}]")]
    return Source(place, tree, keys, first_row_of(spec, key=format_key(*place, "spec_class")))


def _with_absolute_files(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The table with paths that mean the same from any folder."""
    spec: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            spec[name] = _with_absolute_files(value)
        elif name == "data_files":
            files = [value] if isinstance(value, str) else value
            spec[name] = [absolute(one, Path.cwd()) if isinstance(one, str) else one for one in files]
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            spec[name] = [_with_absolute_files(one) for one in value]
        else:
            spec[name] = value
    return spec


def _files(file: SpecFile, table: Table, tree: Mapping[str, Any], remarks: Remarks) -> Source:
    """SimpleDataSourceSpec."""
    place = table.place
    chosen = read_table(file, (*place, "preprocessing"), table["preprocessing"], PREPROCESSING, remarks.problems)
    if remarks.problems:
        return Source(place, tree, [("kind", "files", "")])
    remarks.unused(chosen, PREPROCESSING)
    if chosen["token_length_filter"] is not None:
        where = (*place, "preprocessing", "token_length_filter")
        read_table(file, where, chosen["token_length_filter"], TOKEN_LENGTH_FILTER, remarks.problems)
        why = f"token_length_filter ({file.place(where)})"
        return Source(place, tree, []) if remarks.problems else by_code(file, place, tree, why)
    loader, files = table["loader"], table["data_files"]
    files = (files,) if isinstance(files, str) else tuple(files)
    given = {
        name: given_at(file, (*place, "load_dataset_kwargs", name), value)
        for name, value in table["load_dataset_kwargs"].items()
    }
    keys: list[tuple[str, object, str]] = [("kind", "files", _class_origin(table))]
    keys.append(("files", files, table.origin("data_files")))
    options = list(option_keys(loader, given, remarks.left_out, remarks.problems))
    known = {key: value for key, value, _ in options}
    paths = files_of(files)
    head = head_of(paths[0], str(known.get("encoding", "utf-8-sig"))) if paths else ""
    keys.append(("format", _format(loader, files, head, known), table.origin("loader")))
    row = None
    if head and "split" not in known and not remarks.problems:
        row = first_row(
            head,
            loader,
            delimiter=str(known.get("delimiter", ",")),
            names=known.get("column_names", ()),  # type: ignore[arg-type]
            skip=int(known.get("skip_lines", 0)),  # type: ignore[call-overload]
        )
    keys += options + _chosen_rows(chosen, row or {})
    return Source(place, tree, keys, _seen_after(row, chosen))


def _class_origin(table: Table) -> str:
    return "SimpleDataSourceSpec" if table.given("spec_class").is_default else table.origin("spec_class")


def _format(loader: str, files: Sequence[str], head: str, known: Mapping[str, object]) -> str:
    """The format of the files. The loader `json` takes a list of rows, too, and `field` one in an object."""
    if loader != "json":
        return loader
    is_list = head.lstrip().startswith("[")
    if "split" in known or is_list:
        return "json"
    unpacked = [file.removesuffix(".gz").removesuffix(".zst") for file in files]
    return "jsonl" if head or not all(file.endswith(".json") for file in unpacked) else "auto"


def _chosen_rows(chosen: Table, row: Row) -> list[tuple[str, object, str]]:
    """`preprocessing`: columns are selected by their old names there, before they are renamed, and by their new ones
    here; a column that is not selected makes way for one that gets its name."""
    rename: Mapping[str, str] = chosen["rename_columns"] or {}
    keys: list[tuple[str, object, str]] = []
    if rename:
        left = [name for name in rename.values() if name in row and name not in rename]
        away = {name: f"{name} (not selected)" for name in left if name not in (chosen["select_columns"] or left)}
        keys.append(("rename", {**rename, **away}, chosen.origin("rename_columns")))
    if chosen["select_columns"]:
        names = tuple(rename.get(name, name) for name in chosen["select_columns"])
        keys.append(("select", names, chosen.origin("select_columns")))
    if chosen["take"]:
        keys.append(("take", chosen["take"], chosen.origin("take")))
    return keys


def _seen_after(row: Row | None, chosen: Table) -> Row | None:
    if row is None:
        return None
    kept = chosen["select_columns"] or list(row)
    rename = chosen["rename_columns"] or {}
    return {rename.get(name, name): value for name, value in row.items() if name in kept}


def _concatenated(file: SpecFile, table: Table, tree: Mapping[str, Any], remarks: Remarks) -> Source:
    """MultiDataSourceSpec."""
    place = table.place
    parents = [read_source(file, (*place, "parents"), parent, remarks) for parent in table["parents"]]
    if remarks.problems:
        return Source(place, tree, [])
    alike = {(parent.template, parent.label) for parent in parents}
    if any(parent.needs_code for parent in parents) or len(alike) > 1:
        return by_code(file, place, tree, "parents")
    sources = [{key: _path_from_anywhere(key, value) for key, value, _ in parent.keys} for parent in parents]
    keys = [("kind", "concat", table.origin("spec_class")), ("sources", sources, "parents")]
    rows = [parent.row for parent in parents]
    row = rows[0]
    if row is not None:
        row = {name: value for name, value in row.items() if all(one is not None and name in one for one in rows)}
    return replace(parents[0], place=place, spec=tree, keys=keys, row=row)


def _path_from_anywhere(key: str, value: object) -> object:
    if key != "files":
        return value
    assert isinstance(value, tuple)
    return tuple(absolute(path, Path.cwd()) for path in value)


def _templated(file: SpecFile, table: Table, tree: Mapping[str, Any], remarks: Remarks) -> Source:
    """SequenceClassificationDatasourceSpec."""
    place = table.place
    parent = read_source(file, (*place, "parent"), table["parent"], remarks)
    if remarks.problems:
        return parent
    template = table["text_template"]
    plain = _is_plain(table.given("text_template"), remarks)
    if parent.needs_code or parent.template or not plain:
        return by_code(file, place, tree, table.origin("text_template"))
    row = parent.row
    if row is not None:
        names = _columns_of(template)
        missing = [name for name in (*names, table["label_column"]) if name not in row]
        if missing:
            given = table.given("label_column" if missing[0] == table["label_column"] else "text_template")
            reason = f"the rows have no column {missing[0]!r}, but {', '.join(row)}."
            remarks.problems.append(given.problem(reason))
        kept = {name: row[name] for name in table["keep_columns"] if name in row}
        row = {**kept, "text": "", "labels": row.get(table["label_column"])}
    return replace(
        parent,
        place=place,
        spec=tree,
        row=row,
        template="" if template == "{text}" else template,
        label=table["label_column"],
    )


def _columns_of(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _is_plain(given: Given, remarks: Remarks) -> bool:
    """Whether a template of Python has nothing but names of columns in its braces."""
    try:
        parts = list(string.Formatter().parse(given.value))
    except ValueError as error:
        remarks.problems.append(given.problem(f"{error}.", "Double a plain brace: {{ or }}."))
        return True
    fields = [part for part in parts if part[1] is not None]
    backslash = any("\\" in literal for literal, *_ in parts)  # which a template of ours reads as an escape
    return (
        bool(fields)
        and not backslash
        and all(name and not (spec or conversion) for _, name, spec, conversion in fields)
    )
