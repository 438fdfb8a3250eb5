"""Label sets as bits: 0 or 1 for each of C labels of N rows, in D = ceil(C / 8) bytes per row; for `labels.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

NUMBERS_AT_ONCE = 1 << 16
"""Numbers (rows x labels) that are worked on at a time, so that intermediate arrays stay in the cache."""


def pack_labels(labels: np.ndarray) -> np.ndarray:
    """Labels 0 or 1 as [N, C] of any number type to bits, uint8 [N, D]."""
    packed = np.empty((len(labels), -(-labels.shape[1] // 8)), dtype=np.uint8)
    for rows in row_blocks(len(labels), labels.shape[1]):
        packed[rows] = np.packbits(labels[rows] > 0, axis=1)
    return packed


def unpack_labels(bits: np.ndarray, num_labels: int) -> np.ndarray:
    """The inverse: uint8 [..., C] of 0 and 1."""
    return np.unpackbits(bits, axis=-1, count=num_labels)


def one_value(bits: np.ndarray) -> np.ndarray:
    """Rows of bytes [N, D] as single values [N] that compare by their bytes, which sort much faster."""
    return np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1])))[:, 0]


def count_labels(bits: np.ndarray, num_labels: int, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 [C] number of rows with each label; int64 `weights` [N]: how often each row counts."""
    total = np.zeros(num_labels)
    for rows in row_blocks(len(bits), num_labels):
        labels = unpack_labels(bits[rows], num_labels)
        total += labels.sum(axis=0, dtype=np.int64) if weights is None else weights[rows].astype(np.float64) @ labels
    return total


def sum_labels(bits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64 [N] for each row, the sum of `values` [C] over its labels."""
    sums = np.empty(len(bits))
    for rows in row_blocks(len(bits), len(values)):
        sums[rows] = unpack_labels(bits[rows], len(values)) @ values
    return sums


def has_label(bits: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """bool [N] whether each row has the label `label_N` (int [N]) names for it."""
    byte_N = bits[np.arange(len(bits)), label_N >> 3]
    return np.asarray((byte_N >> (7 - (label_N & 7))) & 1).astype(bool)


def row_blocks(num_rows: int, num_labels: int) -> Iterator[slice]:
    """Slices of at most `NUMBERS_AT_ONCE` numbers, or of one row, if each row has `num_labels` numbers."""
    step = max(1, NUMBERS_AT_ONCE // num_labels)
    return (slice(start, start + step) for start in range(0, num_rows, step))
