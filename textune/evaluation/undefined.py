"""The policy for values that are not defined for the rows at hand, such as a correlation of constant numbers.

A formula returns NaN, never a number in its place, and `Metric.undefined` says when. Means over classes leave NaN out,
and it is neither better nor worse than anything. JSON holds null, people see a dash, and a note in the report says
why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

UNDEFINED = math.nan
DASH = "-"


def is_undefined(value: float) -> bool:
    """Whether the value is not defined."""
    return math.isnan(value)


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the defined values of float64 [...]; undefined if none is."""
    return UNDEFINED if np.isnan(values).all() else float(np.nanmean(values))


def is_better(own: float, other: float, *, higher: bool) -> bool | None:
    """Whether `own` is better than `other`, where `higher` is better or worse; None if either is undefined."""
    if is_undefined(own) or is_undefined(other):
        return None
    return own > other if higher else own < other


def to_json(value: Any) -> Any:
    """The same tree in the types that JSON has: NaN and infinities as None, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Named numbers read from JSON, with null as undefined."""
    return {name: UNDEFINED if value is None else value for name, value in values.items()}
