"""How the values of one metric spread over several runs: mean, standard deviation, range, and an interval of the mean.

The runs of a cross-validation share most of their training rows, so their values are not independent, and the usual
interval of a mean is much too narrow. That of Nadeau and Bengio (Inference for the Generalization Error, Machine
Learning 52, 2003) takes 1/n + (rows tested on) / (rows trained on) where the usual one has 1/n; for folds repeated
with several seeds see Bouckaert and Frank (PAKDD 2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from textune.jsontext import finite

if TYPE_CHECKING:
    from pydantic import JsonValue

LEVEL = 0.95
"""How sure an interval is."""


@dataclass(frozen=True)
class Spread:
    """The values of a metric, one of each run."""

    values: tuple[float, ...]
    """In the order of the runs; NaN where the metric is undefined, and then so is everything else."""
    mean: float
    deviation: float
    """Standard deviation over the runs, as of a sample (n - 1); NaN of one run."""
    low: float
    high: float
    interval: tuple[float, float] | None = None
    """95 % interval of the mean; None where the runs do not tell one."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object; what is undefined is null."""
        found: dict[str, JsonValue] = finite(asdict(self))
        found["interval_95"] = found.pop("interval")
        return found


def spread_of(values: Sequence[float], interval: tuple[float, float] | None = None) -> Spread:
    """The spread of at least one value; a float64 mean does not depend on their order (`math.fsum`)."""
    mean = math.fsum(values) / len(values)
    return Spread(tuple(values), mean, _deviation(values), _least(values), -_least([-one for one in values]), interval)


def interval_over_folds(values: Sequence[float], folds: int) -> tuple[float, float] | None:
    """The corrected interval of the mean of n values, one of each fold and seed: mean +- t s sqrt(1/n + 1/(K - 1)),
    as each fold is 1/(K - 1) of the rows it is trained beside. None of fewer than two values."""
    return _interval(values, 1 / len(values) + 1 / (folds - 1)) if len(values) > 1 else None


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """The usual t interval of the mean of n independent values, one of each seed; None of fewer than two."""
    return _interval(values, 1 / len(values)) if len(values) > 1 else None


def _interval(values: Sequence[float], share: float) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    half = t_quantile(len(values) - 1) * _deviation(values) * math.sqrt(share)
    return mean - half, mean + half


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _least(values: Sequence[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else min(values)


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """The number that Student's t with so many degrees of freedom exceeds in size with probability 1 - `level`."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < level:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_within(middle, freedom) < level else (low, middle)
    return high


def t_within(limit: float, freedom: int) -> float:
    """P(-limit <= t <= limit) for Student's t with a whole number of degrees of freedom (Abramowitz and Stegun 26.7.3
    and 26.7.4)."""
    angle = math.atan2(limit, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * power / (power + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
