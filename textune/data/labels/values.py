"""A label column as written, to distinct values and codes; the groundwork of `infer.py`.

Only distinct values are ever examined, so a million rows cost little more than their dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.config import Labels
from textune.data.reading import INTEGER, NUMBER, Entries, flat, is_list, is_text, name_of, read_lists
from textune.errors import DataError
from textune.wording import shorten

if TYPE_CHECKING:
    from textune.data.columns import Examples

Kind = Literal["integer", "number", "name"]

MISSING = -1
"""The code of an entry without a label, and the target of a row that has none for a head."""


def has_label(targets: np.ndarray) -> np.ndarray:
    """bool [N] whether each row has a label for the head of these targets, [N] or [N, C]; only ids can be MISSING."""
    if targets.ndim > 1 or not np.issubdtype(targets.dtype, np.integer):
        return np.ones(len(targets), bool)
    return np.asarray(targets != MISSING)


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The labels of N rows: one each (K = N), or a list each (K entries in all)."""

    texts: tuple[str, ...]
    """The distinct values as text, stripped of white space."""
    kinds: tuple[Kind, ...]
    """What each distinct value is: an integer, another number (`0.5`, `1.0`), a name."""
    code_K: np.ndarray
    """int64 [K] index into `texts`; MISSING for none."""
    length_N: np.ndarray | None
    """int64 [N] entries of each list, MISSING for no list; None where each row has one value."""
    written: str = ""
    """The first cell, if the file has its lists as text."""

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
    """The labels as written; DataError where the examples were read without labels."""
    if examples.label is None:
        raise DataError(f"{examples.rows.source} was read without labels.")
    return examples.label


def label_values(examples: Examples, section: Labels, *, keeps_empty: bool = False) -> LabelValues:
    """Distinct values and codes of the examples' labels; `keeps_empty` as in `read_labels`."""
    where = f"{examples.rows.source}: label column {examples.label_column!r}"
    column, names = label_column(examples), examples.label_names
    return read_labels(
        column,
        delimiter=section.delimiter,
        label_names=names,
        where=where,
        place=examples.place,
        known=section.names,
        keeps_empty=keeps_empty,
    )


def read_labels(
    column: pa.ChunkedArray,
    *,
    delimiter: str | None,
    label_names: tuple[str, ...],
    where: str,
    place: Callable[[int], str],
    known: tuple[str, ...] = (),
    keeps_empty: bool = False,
) -> LabelValues:
    """The values of a label column. If all cells are written as lists, they are lists, unless they are `known` names.

    `delimiter` cuts text into lists; empty pieces fall away unless `keeps_empty`, which makes them entries without a
    label, and other plain values become lists of one.
    `label_names`: names for integers, by the source itself (a negative one means no label). `where` begins the message
    of a DataError, `place` says where a row stands.
    """
    array = _as_text_column(flat(column), where)
    kind = array.type
    if is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), MISSING)
        values = _plain(array.flatten(), label_names, where)
        return replace(values, length_N=lengths.to_numpy(zero_copy_only=False))
    if is_text(kind):
        array = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
        if (lists := _written_lists(array, delimiter, label_names, where, place, known)) is not None:
            return lists
    if delimiter is None:
        return _plain(array, label_names, where)
    if is_text(kind):
        return _split(array, delimiter, label_names, where, keeps_empty=keeps_empty)
    values = _plain(array, label_names, where)
    length_N = np.where(values.code_K == MISSING, MISSING, 1)
    return replace(values, code_K=values.code_K[values.code_K != MISSING], length_N=length_N)


def _written_lists(
    array: pa.Array,
    delimiter: str | None,
    label_names: tuple[str, ...],
    where: str,
    place: Callable[[int], str],
    known: tuple[str, ...],
) -> LabelValues | None:
    """Lists that are written as text; None where the cells are something else. DataError where most cells are lists,
    but not all."""
    encoded = pc.dictionary_encode(array)
    cells = [cell for cell in encoded.dictionary.to_pylist() if cell]
    if not cells or {name.strip() for name in known}.issuperset(cells):
        return None
    lists = read_lists(cells, delimiter)
    if not lists:
        return None
    other = next((cell for cell, entries in zip(cells, lists, strict=True) if entries is None), None)
    if other is not None:
        if sum(entries is not None for entries in lists) * 2 <= len(lists):
            return None
        example = next(cell for cell, entries in zip(cells, lists, strict=True) if entries is not None)
        row = place(pc.index(array, other).as_py())
        raise DataError(
            f"{where} holds lists written as text, such as {shorten(example, 40)}, but also {shorten(other, 40)}"
            f" ({row}).",
            hint="Write all cells as lists, or none of them.",
            value=other,
            place=row,
            reason="not a list, among lists",
        )
    values = _spread(encoded, dict(zip(cells, lists, strict=True)), label_names, where)
    return replace(
        values, written=next((cell for cell, entries in zip(cells, lists, strict=True) if entries), cells[0])
    )


def _split(
    array: pa.Array, delimiter: str, label_names: tuple[str, ...], where: str, *, keeps_empty: bool
) -> LabelValues:
    if not delimiter:
        raise DataError("data.labels.delimiter is empty.", hint='Set it to what separates two labels, such as ",".')
    encoded = pc.dictionary_encode(array.cast(pa.large_string()))
    cells: dict[str, Entries | None] = {
        cell: tuple(piece for one in cell.split(delimiter) if (piece := one.strip()) or keeps_empty)
        for cell in encoded.dictionary.to_pylist()
    }
    if keeps_empty and "" in cells:
        cells[""] = None
    return _spread(encoded, cells, label_names, where)


def _spread(
    encoded: pa.DictionaryArray, entries: Mapping[str, Entries | None], label_names: tuple[str, ...], where: str
) -> LabelValues:
    """Lists by cell to lists by row: cells repeat, so only distinct ones are cut. A cell that is not in the map
    has no list."""
    found = [entries.get(cell) for cell in encoded.dictionary.to_pylist()]
    cells = [one or () for one in found]
    size_D = np.array([len(cell) for cell in cells] + [0], np.int64)
    start_D = np.concatenate([np.zeros(1, np.int64), np.cumsum(size_D)])[:-1]
    pieces = _plain(pa.array([piece for cell in cells for piece in cell], pa.large_string()), label_names, where)
    cell_N = pc.fill_null(encoded.indices.cast(pa.int64()), len(cells)).to_numpy(zero_copy_only=False)
    length_N = size_D[cell_N]
    first_K = np.repeat(start_D[cell_N] - (np.cumsum(length_N) - length_N), length_N)
    code_K = pieces.code_K[first_K + np.arange(len(first_K))] if len(first_K) else np.zeros(0, np.int64)
    missing_D = np.array([one is None for one in found] + [True])
    return replace(pieces, code_K=code_K, length_N=np.where(missing_D[cell_N], MISSING, length_N))


def _as_text_column(array: pa.Array, where: str) -> pa.Array:
    """Bytes as text; anything else unchanged."""
    kind = array.type
    if not (
        kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_binary_view(kind)
        or kinds.is_fixed_size_binary(kind)
    ):
        return array
    try:
        return array.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowException as error:
        raise DataError(f"{where} holds bytes that are not UTF-8 text, which cannot be labels.") from error


def _plain(array: pa.Array, label_names: tuple[str, ...], where: str) -> LabelValues:
    array = _as_text_column(array, where)
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
            hint="Labels are names, integers, numbers, true/false, or lists of these.",
        )
    encoded = pc.dictionary_encode(array)
    distinct = encoded.dictionary.to_pylist()
    texts = [as_text(value) for value in distinct]
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


def as_text(value: object) -> str:
    """A label as text: `true`, `0.5`, `neg`; NaN is none."""
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

    Such lists have one length of at least 2 and hold only 0 and 1. From length 3 on it is enough if most do:
    as a list of ids, such a row would repeat an id, which no list of ids does.
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


def respelt(values: LabelValues, spell: Callable[[str], str]) -> LabelValues:
    """The same labels in another spelling; those that become equal become one."""
    merged = _without_empty([spell(text) for text in values.texts], list(values.kinds), values.code_K)
    return replace(values, texts=merged.texts, kinds=merged.kinds, code_K=merged.code_K)


def bit_of(text: str) -> int | None:
    """0 or 1 for a multi-hot entry, however it is written."""
    return {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}.get(text)
