"""Starts several processes on this machine, one per device, for `textune train` without a launcher."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from textune.config import TrainSection
from textune.errors import LaunchError

_SECONDS_TO_SAVE = 600


def num_processes(section: TrainSection, *, num_gpus: int) -> int:
    """How many processes `train.distributed.devices` means on a machine with `num_gpus` GPUs.

    LaunchError if it asks for more GPUs than there are.
    """
    wanted = section.distributed.devices
    usable = 0 if section.device == "cpu" else num_gpus
    if wanted == "auto":
        # With more processes than rows per batch, some would have nothing to do.
        return max(1, min(usable, section.batch_size))
    if usable and wanted > usable:
        raise LaunchError(
            f"train.distributed.devices = {wanted}, but this machine has {usable} GPU{'s' if usable > 1 else ''}.",
            hint=f"Set it to {usable} or less, or use more machines with `textune launch`.",
        )
    return wanted


def become_processes(count: int, words: Sequence[str]) -> NoReturn:
    """Replace this process by torchrun with `count` workers, each of which runs `textune WORDS`."""
    sys.stdout.flush()
    sys.stderr.flush()
    # By default torchrun gives each process one thread, with a long message.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # By default torchrun kills a process that is still saving after 30 s.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SECONDS_TO_SAVE))
    node = ["-m", "textune.launch.node", "--signals=agent", "--standalone", f"--nproc-per-node={count}"]
    # torchrun does not parse what follows the dashes.
    os.execv(sys.executable, [sys.executable, *node, "-m", "--", "textune", *words])
