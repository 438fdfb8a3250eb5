"""Corrections of training rows, from a file that people review: other labels, and rows to leave out.

corrections.csv --read_corrections--> Corrections --applied to the training rows after others are set aside--> Split

Each line names a row of the training source by its number and by its text, so a file for other data is refused. The
rows of evaluation stay as they are: what a correction is worth is measured on labels that nobody has touched.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textune.atomic import write_text
from textune.data.inspect import content_numbers
from textune.data.labels import LabelMap
from textune.data.prepared import Split
from textune.errors import DataError
from textune.wording import count, listing, nearest

COLUMNS = ("row", "task", "label", "proposed", "worth", "why", "place", "text", "content")
"""Of such a file, in this order; `worth` and what follows `why` are for its readers, who may ask for a least worth."""
_NEEDED = ("row", "task", "label", "proposed", "content")
_ADD, _REMOVE = "+", "-"
"""Before a label of several: a row is given it, or loses it."""


@dataclass(frozen=True)
class Correction:
    """What becomes of one training row."""

    row: int
    """Its number in the training source, from 0."""
    task: str
    """The head whose label it is."""
    label: str
    """As it stands in the data; of several labels empty."""
    proposed: str
    """The label instead; of several labels `+name` or `-name`; empty: the row is left out."""
    content: str
    """A number for its text, in hexadecimal."""
    worth: float = 0.0
    """NaN where the file does not say."""
    why: str = ""
    place: str = ""
    text: str = ""


@dataclass(frozen=True)
class Corrections:
    """All lines of a file."""

    lines: tuple[Correction, ...]
    source: str
    """Where they stand."""

    def worth_at_least(self, least: float) -> Corrections:
        """Those that are worth so much; DataError for a line that does not say what it is worth."""
        for number, line in enumerate(self.lines, start=1):
            if math.isnan(line.worth):
                raise _refused(Path(self.source), f"correction {number} (row {line.row:,}) has no number for `worth`")
        return replace(self, lines=tuple(line for line in self.lines if line.worth >= least))

    @property
    def fingerprint(self) -> str:
        """Hash of what they do."""
        told = sorted((line.row, line.task, line.proposed) for line in self.lines)
        return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def write_corrections(lines: Sequence[Correction], path: Path) -> None:
    """Write a file of corrections, one line each, for spreadsheets and editors alike."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        values = {**vars(line), "worth": f"{line.worth:.4g}"}
        writer.writerow([values[name] for name in COLUMNS])
    write_text(path, text.getvalue())


def read_corrections(path: str | Path) -> Corrections:
    """The lines of a file; DataError where one cannot be understood."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if absent:
                raise _refused(path, f"it has no column {listing(map(repr, absent), 8)}")
            return Corrections(tuple(_line(path, reader.line_num, row) for row in reader), str(path))
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refused(path, str(error)) from error


def _refused(path: Path, reason: str, *, line: int | None = None) -> DataError:
    place = str(path) if line is None else f"{path}, line {line}"
    return DataError(
        f"the corrections {place} cannot be used: {reason}.",
        hint="Write them with `textune doctor`, and change only the column `proposed`, or take whole lines out.",
        key="data.corrections",
        place=place,
        reason=reason,
    )


def _line(path: Path, number: int, row: Mapping[str, str | None]) -> Correction:
    values = {name: (row.get(name) or "").strip() for name in _NEEDED}
    if not values["row"].isascii() or not values["row"].isdigit():
        raise _refused(path, f"row = {values['row']!r} is not the number of a row", line=number)
    task, label, proposed, content = (values[name] for name in ("task", "label", "proposed", "content"))
    told = {name: row.get(name) or "" for name in ("why", "place", "text")}
    return Correction(int(values["row"]), task, label, proposed, content, _number(row.get("worth")), **told)


def _number(written: str | None) -> float:
    try:
        return float(written or "")
    except ValueError:
        return math.nan


def correct(train: Split, corrections: Corrections, label_maps: Mapping[str, LabelMap]) -> tuple[Split, str]:
    """The training rows with their corrections, and a sentence about them.

    DataError for a row that is not there or has another text than the file says, a label that it does not have, one
    that no row has, two lines that contradict each other.
    """
    own = train.examples.take(train.indices)
    known = {int(number): position for position, number in enumerate(own.indices.tolist())}
    source = {int(number) for number in train.examples.indices.tolist()}
    path = Path(corrections.source)
    _require_one_line_each(path, corrections.lines)
    content_N = content_numbers(own)
    targets = {name: values.copy() for name, values in train.targets.items()}
    left_out = np.zeros(len(own), bool)
    num_aside = 0
    for line in corrections.lines:
        if line.row not in known:
            if line.row not in source:
                raise _refused(path, f"{own.rows.source} has no row {line.row:,}")
            num_aside += 1  # it is held out in this run
            continue
        position = known[line.row]
        if f"{int(content_N[position]):016x}" != line.content:
            raise _refused(path, f"row {line.row:,} of {own.rows.source} has another text than the file says")
        if not line.proposed:
            left_out[position] = True
            continue
        example = int(train.indices[position])
        label_map = _map_of(line, label_maps, path)
        targets[line.task][example] = _target(line, label_map, targets[line.task][example], path)
    indices = train.indices[~left_out]
    if not len(indices):
        raise _refused(path, "they leave no training rows")
    changed = replace(train, targets=targets, indices=indices, corrections=corrections.fingerprint)
    return changed, _said(corrections, int(left_out.sum()), num_aside)


def _require_one_line_each(path: Path, lines: Sequence[Correction]) -> None:
    seen: dict[tuple[int, str, str], str] = {}
    for line in lines:
        key = (line.row, line.task, line.proposed.lstrip(_ADD + _REMOVE) if not line.label else "")
        if seen.setdefault(key, line.proposed) != line.proposed:
            raise _refused(path, f"row {line.row:,} is given {seen[key]!r} and {line.proposed!r}")


def _map_of(line: Correction, label_maps: Mapping[str, LabelMap], path: Path) -> LabelMap:
    if line.task not in label_maps or not label_maps[line.task].choices:
        raise _refused(path, f"row {line.row:,}: there is no task {line.task!r} with labels")
    return label_maps[line.task]


def _target(line: Correction, label_map: LabelMap, now: np.ndarray, path: Path) -> np.ndarray | int:
    """What the row's target becomes."""
    name = line.proposed if label_map.exclusive else line.proposed[1:]
    if name not in label_map.ids or (not label_map.exclusive and line.proposed[0] not in (_ADD, _REMOVE)):
        near = nearest(name, list(label_map.names))
        hint = f"; did you mean {near!r}?" if near else ""
        form = "" if label_map.exclusive else " (write +name or -name)"
        raise _refused(path, f"row {line.row:,}: {line.proposed!r} is not a label{form}{hint}")
    label = label_map.ids[name]
    if label_map.exclusive:
        given = label_map.names[int(now)] if int(now) >= 0 else ""
        if given != line.label:
            raise _refused(path, f"row {line.row:,} has the label {given!r}, not {line.label!r}")
        return label
    changed = np.array(now)
    changed[label] = line.proposed[0] == _ADD
    return changed


def _said(corrections: Corrections, num_left_out: int, num_aside: int) -> str:
    done = len(corrections.lines) - num_left_out - num_aside
    said = f"{corrections.source}: {count(done, 'label')} of training rows corrected"
    said += f", {count(num_left_out, 'row')} left out" if num_left_out else ""
    return said + (f"; {count(num_aside, 'line')} about held-out rows do nothing here" if num_aside else "")
