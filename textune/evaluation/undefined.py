"""Values that are not defined for the rows at hand, such as a correlation of constant numbers: one policy for all of them.

A formula gives NaN, never a number that stands for it, and says when (`Metric.undefined`); means over classes leave it out; it
is never better or worse than anything; JSON holds null, people see a dash, and a note of the report gives the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

UNDEFINED = math.nan
DASH = "-"


def is_undefined(value: float) -> bool:
    """Whether there is no such value."""
    return math.isnan(value)


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of float64 [...] without what is undefined; undefined where all of them are."""
    return UNDEFINED if np.isnan(values).all() else float(np.nanmean(values))


def is_better(own: float, other: float, *, higher: bool) -> bool | None:
    """Whether one value is better than another, the better one `higher` or lower; None where either is undefined."""
    if is_undefined(own) or is_undefined(other):
        return None
    return own > other if higher else own < other


def to_json(value: Any) -> Any:
    """A tree of Python's own types, as JSON knows them: what is not finite as None, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Named numbers as JSON held them, with what is undefined in place of null."""
    return {name: UNDEFINED if value is None else value for name, value in values.items()}
