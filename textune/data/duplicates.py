"""Texts that stand in the data more than once, as they are or but for case, spacing and punctuation; used by `audit.py`.

Legend: N rows; equal texts share a code.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.columns import Examples
from textune.data.numeric import flat

_SEPARATOR = "\x1f"
"""Between the texts of a pair; stands in no ordinary text."""


def joined_text(examples: Examples) -> pa.Array:
    """The text of each row, both texts of a pair in one, large_string [N]."""
    if examples.text_pair is None:
        return flat(examples.text)
    return flat(pc.binary_join_element_wise(examples.text, examples.text_pair, pa.scalar(_SEPARATOR, pa.large_string())))


def normalised(texts: pa.Array) -> pa.Array:
    """Texts in Unicode form NFKC, in lower case, without punctuation, white space collapsed."""
    folded = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    plain = pc.replace_substring_regex(folded, pattern=r"[\pP\s\pZ]+", replacement=" ")
    return pc.utf8_trim_whitespace(plain)


def is_blank(texts: pa.Array) -> np.ndarray:
    """Whether each text holds nothing but white space, bool [N]."""
    trimmed = pc.utf8_trim_whitespace(pc.replace_substring(texts, _SEPARATOR, " "))
    return np.asarray(pc.equal(pc.binary_length(trimmed), 0).to_numpy(zero_copy_only=False))


def text_codes(texts: pa.Array) -> np.ndarray:
    """A number for each text, equal for equal texts, int64 [N]; numbered in order of first appearance."""
    return np.asarray(pc.dictionary_encode(texts).indices.cast(pa.int64()).to_numpy(zero_copy_only=False))


def repeated(code_N: np.ndarray) -> np.ndarray:
    """Rows whose text stood there before, int64, in order."""
    first_C = np.full(int(code_N.max()) + 1 if len(code_N) else 0, -1)
    # Written backwards, so that the first row of each text remains.
    first_C[code_N[::-1]] = np.arange(len(code_N))[::-1]
    return np.flatnonzero(first_C[code_N] != np.arange(len(code_N)))


def conflicting(code_N: np.ndarray, target_N: np.ndarray) -> np.ndarray:
    """Rows whose text has another target elsewhere, int64, equal texts together; `target_N` is one number a row."""
    if not len(code_N):
        return np.zeros(0, np.int64)
    order = np.argsort(code_N, kind="stable")
    starts = np.flatnonzero(np.diff(code_N[order], prepend=-1))
    sorted_N = target_N[order]
    mixed = np.minimum.reduceat(sorted_N, starts) != np.maximum.reduceat(sorted_N, starts)
    sizes = np.diff(np.append(starts, len(order)))
    return np.asarray(order[np.repeat(mixed, sizes)])


def one_number(targets: np.ndarray) -> np.ndarray:
    """Targets as one number a row: multi-hot rows get a number for each combination."""
    if targets.ndim == 1:
        return targets
    packed = np.packbits(targets.astype(bool), axis=1)
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    return np.asarray(np.unique(rows, return_inverse=True)[1])


def shared(texts: pa.Array, others: pa.Array) -> np.ndarray:
    """Rows of `texts` that stand in `others` too, int64; blank texts do not count."""
    found = pc.is_in(texts, value_set=pc.unique(others)).to_numpy(zero_copy_only=False)
    return np.flatnonzero(found & ~is_blank(texts))
