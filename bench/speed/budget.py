"""The time of a whole run, shared out among its questions: what one does not use the later ones have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter


class Budget:
    """`seconds` for questions that each want some; start-up counts."""

    def __init__(self, seconds: float, wanted: Mapping[str, float], *, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._wanted = dict(wanted)

    def share(self, name: str) -> float | None:
        """Seconds for the next question, in proportion to what it and the ones after it want; None where no time is left."""
        left = self._end - self._clock()
        among = sum(self._wanted.values())
        wanted = self._wanted.pop(name)
        return left * wanted / among if left > 0 else None
