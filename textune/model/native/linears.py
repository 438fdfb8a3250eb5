"""The linear layers of a whole layer, as its products need them: alone or several as one, plain or with an adapter;
before `layers.py` and `prenorm.py`.

    x W'  with  W' = W + scale * up @ down, which `copies.py` makes in the precision of the products

The gradients of an adapter follow from those of the product by two thin products each, of the width of its rank: that
of the whole weight is only formed where the weight itself is trained.

Shapes: T tokens, I inputs, O outputs, r rank of one adapter, R ranks of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.model.hugging import FamilyModule
from textune.model.native.copies import Adapter, WorkingCopy

_ADAPTED = ("peft.tuners.lora.layer", "Linear")
"""Module and name of peft's class, which is only imported where a model has adapters."""


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


def _adapter_of(module: FamilyModule, *, by_input: bool) -> Adapter | None:
    if not _is_adapted(module):
        return None
    (name,) = module.lora_A
    return Adapter(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name], by_input)


class Linears:
    """Linear layers of the same input that are computed as one product: weights [out, in], or GPT-2's [in, out]."""

    def __init__(self, *modules: FamilyModule) -> None:
        self._bases = [base_of(module) for module in modules]
        self._by_input = not isinstance(self._bases[0], nn.Linear)
        self._adapters = [_adapter_of(module, by_input=self._by_input) for module in modules]
        self._weights = WorkingCopy(*(base.weight for base in self._bases), adapters=self._adapters)
        biases = [base.bias for base in self._bases if base.bias is not None]
        self._biases = WorkingCopy(*biases) if biases else None
        self._sizes = [base.weight.shape[1 if self._by_input else 0] for base in self._bases]

    def get(self, dtype: torch.dtype, *, with_grad: bool) -> torch.Tensor:
        """The weights in `dtype`."""
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
        return x_TI @ weight_IO if bias_O is None else torch.addmm(bias_O, x_TI, weight_IO)

    def back(self, grad_TO: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The gradient of x."""
        return grad_TO @ (weight.t() if self._by_input else weight)

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
        pieces = zip(self._adapters, grad_TO.split(self._sizes, dim=1), strict=True)
        adapted = [(adapter, piece_TO) for adapter, piece_TO in pieces if adapter is not None]
        if not needed.intersection(id(tensor) for tensor in _tensors(self._adapters)):
            return {}
        down_RI = torch.cat([adapter.down_rI.detach() for adapter, _ in adapted]).to(x_TI.dtype)
        through_up = [piece_TO @ adapter.up_Or.detach().to(x_TI.dtype) for adapter, piece_TO in adapted]
        grad_down_RI = (torch.cat(through_up, dim=1).t() @ x_TI).float()
        ranks = [len(adapter.down_rI) for adapter, _ in adapted]
        grads_of_down, lows = grad_down_RI.split(ranks), (x_TI @ down_RI.t()).split(ranks, dim=1)
        found: dict[int, torch.Tensor] = {}
        for (adapter, piece_TO), grad_rI, low_Tr in zip(adapted, grads_of_down, lows, strict=True):
            found[id(adapter.down_rI)] = grad_rI * adapter.scale
            # Made as [r, O], which is several times as fast as [O, r].
            found[id(adapter.up_Or)] = (low_Tr.t() @ piece_TO).float().t() * adapter.scale
        return found


def _tensors(adapters: Sequence[Adapter | None]) -> list[torch.Tensor]:
    return [tensor for adapter in adapters if adapter is not None for tensor in (adapter.down_rI, adapter.up_Or)]
