"""Texts that stand in the data more than once, as they are or but for case, spacing and punctuation; used by `audit.py`.

Legend: N rows; equal texts share a code.
"""

from __future__ import annotations

import string

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
    blocks = [_collapsed(folded.slice(start, _BLOCK_ROWS)) for start in range(0, len(folded), _BLOCK_ROWS)]
    plain = flat(pa.chunked_array(blocks, pa.large_string()))
    foreign = pc.invert(pc.string_is_ascii(plain))
    if not pc.any(foreign).as_py():
        return plain
    # Marks beyond ASCII need the slower regular expression; other rows are done.
    rest = pc.replace_substring_regex(plain.filter(foreign), pattern=r"[\pP\s\pZ]+", replacement=" ")
    return pc.replace_with_mask(plain, foreign, pc.utf8_trim_whitespace(rest))


_BLOCK_ROWS = 1 << 16
_IS_MARK = np.array([chr(byte).isspace() or chr(byte) in string.punctuation for byte in range(128)] + [False] * 128)


def _collapsed(texts: pa.Array) -> pa.Array:
    """The texts with each run of ASCII white space and punctuation made one space, none at the ends."""
    _, offsets, data = texts.buffers()
    offset_N = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if data is None or offset_N[0] == offset_N[-1]:
        return texts
    bytes_T = np.frombuffer(data, np.uint8)[offset_N[0] : offset_N[-1]]
    offset_N = offset_N - offset_N[0]
    mark_T = _IS_MARK[bytes_T]
    after_mark_T = np.append(True, mark_T[:-1])
    after_mark_T[offset_N[:-1][offset_N[:-1] < len(bytes_T)]] = True
    keep_T = ~(mark_T & after_mark_T)
    kept = np.where(mark_T, np.uint8(ord(" ")), bytes_T)[keep_T]
    kept_before = np.append(0, np.cumsum(keep_T))
    result = pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(kept_before[offset_N].tobytes()), pa.py_buffer(kept.tobytes())
    )
    return pc.ascii_trim_whitespace(result)


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
