"""How long tests wait for what must come, and what is worth waiting for every day."""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest

PATIENCE = 900.0
"""Seconds: only a fault takes so long, also where ten others want the processor."""


def every_day(grid: Iterable[Any], some: Collection[Any]) -> list[Any]:
    """The parameters of a test: all of `grid`, of which only `some` are not slow."""
    return [pytest.param(*_values(point), marks=[] if point in some else pytest.mark.slow) for point in grid]


def _values(point: Any) -> tuple[Any, ...]:
    return point if isinstance(point, tuple) else (point,)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain"
        time.sleep(0.005)
