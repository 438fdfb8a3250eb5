"""The keys of `train.optimizer` and `train.schedule`: how gradients change the weights; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from textune.config.section import Section
from textune.config.values import (
    Duration,
    ScheduleKind,
)


class AdamW(Section):
    """AdamW; biases and norms are not decayed."""

    kind: Literal["adamw"] = "adamw"
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class AdamW8bit(AdamW):
    """AdamW that keeps its two moments in 8 bits, a quarter of the optimizer's memory; the other keys are those of
    `adamw`.

    Needs bitsandbytes (`pip install "textune[8bit]"`) or torchao. Steps are slightly less exact, and slower on a CPU.
    """

    kind: Literal["adamw_8bit"] = "adamw_8bit"  # type: ignore[assignment]
    """Quantised block by block (arXiv:2110.02861)."""


Optimizer = Annotated[AdamW | AdamW8bit, Field(discriminator="kind")]


class Schedule(Section):
    """Learning rate as a pure function of the step."""

    kind: ScheduleKind = "linear"
    """Shape after the warm-up: a line to zero, half a cosine to zero, or constant."""
    warmup: Duration = Duration(0.1, "epochs")
    """Linear rise from zero to the peak."""


class EarlyStopping(Section):
    """Stop when the best metric no longer improves."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Evaluations without improvement before training stops; 0 never stops early."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change that counts as an improvement."""
