"""Values drawn from distributions: each draw follows from the seed, its trial and its key alone.

To add a distribution, write its section in `config/sweepkeys.py` and a row of `DISTRIBUTIONS`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textune.config import Problem, RandomSearch, Section, format_value, refuse
from textune.draws import fractions_of
from textune.studies.cells import Values

_DIGITS = 4
"""Significant digits of a drawn number: more would say nothing and make it hard to read."""
_MAX_ATTEMPTS = 1000


@dataclass(frozen=True)
class Drawn:
    """What is known of a kind of distribution; each function takes its section first."""

    at: Callable[[Any, float], object]
    """The value at a fraction of the way through, from 0 to 1 (exclusive)."""
    edges: Callable[[Any], list[object]]
    """The values that show whether all are possible: the ends, or each."""


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _uniform(section: Any, fraction: float) -> float:
    return _rounded(section.low + fraction * (section.high - section.low), section.low, section.high)


def _log_uniform(section: Any, fraction: float) -> float:
    low, high = math.log(section.low), math.log(section.high)
    return _rounded(math.exp(low + fraction * (high - low)), section.low, section.high)


def _num_steps(section: Any) -> int:
    return int((section.high - section.low) // section.step) + 1


def greatest(section: Any) -> int:
    """The greatest whole number that is a whole number of steps from the least."""
    found: int = section.low + section.step * (_num_steps(section) - 1)
    return found


def _ends(section: Any) -> list[object]:
    return [section.low, section.high]


DISTRIBUTIONS: dict[str, Drawn] = {
    "uniform": Drawn(_uniform, _ends),
    "log_uniform": Drawn(_log_uniform, _ends),
    "int": Drawn(
        lambda section, fraction: section.low + section.step * int(fraction * _num_steps(section)),
        lambda section: [section.low, greatest(section)],
    ),
    "choice": Drawn(
        lambda section, fraction: section.values[int(fraction * len(section.values))],
        lambda section: list(section.values),
    ),
}
"""Every kind of distribution by name."""


def drawn(search: RandomSearch) -> list[Values]:
    """The values of every trial, no two alike. ConfigError where the space has fewer combinations than trials."""
    found: dict[str, Values] = {}
    for trial in range(search.trials):
        for attempt in range(_MAX_ATTEMPTS):
            values = _draw(search.space, search.seed, trial, attempt)
            text = format_value(values, one_line=True)
            if text not in found:
                found[text] = values
                break
        else:
            message = f"random.trials = {search.trials}: only {len(found)} different combinations were found."
            hint = "Ask for fewer trials, or name the values in [grid]."
            refuse([Problem(("random", "trials"), message, hint, search.trials)])
    return list(found.values())


def _draw(space: Mapping[str, Section], seed: int, trial: int, attempt: int) -> Values:
    values = {}
    for key, section in space.items():
        fraction = float(fractions_of(seed, trial, attempt, zlib.crc32(key.encode()))[0])
        values[key] = DISTRIBUTIONS[kind_of(section)].at(section, fraction)
    return values


def kind_of(section: Any) -> str:
    """The name of a distribution."""
    name: str = section.kind
    return name


def corners(space: Mapping[str, Section]) -> list[Values]:
    """Combinations in which each key takes each of its edges, the others their first one."""
    edges = {key: DISTRIBUTIONS[kind_of(section)].edges(section) for key, section in space.items()}
    first = {key: values[0] for key, values in edges.items()}
    found: list[Values] = [first]
    found += [first | {key: value} for key, values in edges.items() for value in values[1:]]
    return found
