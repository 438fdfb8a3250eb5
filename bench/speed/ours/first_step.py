"""`python -m bench.speed.ours.first_step CONFIG RUN`: a run as `textune train` makes it, ended after its first step.

Prints the step's loss, so that whoever started the process knows when that was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import textune
from textune.tracking import SilentTracker


class FirstStep(SilentTracker):
    """Ends the process at the first logged step."""

    def step(self, values: Mapping[str, Any]) -> None:
        """Say so and stop."""
        print(values["loss"], flush=True)
        os._exit(0)


if __name__ == "__main__":
    textune.train(sys.argv[1], run=sys.argv[2], tracker=FirstStep())
