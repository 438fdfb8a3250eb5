"""Rows that come as token ids instead of texts (`data.columns.tokens`); used by `columns.py`.

Files that the `datasets` library wrote, or another system's preprocessing, hold lists in the columns `input_ids`,
`token_type_ids` and `attention_mask`. What is padding there is left out: how rows are laid out is settled later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from textune.data.cells import find_column, is_json
from textune.data.reading import Fault, Rows, flat, is_list
from textune.errors import DataError
from textune.wording import shorten

TYPES_COLUMN: Final = "token_type_ids"
MASK_COLUMN: Final = "attention_mask"
_KEY: Final = "data.columns.tokens"
_LARGEST: Final = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class TokenIds:
    """Token ids of N rows, one after the other."""

    ids: np.ndarray
    """int32 [total]."""
    types: np.ndarray | None
    """uint8 [total] which text of a pair each token belongs to; None where the rows do not say."""
    offsets: np.ndarray
    """int64 [N+1] where each row begins, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each row."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> TokenIds:
        """The chosen rows, in that order; int64 [M]."""
        length_M = self.lengths[indices]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(length_M)])
        places = np.repeat(self.offsets[:-1][indices] - offsets[:-1], length_M) + np.arange(offsets[-1])
        return TokenIds(self.ids[places], None if self.types is None else self.types[places], offsets)

    def written(self) -> pa.ChunkedArray:
        """Each row as text, large_string [N]: its ids with spaces between them."""
        words = pa.array(self.ids).cast(pa.large_string())
        lists = pa.LargeListArray.from_arrays(pa.array(self.offsets), words)
        return pa.chunked_array([pc.binary_join(lists, pa.scalar(" ", pa.large_string()))])


def read_token_ids(rows: Rows, name: str, bad: dict[int, Fault]) -> TokenIds:
    """The token ids of the column `name`, without padding; rows that have none or cannot be used are noted in `bad`
    and get no token here. DataError where the column does not hold lists of whole numbers."""
    ids, length_N = _lists(rows, name)
    beyond = (ids < 0) | (ids > _LARGEST)
    row_T = np.repeat(np.arange(len(rows)), length_N)
    for row in np.unique(row_T[beyond]).tolist():
        bad[row] = Fault(f"column {name!r} holds something else than token ids, whole numbers from 0", None)
    kept_T = ~beyond & ~np.isin(row_T, list(bad))
    if MASK_COLUMN in rows.table.column_names:
        mask = _beside(rows, MASK_COLUMN, name, length_N, bad)
        kept_T &= mask == 1
        _refuse_holes(mask, row_T, length_N, bad)
    types = None
    if TYPES_COLUMN in rows.table.column_names:
        types = _beside(rows, TYPES_COLUMN, name, length_N, bad)
        for row in np.unique(row_T[(types < 0) | (types > 255)]).tolist():
            bad.setdefault(row, Fault(f"column {TYPES_COLUMN!r} holds something else than token types", None))
    kept_T &= ~np.isin(row_T, list(bad))
    kept_N = np.bincount(row_T[kept_T], minlength=len(rows))
    for row in np.flatnonzero(kept_N == 0).tolist():
        bad.setdefault(row, Fault(f"column {name!r} holds no token id", rows.table.column(name)[row].as_py()))
    return TokenIds(
        ids[kept_T].astype(np.int32),
        None if types is None else types[kept_T].astype(np.uint8),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_N)]),
    )


def _lists(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column of lists, int64 [total] with -1 for what is missing, and how many each row has, int64
    [N]."""
    column = find_column(rows, name, key=_KEY)
    inner = column.type.value_type if is_list(column.type) else None
    if inner is None or is_json(rows, name) or not (kinds.is_integer(inner) or kinds.is_null(inner)):
        raise DataError(
            f"{rows.source}: column {name!r} holds {shorten(column[0].as_py(), 40)}, not lists of whole numbers.",
            hint="Token ids are lists such as [101, 7592, 102], in a jsonl, json or parquet file.",
            key=_KEY,
            value=name,
            place=rows.source,
            reason="it does not hold lists of whole numbers",
        )
    array = flat(column).cast(pa.large_list(pa.int64()))
    length_N = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return pc.fill_null(array.flatten(), -1).to_numpy(zero_copy_only=False), np.asarray(length_N, np.int64)


def _beside(rows: Rows, name: str, tokens: str, length_N: np.ndarray, bad: dict[int, Fault]) -> np.ndarray:
    """int64 [total] the numbers of a column with one for each token; 0 in rows that have another count."""
    values, count_N = _lists(rows, name)
    for row in np.flatnonzero(count_N != length_N).tolist():
        bad.setdefault(
            row, Fault(f"column {name!r} has {count_N[row]} numbers, but {tokens!r} has {length_N[row]} tokens", None)
        )
    if (count_N == length_N).all():
        return values
    found = np.zeros(length_N.sum(), np.int64)
    same_N = count_N == length_N
    found[np.repeat(same_N, length_N)] = values[np.repeat(same_N, count_N)]
    return found


def _refuse_holes(mask: np.ndarray, row_T: np.ndarray, length_N: np.ndarray, bad: dict[int, Fault]) -> None:
    """Note rows whose mask is no mask, or leaves out tokens between others."""
    for row in np.unique(row_T[(mask != 0) & (mask != 1)]).tolist():
        bad.setdefault(row, Fault(f"column {MASK_COLUMN!r} holds something else than 0 and 1", None))
    before = np.concatenate([[0], mask[:-1]]) if len(mask) else mask
    before[(np.cumsum(length_N) - length_N)[length_N > 0]] = 0
    starts_N = np.bincount(row_T[(mask == 1) & (before != 1)], minlength=len(length_N))
    for row in np.flatnonzero(starts_N > 1).tolist():
        bad.setdefault(row, Fault(f"column {MASK_COLUMN!r} leaves out tokens between others", None))
