"""Inspects files and proposes how to read them: sources, columns, labels; behind `textune init`, outside the data
flow.

sniff.py     the layout of a file, from its beginning
profile.py   what its columns hold, from all of its rows
roles.py     which of them is the text, which the label
lineguess.py labels in lines of plain text
beside.py    which files are for training, validation and test, and which hold labels
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from textune.config import Columns, FilesSource, Labels
from textune.data.inspect.beside import FileParts, FileSet, PartName, is_training, part_of, sort_files
from textune.data.inspect.lineguess import find_columns, find_pattern
from textune.data.inspect.profile import Profile, profile_file, profile_table
from textune.data.inspect.roles import Roles, find_roles
from textune.data.inspect.sniff import Layout, sniff, to_source
from textune.data.reading import (
    ENDINGS,
    Rows,
    bare_suffix,
    find_files,
    format_of,
    read_source,
    read_text,
    splits_of,
)
from textune.wording import count, listing


@dataclass(frozen=True, kw_only=True)
class RowsGuess:
    """What rows seem to hold."""

    columns: Columns
    labels: Labels = field(default_factory=Labels)
    task: Literal["auto", "regression"] = "auto"
    has_label: bool = True
    """Whether labels were found."""
    column_names: tuple[str, ...] = ()
    """All columns of the first file."""
    num_rows: int | None = None
    """Rows of the first training file."""
    foreign_share: float = 0.0
    """Non-ASCII letters in the text."""
    notes: tuple[str, ...] = ()
    """What was chosen among several, and what to look at, as sentences."""
    unsettled: tuple[str, ...] = ()
    """What a person has to set before the proposal can be used, as sentences."""


@dataclass(frozen=True, kw_only=True)
class Guess(RowsGuess):
    """A proposal for the data section of a configuration."""

    source: FilesSource
    validation: FilesSource | None = None
    test: FilesSource | None = None


def guess_layout(files: Sequence[str]) -> Guess:
    """Propose how to read these files, from their names and all rows of the first of them.

    DataError where a file is missing, empty or of an unknown kind, or where no column holds text.
    """
    parts = sort_files(find_files(files), files)
    path = find_files(parts.train.files)[0]
    layout, text = sniff(path)
    notes = list(parts.notes)
    if layout.encoding not in {"utf-8", "utf-16"}:
        notes.append(f"{path.name} is not UTF-8; {layout.encoding} is a guess: check its accented letters and quotes.")
    if parts.train.labels:
        source = to_source(layout, parts.train.files, by_name=None)
        source = source.model_copy(update={"format": "text", "label_files": parts.train.labels})
        guess = _propose(source, profile_file(path, source), Roles("text", label="label"), ())
    elif layout.format in {"json", "jsonl"}:
        guess = _guess_document(path, layout, text, parts.train.files)
    elif layout.format == "text":
        guess = _guess_lines(path, layout, text, parts.train.files)
    else:
        guess = _guess_columns(path, layout, parts.train.files)
    return _with_held_out(replace(guess, notes=(*notes, *guess.notes)), parts)


def guess_rows(rows: Rows, *, text: str | None = None, label: str | None = None) -> RowsGuess:
    """The same of rows that are read already; `text`, `label`: columns that are known. DataError where no column
    holds text."""
    profile = Profile(profile_table(rows.table), len(rows))
    roles = find_roles(profile.columns, rows.source, named=True, text=text, label=label)
    return _about_rows(profile, roles, ())


def _guess_lines(path: Path, layout: Layout, text: str, files: tuple[str, ...]) -> Guess:
    """Lines of plain text: cut into columns or by a pattern, or without labels."""
    cells = find_columns(text, layout.encoding)
    if cells is not None:
        guess = _guess_columns(path, cells, files)
        if not guess.unsettled:
            return guess
    source = to_source(layout, files, by_name=ENDINGS.get(bare_suffix(path)))
    what = "set data.train.label_files, or data.train.pattern or delimiter"
    roles = Roles("text", unsettled=(f"No labels can be found in the lines of {path.name}: {what}.",))
    return _guess_pattern(path, source) or _propose(source, profile_file(path, source), roles, ())


def _guess_pattern(path: Path, source: FilesSource) -> Guess | None:
    """Lines that a pattern cuts into label and text; None where no pattern fits all of them."""
    found = find_pattern(path, source.encoding)
    if found is None:
        return None
    source = source.model_copy(update={"pattern": found.pattern, "skip_lines": found.skip_lines})
    roles = Roles("text", label="label", delimiter=found.delimiter, notes=(found.note,))
    return _propose(source, profile_file(path, source), roles, ())


def _guess_columns(path: Path, layout: Layout, files: tuple[str, ...]) -> Guess:
    source, profile, notes = _read_whole(path, layout, files)
    if profile.num_bad and len(layout.names) == 2:
        lines = _guess_pattern(path, to_source(Layout("text", layout.encoding), files, by_name=None))
        if lines is not None:
            return lines
    if layout.renames:
        notes.append(
            f"the columns of {path.name} are called {listing(layout.names, 8)} here, since its own names for"
            " them are repeated or incomplete (data.train.column_names)."
        )
    elif layout.skip_lines:
        notes.append(f"{path.name} begins with {count(layout.skip_lines, 'line')} to skip (data.train.skip_lines).")
    if layout.has_header:
        return _propose(source, profile, _roles(path, source, profile, named=True), notes)
    notes.append(f"{path.name} seems to have no header line")
    return _guess_numbered(path, source, profile, notes)


def _roles(path: Path, source: FilesSource, profile: Profile, *, named: bool) -> Roles:
    """The roles of the columns; the reader's DataError where no row can be read."""
    if not profile.num_rows:
        read_source(source, on_bad_row="skip")
    return find_roles(profile.columns, path.name, named=named)


def _guess_numbered(path: Path, source: FilesSource, profile: Profile, notes: list[str]) -> Guess:
    """The proposal for columns without names; the note about that comes last."""
    roles = _roles(path, source, profile, named=False)
    source, roles = _name_columns(source, roles, profile)
    notes[-1] += f": its columns are named {listing(source.column_names)}."
    return _propose(source, profile, roles, notes)


def _guess_document(path: Path, layout: Layout, text: str, files: tuple[str, ...]) -> Guess:
    """JSON: its rows, or the rows of one of its named lists; the other lists are for validation and test."""
    source = to_source(layout, files, by_name=ENDINGS.get(bare_suffix(path)))
    document: Any = (
        _load(read_text(path, layout.encoding))
        if layout.format == "json"
        else [_load(text.lstrip().partition("\n")[0])]
    )
    splits = splits_of(document)
    notes: list[str] = []
    by_part: dict[PartName, str] = {}
    if splits:
        by_part = _deal_out(splits)
        source = source.model_copy(update={"split": by_part["train"]})
        document = document[by_part["train"]]
        shown = ", ".join(
            f"{key!r} ({count(splits[key], 'row')}) for {_PURPOSES[part]}" for part, key in by_part.items()
        )
        notes.append(f"{path.name} holds named rows: {shown} (split).")
        unused = [repr(key) for key in splits if key not in by_part.values()]
        notes += [f"Its rows {listing(unused)} are not used."] if unused else []
    if isinstance(document, list) and document and isinstance(document[0], list):
        numbered = tuple(map(str, range(1, len(document[0]) + 1)))
        source = source.model_copy(update={"column_names": numbered})
        notes.append(f"The rows of {path.name} are lists of values")
        guess = _guess_numbered(path, source, profile_file(path, source), notes)
    else:
        profile = profile_file(path, source)
        guess = _propose(source, profile, _roles(path, source, profile, named=True), notes)
    held_out = {part: guess.source.model_copy(update={"split": key}) for part, key in by_part.items()}
    return replace(guess, validation=held_out.get("validation"), test=held_out.get("test"))


_PURPOSES: dict[PartName, str] = {"train": "training", "validation": "validation", "test": "the test"}


def _load(text: str) -> object:
    """The document; None where the file is not one, and the reader says why."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _deal_out(splits: Mapping[str, int]) -> dict[PartName, str]:
    """Which named lists are for training, validation and test; training gets the largest of those left."""
    key_of: dict[PartName, str] = {}
    for key in sorted(splits, key=len):  # `val` before `other_val`
        key_of.setdefault(part_of(key), key)
    named: dict[PartName, str] = {part: key for part, key in key_of.items() if part != "train"}
    rest = [key for key in splits if key not in named.values()] or list(splits)
    train = min((key for key in rest if is_training(key)), key=len, default=max(rest, key=lambda key: splits[key]))
    chosen: dict[PartName, str] = {"train": train}
    return chosen | {part: key for part, key in named.items() if key != train}


def _propose(source: FilesSource, profile: Profile, roles: Roles, notes: Sequence[str]) -> Guess:
    """The proposal that follows from the roles of the columns."""
    return Guess(source=source, **vars(_about_rows(profile, roles, notes)))


def _about_rows(profile: Profile, roles: Roles, notes: Sequence[str]) -> RowsGuess:
    text = next(column for column in profile.columns if column.name == roles.text)
    return RowsGuess(
        columns=Columns(text=roles.text, text_pair=roles.text_pair, label=roles.label or "label", labels=roles.labels),
        labels=Labels(delimiter=roles.delimiter),
        task="regression" if roles.is_number else "auto",
        has_label=roles.label is not None or bool(roles.labels),
        column_names=tuple(column.name for column in profile.columns),
        num_rows=profile.num_rows,
        foreign_share=text.num_foreign / max(text.num_characters, 1),
        notes=(*notes, *roles.notes),
        unsettled=roles.unsettled,
    )


def _read_whole(path: Path, layout: Layout, files: tuple[str, ...]) -> tuple[FilesSource, Profile, list[str]]:
    """The whole file, with quotes read in the way that loses fewer rows."""
    by_name = ENDINGS.get(bare_suffix(path))
    source = to_source(layout, files, by_name=by_name)
    profile = profile_file(path, source)
    if profile.num_bad and layout.format in {"csv", "tsv"}:
        plain = source.quoting == "none" or (source.quoting == "auto" and layout.format == "tsv")
        other = source.model_copy(update={"quoting": "standard" if plain else "none"})
        second = profile_file(path, other)
        if second.num_bad < profile.num_bad:
            source, profile = other, second
    notes = []
    if source.quoting == "standard":
        notes.append(f'Double quotes enclose cells in {path.name}: quoting = "standard".')
    elif source.quoting == "none":
        notes.append(f'Double quotes are plain characters in {path.name}: quoting = "none".')
    return source, profile, notes


def _name_columns(source: FilesSource, roles: Roles, profile: Profile) -> tuple[FilesSource, Roles]:
    """Names for the columns of a file without a header, which are only numbered so far."""
    known = {roles.text: "text", roles.text_pair: "text_pair", roles.label: "label"}
    names = tuple(known.get(name) or f"column_{name}" for name in source.column_names)
    new = dict(zip(source.column_names, names, strict=True))
    for column in profile.columns:
        column.name = new[column.name]

    def renamed(sentences: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            re.sub(r"(?<=[`{])\d+(?=[`}])", lambda match: new.get(match[0], match[0]), one) for one in sentences
        )

    changed = replace(
        roles,
        text=new[roles.text],
        text_pair=new.get(roles.text_pair or ""),
        label=new.get(roles.label or ""),
        labels=tuple(new[name] for name in roles.labels),
        notes=renamed(roles.notes),
        unsettled=renamed(roles.unsettled),
    )
    return source.model_copy(update={"column_names": names}), changed


def _with_held_out(guess: Guess, parts: FileParts) -> Guess:
    """The proposal with the validation and test files that can be read like the training files."""
    if guess.unsettled or (parts.validation is None and parts.test is None):
        return guess
    notes: list[str] = []
    validation = _held_out(guess, parts.validation, "validation", notes)
    test = _held_out(guess, parts.test, "test", notes)
    return replace(guess, validation=validation, test=test, notes=(*guess.notes, *notes))


def _held_out(guess: Guess, files: FileSet | None, part: str, notes: list[str]) -> FilesSource | None:
    """Files with the columns and labels of the training files, as a source; if they differ, a note says how."""
    if files is None:
        return None
    source, reason = _like_training(guess, files)
    shown = listing((Path(file).name for file in files.files), 4)
    if reason:
        notes.append(f"{shown} is left out: {reason}.")
        return None
    if not files.given:
        notes.append(f"{shown}, next to the training file, is taken as the {part}.")
    return source


def _like_training(guess: Guess, files: FileSet) -> tuple[FilesSource, str]:
    """The source that reads these files as training files are read, and why it cannot be used, if so."""
    path = Path(files.files[0])
    train = guess.source
    layout, _ = sniff(path)
    update: dict[str, object] = {"files": files.files, "encoding": layout.encoding, "label_files": files.labels}
    if layout.format in {"csv", "tsv"} and format_of(path, train.format) == layout.format:
        update |= {"delimiter": layout.delimiter, "quoting": _read_whole(path, layout, files.files)[0].quoting}
    source = train.model_copy(update=update)
    if files.labels:
        return source, ""
    columns = {column.name: column for column in profile_file(path, source).columns}
    labels = guess.columns.labels or (guess.columns.label,)
    wanted = [guess.columns.text, guess.columns.text_pair, *labels]
    lacking = [name for name in wanted if name is not None and name not in columns]
    if lacking:
        return source, f"it has no column {listing(map(repr, lacking))}"
    label = columns[labels[0]]
    if label.num_empty * 2 > label.num_rows or label.num_distinct < 2:
        return source, f"it has no labels in its column {labels[0]!r}"
    return source, ""
