"""Copies of weights for the matrix products: concatenated, in the precision of the products; before `linears.py`.

The compiled optimizer (`adamw.py`) updates the copies with the weights; otherwise each forward pass makes them.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Collection, Iterable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def _count_up(optimizer: torch.optim.Optimizer, *_: object) -> None:
    if not getattr(optimizer, "writes_copies", False):
        for group in optimizer.param_groups:
            torch.autograd.graph.increment_version(group["params"])


@functools.cache
def watch_optimizers() -> None:
    """Make every step of any optimizer increment the version of its weights, which fused optimizers do not."""
    register_optimizer_step_post_hook(_count_up)


class WorkingCopy:
    """Concatenated weights in the precision of the products.

    A forward pass with gradients makes a new copy of what is trained, unless the optimizer wrote the last one.
    Otherwise, a copy is reused until the version of the weights changes.
    """

    def __init__(self, *parameters: torch.Tensor) -> None:
        self._parameters = parameters
        self._state: tuple[object, ...] = ()
        self._copy = torch.empty(0)
        self._is_written = False
        self._lead: tuple[WorkingCopy, tuple[object, ...]] | None = None
        """The copy of another model that serves for this one too, as long as the weights here are in this state."""
        _copies.add(self)

    def get(self, dtype: torch.dtype, *, with_grad: bool) -> torch.Tensor:
        """[sum of rows, columns] in `dtype`."""
        if dtype == torch.float32 and len(self._parameters) == 1:
            return self._parameters[0].detach()
        if self._lead is not None:
            lead, state = self._lead
            if state == self._weights_state(torch.float32):
                return lead.get(dtype, with_grad=with_grad)
            self._lead = None
        if self._state != self._weights_state(dtype) or (with_grad and not self._outlives_a_step()):
            sizes = [len(p) for p in self._parameters]
            # A new tensor each time: a graph, or another thread, may still hold the last one.
            fresh = torch.empty(sum(sizes), *self._parameters[0].shape[1:], dtype=dtype)
            for piece, parameter in zip(fresh.split(sizes), self._parameters, strict=True):
                piece.copy_(parameter.detach())
            self._copy, self._state, self._is_written = fresh, self._weights_state(dtype), False
        return self._copy

    def follow(self, other: WorkingCopy) -> None:
        """Use the copy of another model, whose weights stand at the same addresses, until a weight here changes."""
        lead = other if other._lead is None else other._lead[0]
        if lead is not self:
            self._copy, self._state = torch.empty(0), ()
            self._lead = lead, self._weights_state(torch.float32)

    def is_of(self, weights: Collection[int]) -> bool:
        """Whether all of its weights are among those of these ids."""
        return all(id(parameter) in weights for parameter in self._parameters)

    def addresses(self) -> tuple[int, ...]:
        """Where its weights stand."""
        return tuple(parameter.data_ptr() for parameter in self._parameters)

    def _outlives_a_step(self) -> bool:
        """Whether the copy is up to date after a step, for the optimizer writes it or changes none of the weights."""
        frozen = not any(parameter.requires_grad for parameter in self._parameters)
        return self._is_written or (frozen and not self._copy.is_inference())

    def places(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, its piece of the copy), for updating both; empty if the copy is out of date.

        Also empty if it was made in inference mode, whose tensors do not count changes.
        """
        if not self._state or self._copy.is_inference() or self._state != self._weights_state(self._copy.dtype):
            return []
        return list(zip(self._parameters, self._copy.split([len(p) for p in self._parameters]), strict=True))

    def mark_written(self) -> None:
        """Mark the copy as up to date with the weights, now and after each further step."""
        torch.autograd.graph.increment_version(
            self._copy
        )  # a graph that still holds it would compute a wrong gradient
        self._state, self._is_written = self._weights_state(self._copy.dtype), True

    def _weights_state(self, dtype: torch.dtype) -> tuple[object, ...]:
        return (dtype, *((p.data_ptr(), p._version) for p in self._parameters))


_copies: weakref.WeakSet[WorkingCopy] = weakref.WeakSet()
"""All copies, except those of a copied or unpickled model, where each forward pass makes its own."""


def join_copies(given: Iterable[torch.Tensor], taken: Iterable[torch.Tensor]) -> None:
    """Let the copies of weights that were `given` the storage of others follow those of the others, which are
    `taken`; both are parameters of models."""
    new, earlier = {id(weight) for weight in given}, {id(weight) for weight in taken}
    copies = list(_copies)
    leads = {copy.addresses(): copy for copy in copies if copy.is_of(earlier)}
    for copy in copies:
        if copy.is_of(new) and (lead := leads.get(copy.addresses())) is not None:
            copy.follow(lead)


def copies_to_write(
    weights: Iterable[torch.Tensor],
) -> list[tuple[WorkingCopy, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """The copies that an optimizer of `weights` can update with them, and their `places`.

    Of several copies of the same weight only one is returned: the others are remade when they are read.
    """
    wanted, taken, found = {id(weight) for weight in weights}, set[int](), []
    for copy in list(_copies):
        places = copy.places()
        held = {id(weight) for weight, _ in places}
        if held & wanted and not held & taken:
            found.append((copy, places))
            taken |= held
    return found
