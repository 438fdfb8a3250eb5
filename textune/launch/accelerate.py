"""What `accelerate launch` tells the processes that it starts, beyond their ranks, from its own configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Accelerated:
    """The parts of accelerate's configuration that decide what is trained."""

    deepspeed: Path | None = None
    """The DeepSpeed file."""
    precision: str | None = None
    """`no`, `fp16` or `bf16`; None where accelerate did not start this process."""


def accelerated() -> Accelerated:
    """What the launcher of this process was configured for; nothing without accelerate."""
    uses_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE") if uses_deepspeed else None
    return Accelerated(
        None if file in (None, "", "none", "None") else Path(file), os.environ.get("ACCELERATE_MIXED_PRECISION")
    )
