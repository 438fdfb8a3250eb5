"""A label column as it stands, to distinct values and codes; the groundwork of `labels.py`.

Everything that looks at values looks at the distinct ones, so a million rows cost little more than their dictionary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.config.schema import Labels
from textune.data.classnames import name_of
from textune.data.columns import Examples
from textune.data.numeric import INTEGER, NUMBER, flat, is_list, is_text
from textune.errors import DataError

Kind = Literal["integer", "number", "name"]

MISSING = -1


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The labels of N rows: one each (K = N), or a list each (K entries in all)."""

    texts: tuple[str, ...]
    """The distinct values as text, white space around them removed."""
    kinds: tuple[Kind, ...]
    """What each distinct value is: an integer, another number (`0.5`, `1.0`), a name."""
    code_K: np.ndarray
    """int64 [K] index into `texts`; MISSING for none."""
    length_N: np.ndarray | None
    """int64 [N] entries of each list, MISSING for no list; None where each row has one value."""

    @property
    def is_lists(self) -> bool:
        return self.length_N is not None

    @property
    def row_K(self) -> np.ndarray:
        """Row of each entry, int64 [K]."""
        if self.length_N is None:
            return np.arange(len(self.code_K))
        return np.repeat(np.arange(len(self.length_N)), np.maximum(self.length_N, 0))

    @property
    def counts(self) -> np.ndarray:
        """Entries of each distinct value."""
        return np.bincount(self.code_K[self.code_K != MISSING], minlength=len(self.texts))


def label_column(examples: Examples) -> pa.ChunkedArray:
    """The labels as they stand; DataError where the examples were read without."""
    if examples.label is None:
        raise DataError(f"{examples.rows.source} was read without labels.")
    return examples.label


def label_values(examples: Examples, section: Labels) -> LabelValues:
    """Distinct values and codes of the examples' labels."""
    where = f"{examples.rows.source}: label column {examples.label_column!r}"
    return read_labels(label_column(examples), delimiter=section.delimiter, label_names=examples.label_names, where=where)


def read_labels(column: pa.ChunkedArray, *, delimiter: str | None, label_names: tuple[str, ...], where: str) -> LabelValues:
    """The values of a label column.

    `delimiter` cuts text into lists; empty pieces fall away, and other plain values become lists of one. `label_names`: names
    for integers, by the source itself (a negative one means no label). `where` begins the message of a DataError.
    """
    array = flat(column)
    kind = array.type
    if is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), MISSING)
        values = _plain(array.flatten(), label_names, where)
        return replace(values, length_N=lengths.to_numpy(zero_copy_only=False))
    if delimiter is None:
        return _plain(array, label_names, where)
    if is_text(kind):
        return _split(array, delimiter, label_names, where)
    values = _plain(array, label_names, where)
    length_N = np.where(values.code_K == MISSING, MISSING, 1)
    return replace(values, code_K=values.code_K[values.code_K != MISSING], length_N=length_N)


def _split(array: pa.Array, delimiter: str, label_names: tuple[str, ...], where: str) -> LabelValues:
    if not delimiter:
        raise DataError("data.labels.delimiter is empty.", hint='Set it to what stands between two labels, such as ",".')
    encoded = pc.dictionary_encode(array.cast(pa.large_string()))
    # Cells repeat, so the distinct ones are cut and then spread over the rows.
    cells = [[piece for one in cell.split(delimiter) if (piece := one.strip())] for cell in encoded.dictionary.to_pylist()]
    size_D = np.array([len(cell) for cell in cells] + [0], np.int64)
    start_D = np.concatenate([np.zeros(1, np.int64), np.cumsum(size_D)])[:-1]
    pieces = _plain(pa.array([piece for cell in cells for piece in cell], pa.large_string()), label_names, where)
    cell_N = pc.fill_null(encoded.indices.cast(pa.int64()), len(cells)).to_numpy(zero_copy_only=False)
    length_N = size_D[cell_N]
    first_K = np.repeat(start_D[cell_N] - (np.cumsum(length_N) - length_N), length_N)
    code_K = pieces.code_K[first_K + np.arange(len(first_K))] if len(first_K) else np.zeros(0, np.int64)
    return replace(pieces, code_K=code_K, length_N=np.where(cell_N == len(cells), MISSING, length_N))


def _plain(array: pa.Array, label_names: tuple[str, ...], where: str) -> LabelValues:
    kind = array.type
    if kinds.is_null(kind):
        return LabelValues((), (), np.full(len(array), MISSING), None)
    if kinds.is_decimal(kind):
        array = array.cast(pa.float64())
    elif is_text(kind):
        array = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
        raise DataError(
            f"{where} holds {kind}, which cannot be labels.",
            hint="Labels are names, integers, numbers, true/false or lists of them.",
        )
    encoded = pc.dictionary_encode(array)
    distinct = encoded.dictionary.to_pylist()
    texts = [_as_text(value) for value in distinct]
    kinds_of = [_kind_of(text, value) for text, value in zip(texts, distinct, strict=True)]
    if label_names and kinds.is_integer(kind):
        texts = [name_of(value, label_names) or "" for value in distinct]
        kinds_of = ["name"] * len(texts)
    code_K = pc.fill_null(encoded.indices.cast(pa.int64()), MISSING).to_numpy(zero_copy_only=False)
    return _without_empty(texts, kinds_of, code_K)


def _without_empty(texts: list[str], kinds_of: list[Kind], code_K: np.ndarray) -> LabelValues:
    """Empty values become MISSING; equal ones (`-0.0`) become one."""
    position: dict[str, int] = {}
    table = np.full(len(texts) + 1, MISSING)
    kept: list[Kind] = []
    for index, (text, kind) in enumerate(zip(texts, kinds_of, strict=True)):
        if text == "":
            continue
        if text not in position:
            position[text] = len(position)
            kept.append(kind)
        table[index] = position[text]
    return LabelValues(tuple(position), tuple(kept), table[code_K], None)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def _kind_of(text: str, value: object) -> Kind:
    if isinstance(value, bool):
        return "name"
    if isinstance(value, float):
        return "number"
    if INTEGER.fullmatch(text):
        return "integer"
    return "number" if NUMBER.fullmatch(text) else "name"


def whole(text: str) -> str | None:
    """`1` for `1.0` or `1e0`: how a whole number is written as an integer; None for anything else."""
    if INTEGER.fullmatch(text) or not NUMBER.fullmatch(text):
        return None
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else None


def multi_hot_width(values: LabelValues) -> int:
    """Number of labels if the lists are rows of a 0/1 table, else 0.

    Then they have one length of at least 2 and hold nothing but 0 and 1. From length 3 on it is enough that most do: such a row
    would name an id twice, which no list of ids does.
    """
    if values.length_N is None:
        return 0
    length_N = values.length_N[values.length_N != MISSING]
    if not len(length_N):
        return 0
    widths, frequency = np.unique(length_N, return_counts=True)
    width = int(widths[frequency.argmax()])
    bits = np.array([bit_of(text) is not None for text in values.texts] + [False])
    row_K = values.row_K
    num_bits_N = np.bincount(row_K[bits[values.code_K]], minlength=len(values.length_N))
    num_fitting = int(((values.length_N == width) & (num_bits_N == width)).sum())
    if width < 2 or num_fitting * 2 <= len(length_N) or (width == 2 and num_fitting < len(length_N)):
        return 0
    return width


def bit_of(text: str) -> int | None:
    """0 or 1 for the ways in which a multi-hot entry is written."""
    return {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}.get(text)
