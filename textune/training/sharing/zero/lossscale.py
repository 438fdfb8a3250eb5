"""The factor that keeps fp16 gradients above zero, where `torch.amp.GradScaler` cannot reach them; for `update.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class LossScale:
    """The rule and the state of `torch.amp.GradScaler`: doubled after `interval` good steps, halved after a bad
    one."""

    value: float = 2.0**16
    interval: int = 2000
    least: float = 0.0
    """It is not halved below this."""
    good_steps: int = 0
    """Steps since the last change."""

    def update(self, *, overflow: bool) -> None:
        """Adapt it after a step, which was skipped if a gradient was not finite (`overflow`)."""
        if overflow:
            self.value, self.good_steps = max(self.value * 0.5, self.least), 0
            return
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.value, self.good_steps = self.value * 2.0, 0

    def state_dict(self) -> dict[str, float]:
        """In the form of GradScaler, so that each can load the other's."""
        return {
            "scale": self.value,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": self.interval,
            "_growth_tracker": self.good_steps,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over a state of this class or of GradScaler."""
        self.value, self.good_steps = float(state["scale"]), int(state["_growth_tracker"])
        self.interval = int(state["growth_interval"])
