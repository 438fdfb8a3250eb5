"""What textune knows of each update rule; nothing else compares `train.optimizer.kind`.

To add an optimizer: give it a section in `config/updaterules.py`, and write here what builds it, with a row in
`UPDATE_RULES`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch

from textune.config import AdamW, Optimizer
from textune.errors import ModelError
from textune.model import KernelAdamW, Kernels


class Group(TypedDict):
    """Parameters with the same rate and decay."""

    params: list[torch.nn.Parameter]
    weight_decay: float
    factor: float
    """What the rate of the schedule is multiplied by."""


@dataclass(frozen=True)
class UpdateRule:
    """A kind of optimizer."""

    build: Callable[[Any, list[Group], Kernels | None], torch.optim.Optimizer]
    """From its section, the groups and the compiled kernels, where these may be used."""
    state_bytes: Callable[[Any], int]
    """From its section: bytes of state for each number that is trained."""
    highest_lr: float
    """Above this peak learning rate a pretrained backbone hardly ever survives; a head alone may."""
    whole: str = ""
    """Why a number cannot be updated without others; empty if each follows from its own gradients, and is multiplied
    by a common factor without any. Then a rank may hold a slice of a weight, and rows of the vocabulary that have no
    gradient may be left out."""
    moments: tuple[str, ...] = ()
    """Keys of its tensors of the shape of a weight that ZeRO can translate; empty if it cannot."""
    packages: tuple[str, ...] = ()
    """One of them must be installed."""
    extra: str = ""
    """The extra of textune that brings one."""


def rule_of(section: Optimizer) -> UpdateRule:
    """What is known of `train.optimizer`."""
    return UPDATE_RULES[section.kind]


def state_bytes(section: Optimizer) -> int:
    """Bytes of the optimizer's state for each number that is trained."""
    return rule_of(section).state_bytes(section)


def cutting_obstacle(section: Optimizer) -> str:
    """Why the optimizer needs whole weights, in words; empty where slices and rows are enough."""
    why = rule_of(section).whole
    return why and f'train.optimizer.kind = "{section.kind}" {why}'


def require_optimizer(section: Optimizer) -> None:
    """ModelError where this installation lacks the package of an optimizer."""
    rule = rule_of(section)
    if rule.packages and not any(map(importlib.util.find_spec, rule.packages)):
        raise ModelError(
            f'train.optimizer.kind = "{section.kind}", but neither {" nor ".join(rule.packages)} is installed.',
            hint=f'Run `pip install "textune[{rule.extra}]"`, or use "adamw".',
        )


# --- what builds them ------------------------------------------------------------------------------------------------


class _AdamOptions(TypedDict):
    """What every AdamW takes beside its groups."""

    lr: float
    betas: tuple[float, float]
    eps: float


def _adam_options(section: AdamW) -> _AdamOptions:
    return {"lr": section.lr, "betas": (section.beta1, section.beta2), "eps": section.eps}


def _adamw(section: AdamW, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    if kernels is not None and _are_plain([p for group in groups for p in group["params"]]):
        return KernelAdamW(groups, kernels, **_adam_options(section))
    return torch.optim.AdamW([{**group} for group in groups], fused=True, **_adam_options(section))


def _are_plain(weights: list[torch.nn.Parameter]) -> bool:
    """Whether threads may change these weights side by side: each fp32, in one piece and in memory of its own."""
    places = {p.untyped_storage().data_ptr() for p in weights if p.numel()}
    apart = len(places) == sum(p.numel() > 0 for p in weights)
    return apart and all(p.dtype == torch.float32 and p.is_contiguous() for p in weights)


def _adamw_8bit(section: AdamW, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    """bitsandbytes where it is installed: torchao compiles its step first, which takes half a minute and a
    compiler."""
    options = _adam_options(section)
    package = "bitsandbytes" if importlib.util.find_spec("bitsandbytes") else "torchao"
    rated: list[dict[str, Any]] = [{**group} for group in groups]
    if package == "torchao":  # whose groups would share one tensor
        rated = [{**group, "lr": torch.tensor(section.lr)} for group in groups]
    # It logs at its import that it has no 4-bit kernels for CPUs, and both warn about what they use of torch.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: torch.optim.Optimizer = importlib.import_module(f"{package}.optim").AdamW8bit(rated, **options)
    return made


UPDATE_RULES: dict[str, UpdateRule] = {
    "adamw": UpdateRule(_adamw, lambda section: 8, highest_lr=1e-3, moments=("exp_avg", "exp_avg_sq")),
    "adamw_8bit": UpdateRule(
        _adamw_8bit,
        lambda section: 2,
        highest_lr=1e-3,
        whole="keeps its state in blocks of numbers that share a scale",
        packages=("bitsandbytes", "torchao"),
        extra="8bit",
    ),
}
"""`train.optimizer.kind` to what is known of it."""
