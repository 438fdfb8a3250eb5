"""Looks at a file and proposes how to read it: source, columns, labels; behind `textune init`, beside the data flow.

What it finds is a proposal for a person to look at; `notes` say what was not clear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.config.schema import Columns, FilesSource, Labels
from textune.data.columnar import read_parquet
from textune.data.files import FORMATS, bare_suffix, find_files
from textune.data.numeric import NUMBER
from textune.data.records import records_piece
from textune.data.rows import listing, shorten
from textune.data.sniff import SAMPLE_ROWS, Layout, sniff, to_source
from textune.data.sources import read_source
from textune.errors import DataError

_TEXT_NAMES = frozenset(
    {"text", "sentence", "review", "content", "body", "message", "comment", "tweet", "utterance", "document"}
)
_LABEL_NAMES = [
    *("label", "labels", "class", "category", "target", "sentiment", "score", "quality", "rating", "stars", "intent"),
    *("emotion", "emotions", "topic", "polarity", "tags", "gold_label", "label_text", "y"),
]
_ID_NAME = re.compile(
    r"(?:^|[\s_#.-])(?:id|ids|idx|index|uuid|guid|key|url|uri|link|file|filename|path|date|time|timestamp)$", re.I
)
_PAIRS = [
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("premise", "hypothesis"),
    ("#1 string", "#2 string"),
]
_LINE_PATTERNS = [
    (re.compile(r"__label__(?P<label>\S+)\s+(?P<text>.*)"), r"__label__(?P<label>\S+)\s+(?P<text>.*)"),
    (re.compile(r"(?P<label>[A-Z]{2,}):\S+ (?P<text>.*)"), r"(?P<label>[A-Z]{2,}):\S+ (?P<text>.*)"),
]
_MAX_LABELS = 200


@dataclass(frozen=True)
class Guess:
    """A proposal for the data section of a configuration."""

    source: FilesSource
    columns: Columns
    labels: Labels
    notes: tuple[str, ...] = ()
    """What a person should look at, in sentences."""


@dataclass(frozen=True)
class _Column:
    """What the sample shows of a column."""

    name: str
    values: tuple[Any, ...]
    """Values that are not empty."""
    num_rows: int

    @property
    def texts(self) -> list[str]:
        return [value for value in self.values if isinstance(value, str)]

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.texts)) / max(len(self.values), 1)

    @property
    def num_distinct(self) -> int:
        return len(set(map(str, self.values)))

    @property
    def is_number(self) -> bool:
        """Numbers, or text that is written so."""
        return all(
            isinstance(value, (int, float)) or (isinstance(value, str) and NUMBER.fullmatch(value.strip()))
            for value in self.values
        )

    @property
    def is_id(self) -> bool:
        """Named like one, or a word of its own in nearly each row."""
        if _ID_NAME.search(self.name):
            return True
        words = sum(1 for text in self.texts if re.fullmatch(r"[\w./:#@-]+", text, re.ASCII))
        return self.num_distinct > 0.9 * self.num_rows > 9 and words > 0.9 * len(self.values)

    @property
    def can_be_text(self) -> bool:
        return bool(self.texts) and len(self.texts) == len(self.values) and not self.is_number and not self.is_id


def guess_layout(files: Sequence[str]) -> Guess:
    """Propose how to read these files, from their names and the first rows of the first of them.

    A name with `label` in it beside a text file is taken for its parallel file of labels. DataError where a file is missing,
    empty or of no kind that can be read, or where no column holds text.
    """
    paths = find_files(files)
    label_files = [path for path in paths if "label" in path.name.lower()] if len(paths) > 1 else []
    if label_files and len(label_files) * 2 == len(paths):
        texts = tuple(str(path) for path in paths if path not in label_files)
        source = FilesSource(files=texts, format="text", label_files=tuple(map(str, label_files)))
        return Guess(source.model_copy(update={"encoding": sniff(Path(texts[0])).encoding}), Columns(), Labels())
    path = paths[0]
    layout = sniff(path)
    by_name = FORMATS.get(bare_suffix(path))
    notes = []
    if layout.encoding not in {"utf-8", "utf-16"}:
        notes.append(f"{path.name} is not UTF-8; {layout.encoding} is a guess: look at its accented letters and quotes.")
    if layout.format == "text":
        return _guess_lines(layout, tuple(files), by_name, notes)
    names: tuple[str, ...] = ()
    if layout.format in {"csv", "tsv"}:
        columns, names = _cells(layout)
        source = to_source(layout, tuple(files), by_name=by_name, column_names=())
    else:
        source = to_source(layout, tuple(files), by_name=by_name, column_names=())
        columns = _typed(layout, path)
    text, pair, label = _roles(columns, path.name)
    if not layout.has_header and names:
        names = _name_columns(names, text, pair, label)
        new = dict(zip((column.name for column in columns), names, strict=True))
        text, pair, label = new[text], new.get(pair or ""), new.get(label or "")
        columns = [replace(column, name=new[column.name]) for column in columns]
        source = source.model_copy(update={"column_names": names})
        notes.append(f"{path.name} seems to have no header line: its columns are named {listing(names)}.")
    labels = Labels()
    if label is None:
        notes.append("No column looks like a label: set data.columns.label.")
    else:
        labels = Labels(delimiter=_guess_delimiter(next(column for column in columns if column.name == label)))
    return Guess(source, Columns(text=text, text_pair=pair, label=label or "label"), labels, tuple(notes))


def _guess_lines(layout: Layout, files: tuple[str, ...], by_name: str | None, notes: list[str]) -> Guess:
    source = to_source(layout, files, by_name=by_name, column_names=())
    lines = [row[0] for row in layout.rows if row[0].strip()]
    for matcher, pattern in _LINE_PATTERNS:
        matches = [match for line in lines if (match := matcher.fullmatch(line))]
        num_labels = len({match["label"] for match in matches})
        if len(matches) > 0.95 * len(lines) and 2 <= num_labels <= _MAX_LABELS:
            return Guess(source.model_copy(update={"pattern": pattern}), Columns(), Labels(), tuple(notes))
    notes.append("The lines hold no labels that can be told from the text: set label_files or pattern.")
    return Guess(source, Columns(), Labels(), tuple(notes))


def _cells(layout: Layout) -> tuple[list[_Column], tuple[str, ...]]:
    """Columns of the sample and their names (numbered where there is no header)."""
    if not layout.rows:
        raise DataError("The file holds blank lines only.")
    body = layout.rows[1:] if layout.has_header else layout.rows
    names = tuple(cell.strip() for cell in layout.rows[0]) if layout.has_header else tuple(map(str, range(len(layout.rows[0]))))
    columns = [
        _Column(name, tuple(row[index] for row in body if row[index].strip()), len(body)) for index, name in enumerate(names)
    ]
    return columns, names


def _typed(layout: Layout, path: Path) -> list[_Column]:
    """Columns of the first rows of a file whose values have types."""
    if layout.format == "jsonl":
        table = records_piece(_records(layout), path.name, "line").table
    elif layout.format == "parquet":
        table = read_parquet(path, path.name, wanted=None, max_rows=SAMPLE_ROWS).table
    else:
        source = FilesSource(files=(str(path),), format=layout.format, encoding=layout.encoding)
        table = read_source(source, on_bad_row="skip").table.slice(0, SAMPLE_ROWS)
    return [
        _Column(name, tuple(value for value in table.column(name).to_pylist() if value not in (None, "")), table.num_rows)
        for name in table.column_names
    ]


def _records(layout: Layout) -> Iterator[Any]:
    for (line,) in layout.rows:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _roles(columns: list[_Column], file: str) -> tuple[str, str | None, str | None]:
    """Names of the text, of the second text of a pair, and of the label."""
    # A column without a name (often a row number) cannot be chosen in a configuration.
    columns = [column for column in columns if column.name]
    by_lower = {column.name.lower(): column for column in columns}
    pair = next(((by_lower[one].name, by_lower[two].name) for one, two in _PAIRS if one in by_lower and two in by_lower), None)
    texts = [column for column in columns if column.can_be_text]
    if pair is not None:
        return pair[0], pair[1], _label(columns, by_lower, texts=frozenset(pair))
    label = _label(columns, by_lower, texts=frozenset(column.name for column in texts))
    texts = [column for column in texts if column.name != label]
    if not texts:
        found = listing(shorten(column.name, 30) for column in columns)
        raise DataError(f"{file}: no column looks like text; columns found: {found}.", hint="Write the configuration by hand.")
    named = [column for name in ("text", "sentence") for column in texts if column.name.lower() == name]
    text = named[0] if named else max(texts, key=lambda column: (column.mean_length, column.name.lower() in _TEXT_NAMES))
    if label is None:
        label = _label(columns, by_lower, texts=frozenset({text.name}))
    return text.name, None, label


def _label(columns: list[_Column], by_lower: dict[str, _Column], *, texts: frozenset[str]) -> str | None:
    """The column with a label's name, else the one with the fewest different values, of at least two and no empty ones."""
    for name in _LABEL_NAMES:
        if name in by_lower and by_lower[name].values:
            return by_lower[name].name
    few = [
        column
        for column in columns
        if column.name not in texts
        and not column.is_id
        and len(column.values) == column.num_rows
        and 2 <= column.num_distinct <= max(2, min(_MAX_LABELS, column.num_rows // 2))
    ]
    return min(few, key=lambda column: column.num_distinct).name if few else None


def _name_columns(names: tuple[str, ...], text: str, pair: str | None, label: str | None) -> tuple[str, ...]:
    """Names for the columns of a file without header."""
    known = {text: "text", pair: "text_pair", label: "label"}
    return tuple(known.get(name) or f"column_{index}" for index, name in enumerate(names, 1))


def _guess_delimiter(column: _Column) -> str | None:
    """What separates several labels in a cell: its pieces are few, and most of them also stand alone somewhere."""
    cells = {text.strip() for text in column.texts}
    if len(column.texts) < len(column.values) or not cells:
        return None
    for delimiter in (",", "|", ";"):
        joined = [cell for cell in cells if delimiter in cell]
        pieces = {piece.strip() for cell in joined for piece in cell.split(delimiter)} - {""}
        if joined and len(pieces) <= _MAX_LABELS and len(pieces & cells) * 2 >= len(pieces):
            return delimiter
    return None
