"""How long tests wait for what must come."""

import time
from collections.abc import Callable

PATIENCE = 900.0
"""Seconds: only a fault takes so long, also where ten others want the processor."""


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain"
        time.sleep(0.005)
