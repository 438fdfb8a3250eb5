"""Optimizers of a user's own, for tests: names such as `kits.ownoptimizers:Averaged` in configurations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Averaged(torch.optim.Optimizer):
    """Steps along a running mean whose share of the new gradient depends on counts of every kind that a state may
    have: tensors of other types than the weight, a plain number, and a number of the group."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, weight_decay: float = 0.0, least: float = 0.1) -> None:
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "least": least, "done": 0, "range": (0.1, 1)}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["done"] += 1
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight, dtype=torch.float64)
                    state["count"] = torch.tensor(0)
                    state["norm"], state["name"], state["none"] = 0.0, "mean", None
                state["count"] += 1
                state["norm"] += float(weight.grad.norm())
                share = max(group["least"], 1 / (float(state["count"]) + group["done"] + state["norm"]))
                state["mean"] += (weight.grad - state["mean"]) * share
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(state["mean"].float(), alpha=group["lr"])


class Unkept(torch.optim.SGD):
    """Its state has what no checkpoint holds."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, what: str = "list") -> None:
        super().__init__(params, lr=lr)
        self.what = what

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        weight = self.param_groups[0]["params"][0]
        if self.what == "list":
            self.state[weight]["past"] = [1.0]
        elif self.what == "infinite":
            self.state[weight]["best"] = float("inf")
        elif self.what == "complex":
            self.state[weight]["waves"] = torch.zeros(2, dtype=torch.complex64)
        elif self.what == "group":
            self.param_groups[0]["seen"] = {1}
        elif self.what == "global":
            self.state["all"] = 1  # type: ignore[index]


class Failing(torch.optim.SGD):
    """Its step fails."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise ValueError("no step today")


class WithoutDecay(torch.optim.Optimizer):
    """It knows no weight_decay."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})


class WithoutRate(torch.optim.Optimizer):
    """It takes a rate and forgets it."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, {})


class NoOptimizer:
    """Some class."""
