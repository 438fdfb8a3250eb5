"""The mean of several saved models of one shape: plain folders in, the same files with averaged weights out."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from textune.errors import ModelError

_WEIGHTS = "*.safetensors"


def average_models(folders: Sequence[Path], target: Path, *, without: Collection[str] = ()) -> None:
    """Write into the empty folder `target` the files of the first model, each weight the mean over all of them.

    The sum is in float64, and each weight keeps its own type; what is no floating point number is that of the first
    model. `without`: names of files that are not taken over. ModelError where the folders hold other weights.
    """
    first, *others = folders
    shutil.copytree(
        first, target, dirs_exist_ok=True, ignore=lambda _, names: [name for name in names if name in without]
    )
    files = [path.relative_to(first) for path in sorted(first.rglob(_WEIGHTS))]
    for other in others:
        if [path.relative_to(other) for path in sorted(other.rglob(_WEIGHTS))] != files:
            raise _unlike(first, other, "other files of weights")
    for file in files:
        _average([folder / file for folder in folders], target / file)


def _average(paths: Sequence[Path], target: Path) -> None:
    """The mean of files of weights with the same names and shapes."""
    means: dict[str, torch.Tensor] = {}
    with safe_open(paths[0], framework="pt") as opened:
        metadata = opened.metadata()
        means = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    kinds = {name: weight.dtype for name, weight in means.items()}
    sums = {name: weight.double() if weight.is_floating_point() else weight for name, weight in means.items()}
    for path in paths[1:]:
        with safe_open(path, framework="pt") as opened:
            if set(opened.keys()) != sums.keys():
                raise _unlike(paths[0], path, "weights of other names")
            for name, total in sums.items():
                weight = opened.get_tensor(name)
                if weight.shape != total.shape or weight.dtype != kinds[name]:
                    raise _unlike(paths[0], path, f"another {name}")
                if total.is_floating_point():
                    total += weight.double()
    mean = {
        name: (total / len(paths)).to(kinds[name]).contiguous() if total.is_floating_point() else total
        for name, total in sums.items()
    }
    save_file(mean, target, metadata=metadata)


def _unlike(first: Path, other: Path, what: str) -> ModelError:
    return ModelError(
        f"{other} has {what} than {first}: there is no mean of the two.",
        hint="Average models that were trained from the same weights on the same labels.",
        place=str(other),
        reason=what,
    )
