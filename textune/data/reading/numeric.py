"""Numbers from columns of any plain type; shared by weights (`columns.py`) and labels (`labels/`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
INTEGER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
"""The most digits that Python reads."""


_WITH_COMMA = re.compile(
    r"[+-]?(?:\d{1,3}(?:[,.'\u2019 \u00a0\u202f\u2009]\d{3})+(?:[.,]\d+)?|\d+,\d+)(?:\s?[%\u20ac$\u00a3])?"
    r"|[+-]?[\d.]+\s?%",
    re.ASCII,
)
NUMBER_ADVICE = "Write numbers plainly, with a decimal point and no thousands separator: 1000 or 0.5."


def number_advice(texts: Iterable[str]) -> str:
    """What to do about the first text that only people read as a number, such as `1,000`, `0,5` or `50 %`; "" if
    none."""
    return NUMBER_ADVICE if any(_WITH_COMMA.fullmatch(text) and not NUMBER.fullmatch(text) for text in texts) else ""


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array instead of chunks."""
    if isinstance(column, pa.Array):
        return column
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    listed = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    return bool(listed or kinds.is_list_view(kind) or kinds.is_large_list_view(kind))


def to_floats(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values as float64 [N] (NaN where there is no number) and whether each is a number, bool [N].

    Text counts as a number if it is written as a plain decimal, white space around it aside. Never
    a DataError; a type without numbers has none.
    """
    num = len(column)
    if is_text(column.type):
        encoded = pc.dictionary_encode(pc.utf8_trim_whitespace(flat(column)))
        values = [text if text and NUMBER.fullmatch(text) else "nan" for text in encoded.dictionary.to_pylist()]
        numbers = np.array([float(text) for text in values] + [np.nan])
        index_N = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
        float_N = numbers[index_N]
    elif kinds.is_integer(column.type) or kinds.is_floating(column.type) or kinds.is_boolean(column.type):
        plain = column.cast(pa.uint8()) if kinds.is_boolean(column.type) else column
        float_N = np.asarray(plain.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    elif kinds.is_decimal(column.type):
        float_N = np.array([np.nan if value is None else float(value) for value in column.to_pylist()], np.float64)
    else:
        float_N = np.full(num, np.nan)
    return float_N, ~np.isnan(float_N)
