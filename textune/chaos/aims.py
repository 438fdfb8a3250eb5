"""What the kills aim at, and when the moment of a kill has come."""

from __future__ import annotations

import random
import time

from textune.chaos.reference import Pace, Reference
from textune.chaos.watch import Phase, Watcher

AIMS: dict[Phase, float] = {"start-up": 0.15, "training": 0.25, "writing": 0.35, "evaluating": 0.15, "reporting": 0.1}
"""The share of kills for each phase: a write is short, and chance alone would seldom meet one."""


def draw_aims(generator: random.Random, kills: int, *, evaluates: bool) -> list[Phase]:
    """What each kill aims at, in random order and in the shares of `AIMS`."""
    names = [name for name in AIMS if evaluates or name != "evaluating"]
    total = sum(AIMS[name] for name in names)
    edges = [sum(AIMS[name] for name in names[: index + 1]) / total for index in range(len(names))]
    aims = [
        next((name for name, edge in zip(names, edges, strict=True) if (number + 0.5) / kills <= edge), names[-1])
        for number in range(kills)
    ]
    generator.shuffle(aims)
    return aims


class Moment:
    """The moment of one kill: once its phase has begun, a random time passes."""

    def __init__(
        self, aim: Phase, watcher: Watcher, reference: Reference, pace: Pace, *, generator: random.Random, done: int
    ) -> None:
        """`done` steps are not done again, so that what is left of the training is shorter."""
        self._aim = aim
        self._watcher = watcher
        self._reference = reference
        share = generator.random()
        ahead = [step for step in reference.evaluations if step > done]
        self._evaluation = generator.choice(ahead) if ahead else None
        training = share * pace.training * (1 - done / reference.steps)
        waits: dict[Phase, float] = {
            "start-up": share * pace.start_up,
            "training": training,
            "writing": generator.random() * pace.writing,
            "evaluating": share * reference.seconds_per_line,
            "reporting": share * pace.reporting,
        }
        self._wait = waits[aim]
        self._first_write = share * training
        """Seconds of training after which a write is met, so that not all kills meet the first one."""
        self._since: float | None = None

    def has_come(self) -> bool:
        """Asked each time the folder was looked at."""
        if self._since is None and self._has_begun():
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() >= self._since + self._wait

    def _has_begun(self) -> bool:
        watcher = self._watcher
        if self._aim == "start-up":
            return True
        if watcher.opened is None:
            return False
        if self._aim == "writing":
            return bool(watcher.writing) and time.monotonic() >= watcher.opened + self._first_write
        if self._aim == "evaluating":
            line = watcher.last_line()
            if line is None or line["kind"] != "step" or self._evaluation is None:
                return False
            return self._reference.is_last_line_before(line["step"], self._evaluation)
        return self._aim == "training" or watcher.trained is not None
