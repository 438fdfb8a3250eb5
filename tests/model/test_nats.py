"""Projection and cross-entropy in pieces of tokens, beside whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from textune.model.nats import LogitForm, nats_of, piece_tokens

TOKENS, WIDTH, WORDS = 23, 16, 61
FORMS = {"plain": LogitForm(), "scaled": LogitForm(scale=0.25), "capped": LogitForm(cap=3.0), "both": LogitForm(2, 5)}


class Wrapped(nn.Linear):
    """An output embedding that is no plain linear layer, as one with an adapter."""


def problem(kind: type[nn.Linear] = nn.Linear, *, bias: bool = True) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    output = kind(WIDTH, WORDS, bias=bias)
    return output, torch.randn(TOKENS, WIDTH, requires_grad=True), torch.randint(WORDS, (TOKENS,))


def whole(output: nn.Linear, states: torch.Tensor, targets: torch.Tensor, form: LogitForm) -> torch.Tensor:
    logits = nn.Linear.forward(output, states) * form.scale
    logits = torch.tanh(logits / form.cap) * form.cap if form.cap else logits
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def gradients(nats: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad((nats * torch.linspace(-1, 2, len(nats))).sum(), inputs)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("at_once", [1, 3, 7, 23, 1000])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
@pytest.mark.parametrize("bias", [True, False])
def test_pieces_of_any_size_are_the_whole(at_once: int, form: str, kind: type[nn.Linear], bias: bool) -> None:
    output, states, targets = problem(kind, bias=bias)
    inputs = (states, *output.parameters())
    theirs = whole(output, states, targets, FORMS[form])
    ours = nats_of(output, states, targets, FORMS[form], at_once=at_once)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for mine, other in zip(gradients(ours, *inputs), gradients(theirs, *inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
def test_without_a_token_every_gradient_is_zero(kind: type[nn.Linear]) -> None:
    output, states, targets = problem(kind)
    nats = nats_of(output, states[:0], targets[:0], LogitForm(), at_once=5)
    assert nats.shape == (0,)
    for gradient in torch.autograd.grad(nats.sum(), (states, *output.parameters())):
        assert not gradient.any()


def test_frozen_words_get_no_gradient_and_frozen_states_neither() -> None:
    output, states, targets = problem()
    output.requires_grad_(False)
    nats_of(output, states, targets, LogitForm(), at_once=5).sum().backward()
    assert output.weight.grad is None and states.grad is not None
    output.requires_grad_(True)
    nats_of(output, states.detach(), targets, LogitForm(), at_once=5).sum().backward()
    (expected,) = torch.autograd.grad(whole(output, states, targets, LogitForm()).sum(), output.weight)
    assert output.weight.grad is not None
    torch.testing.assert_close(output.weight.grad, expected, rtol=1e-6, atol=1e-6)


def test_states_alone_are_projected_as_before() -> None:
    output, states, targets = problem()
    logits = output(states)
    nats_of(output, states, targets, LogitForm(), at_once=5)
    assert torch.equal(output(states), logits) and type(output) is nn.Linear
    assert set(output.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
def test_lower_precision_rounds_as_autocast_does(dtype: torch.dtype, kind: type[nn.Linear]) -> None:
    """Both round; neither is further from fp32 than the other by more than a rounding."""
    output, states, targets = problem(kind)
    inputs = (states, *output.parameters())
    with torch.autocast("cpu", dtype=dtype):
        theirs = whole(output, states, targets, LogitForm())
        ours = nats_of(output, states, targets, LogitForm(), at_once=7)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    tolerance = 2 * torch.finfo(dtype).eps
    for mine, other in zip(gradients(ours, *inputs), gradients(theirs, *inputs), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - other).norm() <= tolerance * other.norm()


class Largest(TorchDispatchMode):
    """The most numbers that any result has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
def test_the_logits_of_all_tokens_never_exist(kind: type[nn.Linear]) -> None:
    output, states, targets = problem(kind)
    with Largest() as whole_logits:
        gradients(whole(output, states, targets, LogitForm()), states, output.weight)
    with Largest() as in_pieces:
        gradients(nats_of(output, states, targets, LogitForm(), at_once=3), states, output.weight)
    assert whole_logits.numbers == TOKENS * WORDS
    assert in_pieces.numbers == WIDTH * WORDS  # the words themselves; a piece is smaller


def test_a_piece_is_bounded_by_its_bytes() -> None:
    cpu = torch.device("cpu")
    assert piece_tokens(50_257, cpu) == 320 and piece_tokens(50_257, torch.device("cuda")) == 2_656
    assert piece_tokens(10**9, cpu) == 1
    for words in (100, 32_000, 128_256, 262_144):
        assert 4 * words * piece_tokens(words, cpu) <= 1 << 26
