"""Update rules that PyTorch and transformers do not have, written as their papers do, and two of PyTorch's as one; for
`rules.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv:2302.06675, program 1).

    c = beta1 m + (1 - beta1) g; w = w - lr (sign(c) + decay w); m = beta2 m + (1 - beta2) g.
    """

    def __init__(self, groups: Any, *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "the loss is evaluated outside of the optimizer"
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["exp_avg"] = torch.zeros_like(weight)
            means = [self.state[weight]["exp_avg"] for weight in weights]
            lr, (beta1, beta2) = group["lr"], group["betas"]
            directions = torch._foreach_mul(means, beta1)
            torch._foreach_add_(directions, gradients, alpha=1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            torch._foreach_add_(weights, directions, alpha=-lr)
            torch._foreach_mul_(means, beta2)
            torch._foreach_add_(means, gradients, alpha=1 - beta2)


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682, algorithm 1) without its own warm-up.

    The weights are y, where gradients are taken. `z` are the weights of AdamW without momentum, x their mean, in which
    each step counts by its squared rate, and y = beta1 x + (1 - beta1) z. Within `published` the weights are x.
    """

    def __init__(self, groups: Any, *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "the loss is evaluated outside of the optimizer"
        for group in self.param_groups:
            for y in group["params"]:
                if y.grad is not None:
                    self._update(y, y.grad, group)

    def _update(self, y: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[y]
        if not state:
            state["z"], state["exp_avg_sq"] = y.clone(), torch.zeros_like(y)
            state["step"], state["weight_sum"] = 0, 0.0
        assert "y" not in state, "no step while the mean is published"
        lr, (beta1, beta2) = group["lr"], group["betas"]
        state["step"] += 1
        state["weight_sum"] += lr * lr
        share = lr * lr / state["weight_sum"] if state["weight_sum"] else 0.0
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (state["exp_avg_sq"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        change = torch.div(gradient, root, out=root).add_(y, alpha=group["weight_decay"])
        # x is between y and z before the step, and is moved towards z after it; only y is kept.
        y.lerp_(state["z"], share).add_(change, alpha=lr * (beta1 * (1 - share) - 1))
        state["z"].sub_(change, alpha=lr)

    @contextlib.contextmanager
    def published(self) -> Iterator[None]:
        """Within it the weights are x, and the state holds y, which is put back to the last bit."""
        changed = [
            (weight, self.state[weight], group["betas"][0])
            for group in self.param_groups
            for weight in group["params"]
            if "z" in self.state.get(weight, {}) and "y" not in self.state[weight]
        ]
        with torch.no_grad():
            for y, state, beta1 in changed:
                state["y"] = y.detach().clone()
                y.lerp_(state["z"], 1 - 1 / beta1)
        try:
            yield
        finally:
            self.withdraw([weight for weight, _, _ in changed])

    @torch.no_grad()
    def withdraw(self, weights: list[torch.Tensor] | None = None) -> None:
        """Put y back into the weights, all of them by default: after a restore, since a checkpoint has the published
        weights."""
        for weight in list(self.state) if weights is None else weights:
            if "y" in self.state[weight]:
                weight.copy_(self.state[weight].pop("y"))


class MuonBesideAdamW(torch.optim.Optimizer):
    """PyTorch's Muon (Jordan et al. 2024) for some groups and its AdamW for the others, as one optimizer: they share
    its groups and its state.

    Muon's rate is scaled so that its update is as large as AdamW's (Liu et al. 2025, arXiv:2502.16982), so both take
    the same.
    """

    def __init__(
        self,
        matrices: Sequence[Any],
        others: Sequence[Any],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """`matrices` and `others` are groups; either may be empty, not both."""
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(
                torch.optim.Muon(matrices, lr=lr, momentum=momentum, nesterov=nesterov, adjust_lr_fn="match_rms_adamw")
            )
        if others:
            parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True))
        super().__init__([*matrices, *others], {"lr": lr, "weight_decay": 0.0})
        self._parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "the loss is evaluated outside of the optimizer"
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; PyTorch makes new groups and a new dictionary for it."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self._parts:
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]
