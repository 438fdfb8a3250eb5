"""How unlikely a language model finds tokens, in nats: the projection on its words and the cross-entropy together, in
pieces of tokens, each computed again in the backward pass; before `faces.py`.

The logits of 16,384 tokens over 50,257 words take 3.3 GB, and their gradient as much again. Here those of one piece
exist at a time, in the forward pass and in the backward pass.

All is done within one call of the output embedding, as a module: where its weights are cut over ranks, or shared with
the token embeddings, that call brings them.

Shapes: N scored tokens, n of them in a piece, H hidden, V words.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from textune.model.device import dtype_of_products
from textune.model.hugging import Context, FamilyModule, Forward

PIECE_BYTES = {"cuda": 1 << 29, "cpu": 1 << 26}
"""The logits of a piece in float32; beyond, nothing gets faster."""
COPIES = 4
"""What is in use at once of a piece, in its logits: in the precision of products, in float32, their exponentials, and
the gradient in the precision of products."""
_ROUND_TO = 16
"""Tokens of a piece are a multiple of this, where there are as many: products of few sizes are faster."""


class LogitForm(NamedTuple):
    """What a family does with the products of a state and the words."""

    scale: float = 1.0
    """They are multiplied by this ..."""
    cap: float = 0.0
    """... and then, unless this is 0, held between minus `cap` and `cap` by a hyperbolic tangent."""

    def of(self, products: torch.Tensor) -> torch.Tensor:
        """Logits [n, V] of products [n, V], in their precision."""
        logits = products if self.scale == 1.0 else products * self.scale
        return logits if not self.cap else torch.tanh(logits / self.cap) * self.cap

    def back_(self, grad_nV: torch.Tensor, logits_nV: torch.Tensor) -> torch.Tensor:
        """The gradient of the products, in place, of that of the logits."""
        if self.cap:
            grad_nV.mul_(1 - (logits_nV / self.cap).square())
        return grad_nV if self.scale == 1.0 else grad_nV.mul_(self.scale)


def piece_tokens(num_words: int, device: torch.device) -> int:
    """Tokens of a piece for so many words."""
    tokens = PIECE_BYTES[device.type] // (torch.float32.itemsize * num_words)
    return max(1, tokens - tokens % _ROUND_TO if tokens > _ROUND_TO else tokens)


def nats_of(
    output: FamilyModule, states_NH: torch.Tensor, targets_N: torch.Tensor, form: LogitForm, *, at_once: int
) -> torch.Tensor:
    """float32 [N]: minus the log-likelihood of each target word, int64 [N], given the state before it.

    `output` is the output embedding of a model, `at_once` the tokens of a piece. Without a token the result is empty,
    and its gradient zero everywhere.
    """
    if type(output) is not nn.Linear:  # adapters beside it, say
        return _by_modules(output, states_NH, targets_N, form, at_once=at_once)
    plain: FamilyModule = output
    if "forward" not in vars(plain):
        plain.forward = functools.partial(_forward, plain, plain.forward)
    nats_N: torch.Tensor = output(states_NH, (targets_N, form, at_once))
    return nats_N


def _forward(
    module: FamilyModule,
    project: Forward,
    states: torch.Tensor,
    scoring: tuple[torch.Tensor, LogitForm, int] | None = None,
) -> torch.Tensor:
    """The forward of an output embedding, which scores targets where it is given some."""
    result: torch.Tensor = (
        project(states) if scoring is None else _Nats.apply(states, module.weight, module.bias, *scoring)
    )
    return result


def _by_modules(
    output: FamilyModule, states_NH: torch.Tensor, targets_N: torch.Tensor, form: LogitForm, *, at_once: int
) -> torch.Tensor:
    """As `nats_of`, whatever the output embedding is made of: each piece is a call of it, which autograd repeats."""

    def compute(states_nH: torch.Tensor, targets_n: torch.Tensor) -> torch.Tensor:
        logits_nV = form.of(output(states_nH)).float()
        return functional.cross_entropy(logits_nV, targets_n, reduction="none")

    pieces = [
        checkpoint(compute, states_NH[piece], targets_N[piece], use_reentrant=False)
        if torch.is_grad_enabled()
        else compute(states_NH[piece], targets_N[piece])
        for piece in _pieces(len(targets_N), at_once)
    ]
    return torch.cat(pieces)


def _pieces(num_tokens: int, at_once: int) -> Iterator[slice]:
    """At least one piece, which may be empty: every rank calls the same modules."""
    for start in range(0, max(1, num_tokens), at_once):
        yield slice(start, start + at_once)


class _Nats(torch.autograd.Function):
    """Projection and cross-entropy as one operator, which keeps a number for each token beside its inputs."""

    @staticmethod
    def forward(
        ctx: Context,
        states_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        form: LogitForm,
        at_once: int,
    ) -> torch.Tensor:
        dtype = dtype_of_products(weight_VH.dtype, states_NH.device)
        sums_N = torch.empty(len(targets_N), dtype=torch.float32, device=states_NH.device)
        nats_N = torch.empty_like(sums_N)
        with torch.autocast(states_NH.device.type, enabled=False):
            words = _Words(weight_VH, bias_V, dtype)
            for piece in _pieces(len(targets_N), at_once):
                logits_nV = form.of(words.times(states_NH[piece].to(dtype))).float()
                sums_N[piece] = logits_nV.logsumexp(1)
                nats_N[piece] = sums_N[piece] - logits_nV.gather(1, targets_N[piece].unsqueeze(1)).squeeze(1)
        ctx.save_for_backward(states_NH, weight_VH, bias_V, targets_N, sums_N)
        ctx.form, ctx.at_once, ctx.dtype = form, at_once, dtype
        return nats_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states_NH, weight_VH, bias_V, targets_N, sums_N = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad[:3]
        grads = (
            torch.empty_like(states_NH) if of_states else None,
            torch.zeros_like(weight_VH) if of_weight else None,
            torch.zeros_like(bias_V) if of_bias else None,
        )
        with torch.autocast(states_NH.device.type, enabled=False):
            words = _Words(weight_VH, bias_V, ctx.dtype)
            for piece in _pieces(len(targets_N), ctx.at_once):
                states_nH = states_NH[piece].to(ctx.dtype)
                logits_nV = ctx.form.of(words.times(states_nH)).float()
                grad_nV = _of_logits(logits_nV, targets_N[piece], sums_N[piece], grad_N[piece], ctx.form)
                words.add_gradients(grad_nV.to(ctx.dtype), states_nH, piece, grads)
        return *grads, None, None, None


def _of_logits(
    logits_nV: torch.Tensor, targets_n: torch.Tensor, sums_n: torch.Tensor, grad_n: torch.Tensor, form: LogitForm
) -> torch.Tensor:
    """The gradient of the products, float32 [n, V]: softmax minus one at the target, times that of the nats."""
    spare_nV = logits_nV if not form.cap else logits_nV.clone()
    grad_nV = spare_nV.sub_(sums_n.unsqueeze(1)).exp_()
    grad_nV.scatter_add_(1, targets_n.unsqueeze(1), grad_nV.new_full((len(targets_n), 1), -1.0))
    return form.back_(grad_nV.mul_(grad_n.unsqueeze(1)), logits_nV)


class _Words:
    """An output embedding in the precision of the products."""

    def __init__(self, weight_VH: torch.Tensor, bias_V: torch.Tensor | None, dtype: torch.dtype) -> None:
        self._weight_VH = weight_VH.detach().to(dtype)
        self._bias_V = None if bias_V is None else bias_V.detach().to(dtype)

    def times(self, states_nH: torch.Tensor) -> torch.Tensor:
        """Products [n, V]."""
        return functional.linear(states_nH, self._weight_VH, self._bias_V)

    def add_gradients(
        self,
        grad_nV: torch.Tensor,
        states_nH: torch.Tensor,
        piece: slice,
        grads: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None],
    ) -> None:
        """Write the gradient of the states of a piece, and add those of weight and bias, all in float32."""
        grad_states_NH, grad_weight_VH, grad_bias_V = grads
        if grad_states_NH is not None:
            grad_states_NH[piece] = (grad_nV @ self._weight_VH).to(grad_states_NH.dtype)
        if grad_weight_VH is not None:
            if grad_weight_VH.dtype == grad_nV.dtype:
                grad_weight_VH.addmm_(grad_nV.t(), states_nH)
            else:
                grad_weight_VH.add_(grad_nV.t() @ states_nH)
        if grad_bias_V is not None:
            grad_bias_V.add_(grad_nV.sum(0))
