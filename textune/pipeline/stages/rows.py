"""The rows of the preprocess stage: read from a file or a manifest, checked, and counted where they are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from textune.adapters import Inputs, read_mltable
from textune.config import FilesSource, absolute
from textune.data import Rows, read_source
from textune.errors import DataError
from textune.wording import count, listing

FEW_ROWS = 50
"""Training rows below which AzureML refuses to train; here, it is said."""


@dataclass(frozen=True)
class Checked:
    """The rows of one set that can be used; N of them."""

    name: str
    """`train`, `validation` or `test`."""
    rows: Rows
    texts: list[str]
    pairs: list[str] | None
    labels: list[str] | None
    """As names; None where the column is not there, which only test rows may do without."""
    dropped: dict[str, int]
    """Rows that were left out, by the reason."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: np.ndarray, name: str) -> Checked:
        """The chosen rows (int64 [M]) as the set `name`; those that were left out stay with this one."""
        chosen = indices.tolist()
        return replace(
            self,
            name=name,
            rows=self.rows.take(indices),
            texts=[self.texts[index] for index in chosen],
            pairs=None if self.pairs is None else [self.pairs[index] for index in chosen],
            labels=None if self.labels is None else [self.labels[index] for index in chosen],
            dropped={},
        )


def source_of(inputs: Inputs, name: str, notice: Callable[[str], None]) -> FilesSource | None:
    """Where the rows of a set come from: a manifest, which wins, or a file; None where neither is given."""
    file, table = f"{name}_file_path", f"{name}_mltable_path"
    if inputs[table] is not None:
        if inputs[file] is not None:
            notice(f"--{table} counts, --{file} = {inputs[file]} does not")
        return read_mltable(inputs.text(table), key=table)
    return None if inputs[file] is None else FilesSource(files=(absolute(inputs.text(file), Path.cwd()),))


def read_checked(source: FilesSource, name: str, inputs: Inputs, notice: Callable[[str], None]) -> Checked:
    """The rows of a set that have text and label.

    What is left out is counted by its reason and said. DataError for a column that is missing, of the wrong type or
    the same as another, and where no row is left.
    """
    rows = read_source(source)
    keys = [key for key in ("sentence1_key", "sentence2_key", "label_key") if inputs[key] is not None]
    _require_different(inputs, keys)
    found = {key: inputs.text(key) for key in keys}
    if name == "test" and found["label_key"] not in rows.table.column_names:
        del found["label_key"]
    for key, column in found.items():
        _require_column(rows, column, key)
    others = [column for column in rows.table.column_names if column not in found.values()]
    if others:
        notice(f"{name}: {count(len(others), 'column')} left out: {listing(others, 8)}")
    cells = {key: _texts(rows, column) for key, column in found.items()}
    _require_distinct_texts(rows, cells, inputs)
    kept, dropped = _usable(cells, found)
    if dropped:
        reasons = listing(f"{num:,} with {reason}" for reason, num in dropped.items())
        notice(f"{name}: {sum(dropped.values()):,} of {count(len(rows), 'row')} left out: {reasons}")
    if not len(kept):
        raise DataError(
            f"{rows.source}: no row has all of {listing(found.values())}.",
            hint="Every row needs a text and a label.",
            place=rows.source,
            reason="no row can be used",
        )
    chosen = {key: [column[row] for row in kept.tolist()] for key, column in cells.items()}
    full = {key: [value or "" for value in column] for key, column in chosen.items()}
    return Checked(
        name, rows.take(kept), full["sentence1_key"], full.get("sentence2_key"), full.get("label_key"), dropped
    )


def _require_different(inputs: Inputs, keys: list[str]) -> None:
    for number, key in enumerate(keys):
        for earlier in keys[:number]:
            if inputs[key] == inputs[earlier]:
                raise DataError(
                    f"--{key} and --{earlier} are both {inputs.text(key)!r}.",
                    hint="They need a column each.",
                    key=key,
                    value=inputs.text(key),
                    reason=f"it is --{earlier}, too",
                )


def _require_column(rows: Rows, column: str, key: str) -> None:
    """DataError where a column is missing or cannot be what it should."""
    if column not in rows.table.column_names:
        raise DataError(
            f"--{key} = {column}: {rows.source} has no such column; it has {listing(rows.table.column_names, 12)}.",
            hint=f"Set --{key} to one of them.",
            key=key,
            value=column,
            place=rows.source,
            reason="there is no such column",
        )
    kind = rows.table.schema.field(column).type
    is_text = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_null(kind)
    is_label = is_text or kinds.is_integer(kind) or kinds.is_boolean(kind)
    if not (is_label if key == "label_key" else is_text):
        wanted = "strings, whole numbers or truth values" if key == "label_key" else "strings"
        raise DataError(
            f"--{key} = {column}: {rows.source} has {kind} there, not {wanted}.",
            hint=f"Write the column as {wanted}.",
            key=key,
            value=column,
            place=rows.source,
            reason=f"it is {kind}",
        )


def _texts(rows: Rows, column: str) -> list[str | None]:
    """The cells of a column as text; truth values as Python writes them, as AzureML has class names."""
    found = rows.table.column(column)
    if kinds.is_boolean(found.type):
        return [None if cell is None else str(cell) for cell in found.to_pylist()]
    return list(found.cast(pa.large_string()).to_pylist())


def _require_distinct_texts(rows: Rows, cells: dict[str, list[str | None]], inputs: Inputs) -> None:
    if "sentence2_key" in cells and cells["sentence2_key"] == cells["sentence1_key"]:
        raise DataError(
            f"{rows.source}: the columns {inputs.text('sentence1_key')} and {inputs.text('sentence2_key')} hold the"
            " same texts in every row.",
            hint="Name the column of the second texts in --sentence2_key, or leave it out.",
            key="sentence2_key",
            value=inputs.text("sentence2_key"),
            place=rows.source,
            reason="both columns are the same",
        )


def _usable(cells: dict[str, list[str | None]], found: dict[str, str]) -> tuple[np.ndarray, dict[str, int]]:
    """int64 the rows in which no cell is missing or empty, and how many others there are by reason; a row counts for
    the first."""
    num = len(next(iter(cells.values())))
    usable_N = np.ones(num, bool)
    dropped: dict[str, int] = {}
    for key, column in cells.items():
        missing_N = np.fromiter((cell is None for cell in column), bool, num)
        empty_N = np.fromiter((cell is not None and not cell.strip() for cell in column), bool, num)
        for what, wrong_N in (("a missing", missing_N & usable_N), ("an empty", empty_N & usable_N)):
            if wrong_N.any():
                dropped[f"{what} {found[key]}"] = int(wrong_N.sum())
        usable_N &= ~(missing_N | empty_N)
    return np.flatnonzero(usable_N), dropped
