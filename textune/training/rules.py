"""What textune knows of each update rule; nothing else compares `train.optimizer.kind`.

To add an optimizer: give it a section in `config/updaterules.py`, and write here what builds it, with a row in
`UPDATE_RULES`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

import torch
import transformers

from textune.config import Adafactor, AdamW, Muon, Optimizer, PythonOptimizer, ScheduleFree, Sgd
from textune.config import Lion as LionSection
from textune.errors import ModelError
from textune.imports import import_quietly
from textune.model import KernelAdamW, Kernels, is_adapter
from textune.training.optimizers import Lion, MuonBesideAdamW, ScheduleFreeAdamW
from textune.training.ownoptimizer import build_own_optimizer, find_own_optimizer


class Group(TypedDict):
    """Parameters with the same rate and decay."""

    params: list[torch.nn.Parameter]
    weight_decay: float
    factor: float
    """What the rate of the schedule is multiplied by."""
    adapters: NotRequired[bool]
    """Whether they are matrices of adapters, where the rule has groups of their own for these."""


class Peak(NamedTuple):
    """Peak learning rates, the usual ones as a person writes them."""

    lowest: str
    """Below it little is learned."""
    highest: str
    """Of those that are usual."""
    limit: float
    """Above it, what a pretrained backbone knows hardly ever survives; a head alone may."""

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}"


@dataclass(frozen=True)
class UpdateRule:
    """A kind of optimizer."""

    build: Callable[[Any, list[Group], Kernels | None], torch.optim.Optimizer]
    """From its section, the groups and the compiled kernels, where these may be used."""
    state_bytes: Callable[[Any], int]
    """From its section: bytes of state for each number that is trained."""
    adapter_peak: Peak | None
    """Of adapters; None if nobody knows."""
    peak: Peak | None
    """Of the backbone's own weights; None if it trains adapters only, or nobody knows."""
    whole: str = ""
    """Why a number cannot be updated without others; empty if each follows from its own gradients, and is multiplied
    by a common factor without any. Then a rank may hold a slice of a weight, and rows of the vocabulary that have no
    gradient may be left out."""
    adapter_bytes: int | None = None
    """Bytes of state for each number in a matrix of an adapter, if these are updated otherwise than what else is
    trained."""
    moments: tuple[str, ...] = ()
    """Keys of those of its tensors that have the shape of a weight, if ZeRO can translate them; else empty."""
    packages: tuple[str, ...] = ()
    """One of them must be installed."""
    extra: str = ""
    """The extra of textune that brings one."""
    is_own: bool = False
    """Whether its section names a class, of whose state nothing is known beforehand."""

    def sets_apart(self, name: str, parameter: torch.nn.Parameter) -> bool:
        """Whether the weight of that name is updated otherwise than most: a matrix of an adapter."""
        return self.adapter_bytes is not None and parameter.ndim >= 2 and is_adapter(name)


def rule_of(section: Optimizer) -> UpdateRule:
    """What is known of `train.optimizer`."""
    return UPDATE_RULES[section.kind]


def state_bytes(section: Optimizer, trained: Mapping[str, torch.nn.Parameter]) -> int:
    """Bytes of the optimizer's state for the weights that are trained, by name."""
    rule = rule_of(section)
    apart = sum(weight.numel() for name, weight in trained.items() if rule.sets_apart(name, weight))
    others = sum(weight.numel() for weight in trained.values()) - apart
    return rule.state_bytes(section) * others + (rule.adapter_bytes or 0) * apart


def cutting_obstacle(section: Optimizer) -> str:
    """Why the optimizer needs whole weights, in words; empty where slices and rows are enough."""
    why = rule_of(section).whole
    return why and f'train.optimizer.kind = "{section.kind}" {why}'


def require_optimizer(section: Optimizer) -> None:
    """ModelError where this installation lacks the package of an optimizer, CodeError for a class that is none."""
    rule = rule_of(section)
    if rule.is_own:
        assert isinstance(section, PythonOptimizer)
        find_own_optimizer(section)
    if rule.packages and not any(map(importlib.util.find_spec, rule.packages)):
        raise ModelError(
            f'train.optimizer.kind = "{section.kind}", but neither {" nor ".join(rule.packages)} is installed.',
            hint=f'Run `pip install "textune[{rule.extra}]"`, or use "adamw".',
            key="train.optimizer.kind",
            value=section.kind,
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
    library = import_quietly(f"{package}.optim")
    with warnings.catch_warnings():  # both warn about what they use of torch
        warnings.simplefilter("ignore")
        made: torch.optim.Optimizer = library.AdamW8bit(rated, **options)
    return made


def _adafactor(section: Adafactor, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    """transformers', whose rate is that of the schedule like the others': PyTorch's is at most 1 / sqrt(step), and
    always times the weight's size."""
    made: torch.optim.Optimizer = transformers.Adafactor(
        groups,
        lr=section.lr,
        eps=(section.eps1, section.eps2),
        clip_threshold=section.clip_threshold,
        decay_rate=section.decay_rate,
        beta1=section.beta1,
        scale_parameter=section.scale_parameter,
        relative_step=False,
        warmup_init=False,
    )
    return made


def _sgd(section: Sgd, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        [{**group} for group in groups], lr=section.lr, momentum=section.momentum, nesterov=section.nesterov
    )


def _lion(section: LionSection, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    return Lion(groups, lr=section.lr, betas=(section.beta1, section.beta2))


def _schedule_free(section: ScheduleFree, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    return ScheduleFreeAdamW(groups, lr=section.lr, betas=(section.beta1, section.beta2), eps=section.eps)


def _muon(section: Muon, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    return MuonBesideAdamW(
        [{**group} for group in groups if group.get("adapters")],
        [{**group} for group in groups if not group.get("adapters")],
        lr=section.lr,
        momentum=section.momentum,
        nesterov=section.nesterov,
        betas=(section.beta1, section.beta2),
        eps=section.eps,
    )


def _own(section: PythonOptimizer, groups: list[Group], kernels: Kernels | None) -> torch.optim.Optimizer:
    return build_own_optimizer(section, [{**group} for group in groups])


# The best rate of adapters is ten times that of whole weights, whatever their rank: Schulman et al. 2025,
# https://thinkingmachines.ai/blog/lora/. The limits are lower: `textune train examples/trec_lora.toml
# data.train.take=1500 data.train.shuffle=true "train.duration=2 epochs"` had an accuracy of 0.876 at 1e-3 and of 0.346
# at 1e-2 (2026-11-30). With SGD the first update of adapters is that of whole weights, in r directions.
UPDATE_RULES: dict[str, UpdateRule] = {
    "adamw": UpdateRule(
        _adamw,
        lambda section: 8,
        peak=Peak("1e-5", "1e-4", limit=1e-3),
        adapter_peak=Peak("1e-4", "1e-3", limit=5e-3),
        moments=("exp_avg", "exp_avg_sq"),
    ),
    "adamw_8bit": UpdateRule(
        _adamw_8bit,
        lambda section: 2,
        peak=Peak("1e-5", "1e-4", limit=1e-3),
        adapter_peak=Peak("1e-4", "1e-3", limit=5e-3),
        whole="keeps its state in blocks of numbers that share a scale",
        packages=("bitsandbytes", "torchao"),
        extra="8bit",
    ),
    "adafactor": UpdateRule(
        _adafactor,
        lambda section: 0 if section.beta1 is None else 4,  # beside a number for each row and column
        peak=Peak("1e-5", "1e-3", limit=1e-2),
        adapter_peak=Peak("1e-4", "1e-2", limit=5e-2),
        whole="scales a number by its row, its column and the whole weight",
    ),
    "sgd": UpdateRule(
        _sgd,
        lambda section: 4 if section.momentum else 0,
        peak=Peak("1e-3", "1e-1", limit=1.0),
        adapter_peak=Peak("1e-2", "1e-1", limit=1.0),
    ),
    "lion": UpdateRule(
        _lion,
        lambda section: 4,
        peak=Peak("1e-6", "3e-5", limit=3e-4),
        adapter_peak=Peak("1e-5", "3e-4", limit=1e-3),
    ),
    "schedule_free": UpdateRule(
        _schedule_free,
        lambda section: 12,  # the third number is kept only while weights are published, and in a checkpoint
        peak=Peak("1e-5", "1e-3", limit=1e-2),
        adapter_peak=Peak("1e-4", "1e-2", limit=5e-2),
    ),
    "muon": UpdateRule(
        _muon,
        lambda section: 8,
        adapter_bytes=4,
        peak=None,
        adapter_peak=Peak("1e-4", "1e-3", limit=5e-3),
        whole="makes the update of a matrix orthogonal as a whole",
    ),
    "python": UpdateRule(
        _own,
        lambda section: 8,  # as many as AdamW's: nobody knows
        peak=None,
        adapter_peak=None,
        whole="is a class of your own, which may need whole weights",
        is_own=True,
    ),
}
"""`train.optimizer.kind` to what is known of it."""
