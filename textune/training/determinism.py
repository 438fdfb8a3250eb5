"""`train.deterministic`: PyTorch without algorithms whose bits differ from run to run, for as long as a run takes.

On a processor every run is deterministic anyway: the kernels that come with textune sum in an order that does not
depend on which thread is faster, and textune's own draws depend on seed, epoch, step and rank alone.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from textune.config import TrainSection
from textune.errors import ModelError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""PyTorch looks here before each product on a GPU, and refuses unless it has one of `_WORKSPACES`."""
_WORKSPACES = (":4096:8", ":16:8")


@contextmanager
def deterministic(section: TrainSection) -> Iterator[None]:
    """Deterministic algorithms within the context, where `train.deterministic` asks for them; nothing otherwise.

    The generators of Python, numpy and torch, for code of the user's own that draws, begin with `train.seed`. At the
    end, generators and settings are as they were before: a run inside another program leaves nothing behind.
    ModelError where a GPU may be used and the user's own workspace of cuBLAS is not deterministic.
    """
    if not section.deterministic:
        yield
        return
    cudnn, environment = torch.backends.cudnn, os.environ.get(_WORKSPACE)
    if section.device != "cpu" and torch.cuda.is_available():
        _require_workspace(environment)
    before = torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        os.environ.setdefault(_WORKSPACE, _WORKSPACES[0])
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
        random.seed(section.seed)
        np.random.seed(section.seed % (1 << 32))
        torch.manual_seed(section.seed)
        yield
    finally:
        if environment is None:
            os.environ.pop(_WORKSPACE, None)
        mode, cudnn.deterministic, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)


def _require_workspace(environment: str | None) -> None:
    if environment is not None and environment not in _WORKSPACES:
        raise ModelError(
            f"train.deterministic = true, but {_WORKSPACE}={environment} is set, with which products on a GPU are not"
            " deterministic.",
            hint=f"Unset it, or set it to {' or '.join(_WORKSPACES)}.",
            key=_WORKSPACE,
            value=environment,
        )


def without_deterministic_way(error: BaseException) -> ModelError | None:
    """What to say of an error of PyTorch about an operator that has no deterministic algorithm; None for any
    other."""
    found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
    if found is None or not isinstance(error, RuntimeError):
        return None
    return ModelError(
        f"train.deterministic = true, but PyTorch has no deterministic algorithm for {found[1]}, which this backbone"
        f" needs here.",
        hint="Train without it, on another device, or choose another backbone.",
        key="train.deterministic",
        value=True,
        reason=f"{found[1]} has none",
    )
