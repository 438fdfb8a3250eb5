"""The states of all random generators of this process, as tensors; for checkpoints.

textune's own draws (order, dropout, the head's weights) are functions of seed, epoch, step and rank, so nothing of
ours depends on these states. They are kept for a user's own code that draws in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

_GAUSS_MISSING = float("nan")


def random_states(rank: int) -> dict[str, torch.Tensor]:
    """The states of Python, numpy, torch and its GPU, by names that hold the rank."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python-gauss": torch.tensor(_GAUSS_MISSING if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor(np.asarray(keys, dtype=np.int64)),
        "numpy-rest": torch.tensor([float(position), float(has_gauss), float(cached)], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return {f"random/{rank}/{name}": state for name, state in states.items()}


def restore_random_states(rank: int, names: set[str], read: Callable[[str], torch.Tensor]) -> None:
    """Put the states back; nothing where a checkpoint of fewer ranks, or of a machine without a GPU, has none for this
    one."""
    start = f"random/{rank}/"
    if f"{start}torch" not in names:
        return
    gauss = float(read(f"{start}python-gauss"))
    random.setstate((3, tuple(read(f"{start}python").tolist()), None if gauss != gauss else gauss))
    position, has_gauss, cached = read(f"{start}numpy-rest").tolist()
    keys = read(f"{start}numpy").numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    torch.set_rng_state(read(f"{start}torch"))
    if f"{start}cuda" in names and torch.cuda.is_available():
        torch.cuda.set_rng_state(read(f"{start}cuda"))
