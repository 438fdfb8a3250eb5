"""PyTorch's AdamW with the step of `native/optimizer.cpp`: the same rule and state, in one pass over memory.

The state is that of `torch.optim.AdamW`, so either can resume from a checkpoint of the other.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import torch

from textune.model.native.calls import AdamWCall, Update, pointer
from textune.model.native.copies import copies_to_write
from textune.model.native.kernels import Kernels


class KernelAdamW(torch.optim.AdamW):
    """AdamW for fp32 weights on a CPU, with clipping: `step` scales the gradients down to the norm `max_norm` as it
    reads them.

    The gradients themselves are not changed. Working copies of the weights are updated, too. If the norm of the
    gradients is not finite, nothing changes.
    """

    writes_copies = True
    max_norm = math.inf

    def __init__(self, groups: Any, kernels: Kernels, **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self._kernels = kernels
        self.grad_norm = torch.zeros(())
        """The gradients' norm before clipping, float32 [], of the last step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "no rule that evaluates the loss by itself"
        trained = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        weights = [p for p, _ in trained]
        states = [self._state_of(p) for p in weights]
        counts = [state["step"] for state in states]
        if counts:
            torch._foreach_add_(counts, 1.0)
        steps = torch.stack(counts).tolist() if counts else []
        copies = copies_to_write(weights)
        places = {id(weight): piece for _, pieces in copies for weight, piece in pieces}
        grads = [p.grad.contiguous() for p in weights if p.grad is not None]  # held until the call is over
        updates = (Update * len(trained))()
        for update, (weight, group), grad, state, step in zip(updates, trained, grads, states, steps, strict=True):
            _describe(update, weight, grad, state, places.get(id(weight)))
            _give_rates(update, group, step)
        norm = self._change(updates)
        if math.isfinite(norm):
            torch.autograd.graph.increment_version(weights)
            for copy, _ in copies:
                copy.mark_written()
        else:
            torch._foreach_sub_(counts, 1.0)
        self.grad_norm = torch.tensor(norm)

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Like PyTorch's; ValueError for moments that do not have the shape of their weight."""
        super().load_state_dict(state_dict)
        for weight, state in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].contiguous()
                pointer(state[name], weight.shape)

    def _change(self, updates: ctypes.Array[Update]) -> float:
        norm = ctypes.c_double()
        beta1, beta2 = self.defaults["betas"]
        self._kernels.call(
            "adamw",
            AdamWCall(
                tensors=len(updates),
                updates=updates,
                beta1=beta1,
                beta2=beta2,
                eps=self.defaults["eps"],
                max_norm=self.max_norm,
                norm=ctypes.addressof(norm),
            ),
        )
        return norm.value

    def _state_of(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[weight]
        if not state:
            pointer(weight, weight.shape)  # raises for a weight that the kernel cannot take
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        return state


def _describe(
    update: Update, weight: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], copy: torch.Tensor | None
) -> None:
    update.count = weight.numel()
    update.weight, update.grad = weight.data_ptr(), grad.data_ptr()
    update.mean, update.square = state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr()
    if copy is not None:
        update.copy, update.copy_is_low = copy.data_ptr(), copy.dtype == torch.bfloat16


def _give_rates(update: Update, group: dict[str, Any], step: float) -> None:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    update.decay = 1.0 - lr * group["weight_decay"]
    update.step_size = lr / (1.0 - beta1**step)
    update.root_scale = (1.0 - beta2**step) ** -0.5
