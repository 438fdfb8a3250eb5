"""The linear layers of a whole layer, as its products need them: alone or several as one, plain or with an adapter;
before `layers.py` and `prenorm.py`.

    x W' + scale * (x down') up'    W frozen, in the precision of the products (`copies.py`)

What an adapter adds, and its gradients, are thin products, of the width of its rank. So weights that are frozen are
read as they are, and nothing of the size of a weight is made in a step: the gradient of the whole weight is only
formed where the weight itself is trained.

Shapes: T tokens, I inputs, O outputs, r rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.model.hugging import FamilyModule
from textune.model.native.copies import WorkingCopy

_ADAPTED = ("peft.tuners.lora.layer", "Linear")
"""Module and name of peft's class, which is only imported where a model has adapters."""


@dataclass(frozen=True)
class Adapter:
    """Two small matrices beside a linear layer: x becomes scale * (x @ down') @ up', which is added to its output."""

    down_rI: torch.Tensor
    up_Or: torch.Tensor
    scale: float

    def low(self, x_TI: torch.Tensor) -> torch.Tensor:
        """x @ down', [T, r], in the precision of x."""
        return x_TI @ self.down_rI.detach().to(x_TI.dtype).t()

    def through_up(self, grad_TO: torch.Tensor) -> torch.Tensor:
        """The gradient of `low` but for the scale, [T, r], of that of the output."""
        return grad_TO @ self.up_Or.detach().to(grad_TO.dtype)


def base_of(module: FamilyModule) -> FamilyModule:
    """The linear layer itself, without the adapter beside it."""
    base: FamilyModule = module.base_layer if _is_adapted(module) else module
    return base


def is_computable(module: FamilyModule) -> bool:
    """Whether a linear layer is PyTorch's or transformers' own and its adapter, if it has one, is the one that is
    computed: without dropout, a bias or another rule, and neither merged nor switched off."""
    if type(base_of(module)) not in (nn.Linear, Conv1D):
        return False
    if not _is_adapted(module):
        return True
    names = list(module.lora_A)
    is_alone = len(names) == 1 and module.active_adapters == names and not (module.merged or module.disable_adapters)
    return (
        is_alone
        and not module.lora_variant
        and not any(module.lora_bias.values())
        and type(module.lora_dropout[names[0]]) is nn.Identity
    )


def _is_adapted(module: FamilyModule) -> bool:
    return (type(module).__module__, type(module).__name__) == _ADAPTED


def _adapter_of(module: FamilyModule) -> Adapter | None:
    if not _is_adapted(module):
        return None
    (name,) = module.lora_A
    return Adapter(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name])


class Linears:
    """Linear layers of the same input that are computed as one product: weights [out, in], or GPT-2's [in, out]."""

    def __init__(self, *modules: FamilyModule) -> None:
        self._bases = [base_of(module) for module in modules]
        self._by_input = not isinstance(self._bases[0], nn.Linear)
        self._adapters = [_adapter_of(module) for module in modules]
        self._weights = WorkingCopy(*(base.weight for base in self._bases))
        biases = [base.bias for base in self._bases if base.bias is not None]
        self._biases = WorkingCopy(*biases) if biases else None
        self._sizes = [base.weight.shape[1 if self._by_input else 0] for base in self._bases]

    def get(self, dtype: torch.dtype, *, with_grad: bool) -> torch.Tensor:
        """The weights in `dtype`, without what adapters add."""
        return self._weights.get(dtype, with_grad=with_grad)

    def bias(self, dtype: torch.dtype, *, with_grad: bool) -> torch.Tensor | None:
        """The biases side by side."""
        return None if self._biases is None else self._biases.get(dtype, with_grad=with_grad)

    def trains(self, needed: set[int]) -> bool:
        """Whether a weight, a bias or an adapter is among the parameters of these ids."""
        own = (*(base.weight for base in self._bases), *_tensors(self._adapters))
        return self.trains_bias(needed) or any(id(parameter) in needed for parameter in own)

    def trains_bias(self, needed: set[int]) -> bool:
        """Whether a bias is among the parameters of these ids."""
        return any(id(base.bias) in needed for base in self._bases)

    def times(self, x_TI: torch.Tensor, weight: torch.Tensor, bias_O: torch.Tensor | None = None) -> torch.Tensor:
        """[T, O] of x [T, I]."""
        weight_IO = weight if self._by_input else weight.t()
        y_TO = x_TI @ weight_IO if bias_O is None else torch.addmm(bias_O, x_TI, weight_IO)
        for adapter, piece_TO in self._adapted(y_TO):
            piece_TO.addmm_(adapter.low(x_TI), adapter.up_Or.detach().to(x_TI.dtype).t(), alpha=adapter.scale)
        return y_TO

    def back(self, grad_TO: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The gradient of x."""
        grad_TI = grad_TO @ (weight.t() if self._by_input else weight)
        for adapter, piece_TO in self._adapted(grad_TO):
            down_rI = adapter.down_rI.detach().to(grad_TO.dtype)
            grad_TI.addmm_(adapter.through_up(piece_TO), down_rI, alpha=adapter.scale)
        return grad_TI

    def _adapted(self, of_all_TO: torch.Tensor) -> list[tuple[Adapter, torch.Tensor]]:
        """Each adapter with the columns [T, O] of its layer."""
        if not any(self._adapters):
            return []
        pieces = zip(self._adapters, of_all_TO.split(self._sizes, dim=1), strict=True)
        return [(adapter, piece_TO) for adapter, piece_TO in pieces if adapter is not None]

    def gradients(
        self, needed: set[int], grad_TO: torch.Tensor, x_TI: torch.Tensor, grad_bias_O: torch.Tensor | None
    ) -> dict[int, torch.Tensor]:
        """id of each parameter to its gradient; weights and adapters only where they are in `needed`."""
        found: dict[int, torch.Tensor] = {}
        if any(id(base.weight) in needed for base in self._bases):
            whole = (x_TI.t() @ grad_TO if self._by_input else grad_TO.t() @ x_TI).float()
            pieces = [whole] if len(self._sizes) == 1 else whole.split(self._sizes)
            found |= {id(base.weight): piece for base, piece in zip(self._bases, pieces, strict=True)}
        if grad_bias_O is not None and self._biases is not None:
            pieces = grad_bias_O.split(self._sizes)
            found |= {id(base.bias): piece for base, piece in zip(self._bases, pieces, strict=True)}
        return found | self._adapter_gradients(needed, grad_TO, x_TI)

    def _adapter_gradients(
        self, needed: set[int], grad_TO: torch.Tensor, x_TI: torch.Tensor
    ) -> dict[int, torch.Tensor]:
        if not needed.intersection(id(tensor) for tensor in _tensors(self._adapters)):
            return {}
        found: dict[int, torch.Tensor] = {}
        for adapter, piece_TO in self._adapted(grad_TO):
            found[id(adapter.down_rI)] = (adapter.through_up(piece_TO).t() @ x_TI).float() * adapter.scale
            # Made as [r, O], which is several times as fast as [O, r].
            found[id(adapter.up_Or)] = (adapter.low(x_TI).t() @ piece_TO).float().t() * adapter.scale
        return found


def _tensors(adapters: Sequence[Adapter | None]) -> list[torch.Tensor]:
    return [tensor for adapter in adapters if adapter is not None for tensor in (adapter.down_rI, adapter.up_Or)]
