"""The factor that keeps fp16 gradients above zero, where `torch.amp.GradScaler` cannot reach them; for `zero.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class LossScale:
    """The rule and the state of `torch.amp.GradScaler`: doubled after `interval` good steps, halved after a bad one."""

    value: float = 2.0**16
    interval: int = 2000
    least: float = 0.0
    """It is not halved below this."""
    good_steps: int = 0
    """Steps since the last change."""

    def update(self, *, overflow: bool) -> None:
        """After a step, which was left out if a gradient was not finite (`overflow`)."""
        if overflow:
            self.value, self.good_steps = max(self.value * 0.5, self.least), 0
            return
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.value, self.good_steps = self.value * 2.0, 0

    def state_dict(self) -> dict[str, Any]:
        """In the form of GradScaler, so that each goes on from the other's."""
        return {
            "scale": self.value,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": self.interval,
            "_growth_tracker": self.good_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of this class or of GradScaler."""
        self.value, self.good_steps = float(state["scale"]), int(state["_growth_tracker"])
        self.interval = int(state["growth_interval"])
