"""Copies of weights as the products read them: side by side, in their precision; before `layers.py`.

Where the compiled optimizer changes the weights (`adamw.py`) it writes the copies as well; else each forward pass makes them.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def _count_up(optimizer: torch.optim.Optimizer, *_: object) -> None:
    if not getattr(optimizer, "writes_copies", False):
        for group in optimizer.param_groups:
            torch.autograd.graph.increment_version(group["params"])


@functools.cache
def watch_optimizers() -> None:
    """Fused optimizers change weights without counting up their version; from here on every step of any optimizer does."""
    register_optimizer_step_post_hook(_count_up)


class WorkingCopy:
    """Weights side by side in the precision of the products.

    A forward pass with gradients copies anew, unless the optimizer itself wrote the last copy. Without gradients a copy serves
    until the weights' version counts up.
    """

    def __init__(self, *parameters: torch.Tensor) -> None:
        self._parameters = parameters
        self._state: tuple[object, ...] = ()
        self._copy = torch.empty(0)
        self._is_written = False
        _copies.add(self)

    def get(self, dtype: torch.dtype, *, with_grad: bool) -> torch.Tensor:
        """[sum of rows, columns] in `dtype`."""
        if dtype == torch.float32 and len(self._parameters) == 1:
            return self._parameters[0].detach()
        if self._state != self._weights_state(dtype) or (with_grad and not self._is_written):
            sizes = [len(p) for p in self._parameters]
            # A new tensor each time: a graph, or another thread, may still hold the last one.
            fresh = torch.empty(sum(sizes), *self._parameters[0].shape[1:], dtype=dtype)
            for piece, parameter in zip(fresh.split(sizes), self._parameters, strict=True):
                piece.copy_(parameter.detach())
            self._copy, self._state, self._is_written = fresh, self._weights_state(dtype), False
        return self._copy

    def places(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, its piece of the copy) for whoever changes both; none where the copy is not that of the weights.

        Nor where it was made while predicting: what inference mode makes counts no changes.
        """
        if not self._state or self._copy.is_inference() or self._state != self._weights_state(self._copy.dtype):
            return []
        return list(zip(self._parameters, self._copy.split([len(p) for p in self._parameters]), strict=True))

    def mark_written(self) -> None:
        """Say that the copy is that of the weights as they are now, as after each step to come."""
        torch.autograd.graph.increment_version(self._copy)  # a graph that still holds it would compute a wrong gradient
        self._state, self._is_written = self._weights_state(self._copy.dtype), True

    def _weights_state(self, dtype: torch.dtype) -> tuple[object, ...]:
        return (dtype, *((p.data_ptr(), p._version) for p in self._parameters))


_copies: weakref.WeakSet[WorkingCopy] = weakref.WeakSet()
"""All there are, but for those of a copied or unpickled model: there each forward pass makes its own."""


def copies_to_write(weights: Iterable[torch.Tensor]) -> list[tuple[WorkingCopy, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """The copies that whoever changes `weights` can keep up with them, and their `places`.

    Of copies that hold the same weight it is one: the others are made anew when they are read.
    """
    wanted, taken, found = {id(weight) for weight in weights}, set[int](), []
    for copy in list(_copies):
        places = copy.places()
        held = {id(weight) for weight, _ in places}
        if held & wanted and not held & taken:
            found.append((copy, places))
            taken |= held
    return found
