"""Texts that occur more than once, exactly or up to case, spacing and punctuation; used by `audit.py`.

Texts are read in blocks, and only a 64-bit number is kept of each, so ten million rows of any length need a few
hundred MB. Among ten million texts, two different ones share a number about once in 400,000 runs.

Legend: N rows; equal texts have the same key.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.columns import Examples
from textune.data.reading import flat

_SEPARATOR = "\x1f"
"""Between the texts of a pair; does not occur in ordinary text."""
_BLOCK_ROWS = 1 << 16
_BLOCK_BYTES = 1 << 23
"""Normalising a block takes about twenty times its size in memory."""
_BLOCK_KEYS = 1 << 20


def joined_blocks(examples: Examples) -> Iterator[pa.Array]:
    """The text of each row, both texts of a pair in one, large_string, in blocks."""
    for start in range(0, len(examples), _BLOCK_ROWS):
        text = examples.text.slice(start, _BLOCK_ROWS)
        if examples.text_pair is not None:
            pair = examples.text_pair.slice(start, _BLOCK_ROWS)
            text = pc.binary_join_element_wise(text, pair, pa.scalar(_SEPARATOR, pa.large_string()))
        yield from _by_bytes(flat(text))


def blocks_of(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The texts of one column, large_string, in blocks."""
    for start in range(0, len(column), _BLOCK_ROWS):
        yield from _by_bytes(flat(column.slice(start, _BLOCK_ROWS)))


def _by_bytes(texts: pa.Array) -> Iterator[pa.Array]:
    """The same in pieces of at most `_BLOCK_BYTES`; a longer text is a piece by itself."""
    offset_N = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(offset_N, offset_N[start] + _BLOCK_BYTES, side="right")) - 1
        end = min(len(texts), max(end, start + 1))
        yield texts.slice(start, end - start)
        start = end


def joined_text(examples: Examples, index: int) -> str:
    """The text of one row."""
    first: str = examples.text[index].as_py()
    return first if examples.text_pair is None else f"{first}{_SEPARATOR}{examples.text_pair[index].as_py()}"


def text_keys(blocks: Iterator[pa.Array]) -> np.ndarray:
    """A number for each text, equal for equal texts, int64 [N]. Python hashes text differently in every process."""
    keys = [np.fromiter(map(hash, block.to_numpy(zero_copy_only=False)), np.int64, len(block)) for block in blocks]
    return np.concatenate([np.zeros(0, np.int64), *keys])


EMPTY_KEY = hash("")


def normalised(texts: pa.Array) -> pa.Array:
    """Texts in Unicode form NFKD, in lower case, without punctuation, white space collapsed."""
    # The decomposed form: NFC and NFKC of pyarrow before 26 do not compose, so they differ between versions.
    plain = _collapsed(pc.utf8_lower(pc.utf8_normalize(texts, form="NFKD")))
    foreign = pc.invert(pc.string_is_ascii(plain))
    if not pc.any(foreign).as_py():
        return plain
    # Punctuation beyond ASCII needs the slower regular expression; all other rows are done.
    rest = pc.replace_substring_regex(plain.filter(foreign), pattern=r"[\pP\s\pZ]+", replacement=" ")
    return pc.replace_with_mask(plain, foreign, pc.utf8_trim_whitespace(rest))


_IS_MARK = np.array([chr(byte).isspace() or chr(byte) in string.punctuation for byte in range(128)] + [False] * 128)
_IS_MARK[ord(_SEPARATOR)] = False  # white space to Python, but it matters where a pair is divided


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


def repeated(key_N: np.ndarray) -> np.ndarray:
    """Rows whose text occurred earlier, int64, in order."""
    order = np.argsort(key_N, kind="stable")
    sorted_N = key_N[order]
    return np.sort(order[1:][sorted_N[1:] == sorted_N[:-1]])


def conflicting(key_N: np.ndarray, target_N: np.ndarray) -> np.ndarray:
    """Rows whose text has a different target elsewhere, int64, equal texts together; `target_N` is one number per
    row."""
    if not len(key_N):
        return np.zeros(0, np.int64)
    order = np.argsort(key_N, kind="stable")
    sorted_N = key_N[order]
    starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    sorted_N = target_N[order]
    mixed = np.minimum.reduceat(sorted_N, starts) != np.maximum.reduceat(sorted_N, starts)
    sizes = np.diff(np.append(starts, len(order)))
    rows = order[np.repeat(mixed, sizes)]
    # Keys differ from process to process: what is shown first must not depend on them.
    first_rows = np.repeat(order[starts[mixed]], sizes[mixed])
    return np.asarray(rows[np.lexsort((rows, first_rows))])


def one_number(targets: Mapping[str, np.ndarray]) -> np.ndarray:
    """Targets by head as one number per row: multi-hot rows, and rows of several heads, get a number for each
    combination."""
    if len(targets) > 1:
        return _by_combination(np.stack([one_number({name: of_head}) for name, of_head in targets.items()], axis=1))
    (of_head,) = targets.values()
    return of_head if of_head.ndim == 1 else _by_combination(np.packbits(of_head.astype(bool), axis=1))


def _by_combination(table: np.ndarray) -> np.ndarray:
    """A number for each row of a table, the same for equal rows."""
    rows = np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1] * table.itemsize))).ravel()
    return np.asarray(np.unique(rows, return_inverse=True)[1])


def shared(key_N: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each key is one of `others`, bool [N]."""
    found_N = np.zeros(len(key_N), bool)
    for start in range(0, len(others), _BLOCK_KEYS):
        found_N |= np.isin(key_N, others[start : start + _BLOCK_KEYS])
    return found_N
