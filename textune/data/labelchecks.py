"""What makes labels of several files or data sets mean nothing together; used by `labels.py` and `targets.py`."""

from __future__ import annotations

from collections.abc import Sequence

from textune.data.classnames import NAME_THEM, unnamed_integers
from textune.data.columns import Examples
from textune.data.labelvalues import LabelValues
from textune.errors import DataError


def require_named(sets: Sequence[Examples], values: Sequence[LabelValues]) -> None:
    """DataError where integers stand without names beside classes that are named, in another file or data set."""
    for examples in sets:
        if examples.unclear:
            raise DataError(examples.unclear, hint=NAME_THEM)
    named = next((examples for examples in sets if examples.label_names), None)
    if named is None:
        return
    for examples, one in zip(sets, values, strict=True):
        integer = next((text for text, kind in zip(one.texts, one.kinds, strict=True) if kind == "integer"), None)
        if integer is not None and not examples.label_names:
            message = unnamed_integers(
                examples.rows.source, examples.label_column, integer, named.rows.source, named.label_names
            )
            raise DataError(message, hint=NAME_THEM)
