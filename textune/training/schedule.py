"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from textune.config import ScheduleKind


def learning_rate(step: int, *, kind: ScheduleKind, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of optimizer step `step` (from 0): a linear rise over `warmup_steps`, then the shape `kind` down
    to zero.

    The same values as transformers' schedules of these names: step 0 of a warm-up has rate 0.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return peak * (1 - progress if kind == "linear" else 0.5 * (1 + math.cos(math.pi * progress)))
