"""Several processes on this machine, one for each device, when nobody has asked a launcher for them: `textune train` alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from textune.config import TrainSection
from textune.errors import LaunchError

_SECONDS_TO_SAVE = 600


def num_processes(section: TrainSection, *, num_gpus: int) -> int:
    """How many processes `train.distributed.devices` means on a machine that has so many GPUs.

    LaunchError where GPUs are wanted that are not there.
    """
    wanted = section.distributed.devices
    usable = 0 if section.device == "cpu" else num_gpus
    if wanted == "auto":
        # More processes than rows of a batch would have nothing to do.
        return max(1, min(usable, section.batch_size))
    if usable and wanted > usable:
        raise LaunchError(
            f"train.distributed.devices = {wanted}, but this machine has {usable} GPU{'s' if usable > 1 else ''}.",
            hint=f"Set it to {usable} or less, or start more machines with `textune launch`.",
        )
    return wanted


def become_processes(count: int, words: Sequence[str]) -> NoReturn:
    """This process becomes torchrun with `count` workers, each of which runs `textune WORDS`."""
    sys.stdout.flush()
    sys.stderr.flush()
    # torchrun itself would give each process one thread, and say so at length.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # torchrun itself would kill after 30 s who is still saving.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SECONDS_TO_SAVE))
    node = ["-m", "textune.launch.node", "--signals=agent", "--standalone", f"--nproc-per-node={count}"]
    # Behind the dashes torchrun looks for no options of its own.
    os.execv(sys.executable, [sys.executable, *node, "-m", "--", "textune", *words])
