"""The rows of a set by the values of a column (`evaluate.slices`), and a number for what each row's texts are; beside
`duplicates.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.cells import text_cells
from textune.data.columns import Examples
from textune.data.inspect.duplicates import joined_blocks
from textune.data.prepared import PreparedData
from textune.errors import DataError, Setting, Words
from textune.wording import listing

KEY = "evaluate.slices"
MAX_SLICES = 50
"""Values that a column of `evaluate.slices` may have: a report has a line for each."""


@dataclass(frozen=True, eq=False)
class Slicing:
    """How N rows fall into slices."""

    column: str
    values: tuple[str, ...]
    """What the rows of each slice have in common, in the order of the report."""
    slice_N: np.ndarray
    """int32 [N] index into `values`; -1 for a row that has no value."""


def slice_rows(examples: Examples, names: Sequence[str]) -> tuple[Slicing, ...]:
    """The examples by the values of each of these columns, in alphabetical order; white space around a value does
    not count, and an empty cell is no value.

    DataError for a column that is missing, holds lists or objects, or has more than `MAX_SLICES` values.
    """
    return tuple(_slicing(examples, name) for name in names)


def require_slices(data: PreparedData, names: Sequence[str], *, sets: Collection[str]) -> None:
    """DataError where the rows of one of these sets cannot be sliced by these columns, as `slice_rows`."""
    for name in sets:
        if name in data.splits and not data.splits[name].examples.rows.partial:
            slice_rows(data.splits[name].chosen_examples, names)


def _slicing(examples: Examples, name: str) -> Slicing:
    rows = examples.rows
    text = pc.utf8_trim_whitespace(text_cells(rows, name, key=KEY)).take(pa.array(examples.indices))
    found = pc.dictionary_encode(text).unify_dictionaries()
    words = found.chunk(0).dictionary.to_pylist() if found.num_chunks else []
    values = tuple(sorted(word for word in words if word))
    if len(values) > MAX_SLICES:
        raise DataError(
            f"{rows.source}: column {name!r} has {len(values):,} values, such as {listing(map(repr, values), 3)};"
            f" evaluate.slices takes columns of at most {MAX_SLICES}.",
            hint=Words(
                "Name another column, or give rows that belong together one value with ",
                Setting("data.train.replace"),
                " (and that of the other sets).",
            ),
            key=KEY,
            value=name,
            place=rows.source,
            reason=f"it has {len(values):,} values",
        )
    place = {value: index for index, value in enumerate(values)}
    slice_of_word = np.array([*(place.get(word, -1) for word in words), -1], np.int32)  # the last one for no cell
    codes = [np.asarray(pc.fill_null(chunk.indices, len(words))) for chunk in found.chunks]
    return Slicing(name, values, slice_of_word[np.concatenate([np.zeros(0, np.int64), *codes])])


def content_numbers(examples: Examples) -> np.ndarray:
    """uint64 [N] a number for the texts of each example, the same in every process and on every machine; two texts
    share one by chance only."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for block in joined_blocks(examples)
        for text in pc.fill_null(block, "").to_numpy(zero_copy_only=False)
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
