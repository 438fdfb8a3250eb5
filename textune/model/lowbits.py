"""Weights of few bits beneath adapters: made here (`model.quantize`), or as the backbone's files have them; after
`freeze.py`, before `adapters.py`.

Nothing of them is trained, and nothing is kept of them for the backward pass: it reads them back once more. A saved
model has fp32 weights: those that are read back, with the adapters' update added.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from textune.config import Quantize
from textune.errors import ConfigError, ModelError
from textune.imports import import_quietly
from textune.model.device import Device, dtype_of_products, resolve_device
from textune.model.gptq import PackedLayer
from textune.model.hugging import Context, FamilyModule, HuggingModel
from textune.model.lowbitforms import BLOCK, EightBits, Form, FourBits
from textune.model.targets import linears, output_layer

_COMPUTE = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_NAMES = {dtype: name for name, dtype in _COMPUTE.items()}
_FLOAT = 4
"""Bytes of a number in fp32."""
_BLOCK_OF_SCALES = 256
"""Scales of 8 bits that share one; beside them stand the 16 and 256 values that bits mean, and the mean of the
scales."""
_HINT = 'Run `pip install "textune[qlora]"`, or leave model.quantize out.'


@dataclass(frozen=True)
class LowBits:
    """The layers of a model whose weights have few bits."""

    section: Quantize | None
    """How they were made, `compute` being what it stands for; None where the backbone's files have few bits."""
    layers: dict[str, LowBitLinear]
    """By the names that they had before adapters were put beside them."""
    turned: frozenset[str]
    """Those whose weights were [in, out]."""

    @property
    def bits(self) -> int:
        """Bits of a weight, the most of them where layers differ."""
        return max(layer.form.bits for layer in self.layers.values())

    @property
    def num_weights(self) -> int:
        """Weights of these layers, without biases."""
        return sum(layer.in_features * layer.out_features for layer in self.layers.values())

    @property
    def num_bytes(self) -> int:
        """What these weights and their scales take."""
        return sum(layer.num_bytes for layer in self.layers.values())

    @property
    def num_tensors(self) -> int:
        """Numbers in the parameters that hold them: two weights of 4 bits are one, and scales are beside them."""
        return sum(held.numel() for layer in self.layers.values() for held in layer.held().values())

    @contextlib.contextmanager
    def in_fp32(self) -> Iterator[None]:
        """Within it, products are those of a saved model."""
        computes = {name: layer.compute for name, layer in self.layers.items()}
        try:
            for layer in self.layers.values():
                layer.compute = torch.float32
            yield
        finally:
            for name, layer in self.layers.items():
                layer.compute = computes[name]

    def compute_in(self, precision: str) -> None:
        """Compute products in that arithmetic from now on, by its name."""
        for layer in self.layers.values():
            layer.compute = _COMPUTE[precision]

    def read_back(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A state of the model with their weights as fp32 numbers [out, in]."""
        found = dict(state)
        for name, layer in self.layers.items():
            prefix = f"{name}.base_layer" if f"{name}.base_layer.weight" in found else name
            for held in layer.held():
                del found[f"{prefix}.{held}"]
            found[f"{prefix}.weight"] = layer.read_back(torch.float32).contiguous()
        return found

    def turned_back(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A state that has plain names and fp32 weights, with these as the family of the model keeps them."""
        return {
            name: tensor.t().contiguous() if name.removesuffix(".weight") in self.turned else tensor
            for name, tensor in state.items()
        }


def require_low_bits(quantize: Quantize, device: Device, *, folder: Path | None = None) -> None:
    """Raise early what `quantize_beneath` finds wrong whatever the model: ModelError without bitsandbytes, or where
    the device lacks the arithmetic. `folder`: of the saved adapters that want such weights, not a configuration."""
    if importlib.util.find_spec("bitsandbytes") is None:
        saved = f"{folder} holds adapters beside weights of {quantize.bits} bits"
        raise ModelError(
            f"{'model.quantize is set' if folder is None else saved}, but bitsandbytes is not installed.",
            hint=_HINT if folder is None else 'Run `pip install "textune[qlora]"`.',
            key="model.quantize",
            value=quantize.model_dump(),
        )
    if quantize.compute == "bf16":
        kind: Literal["cpu", "cuda"] = "cuda" if device.torch.type == "cuda" else "cpu"
        try:
            resolve_device(kind, "bf16")
        except ModelError as error:
            raise ModelError(
                f'model.quantize.compute = "bf16", but this {kind} device has no bf16 arithmetic.',
                hint='Use "auto" or "fp32".',
                key="model.quantize.compute",
                value="bf16",
            ) from error


def low_bit_layers(hf: HuggingModel, *, whole: Collection[str]) -> dict[str, FamilyModule]:
    """The layers that `quantize_beneath` gives few bits, by name; its arguments. The layer of a language model that
    makes words of states stays exact: its rounding would be in every logit, and its weights may be those of the token
    embeddings."""
    exact, words = set(getattr(hf, "_keep_in_fp32_modules", None) or ()), output_layer(hf)
    return {
        name: module
        for name, module in linears(hf).items()
        if module is not words
        # Subclasses may compute something else; some families read the type of such a weight.
        and f"{name}.weight" not in whole
        and not exact & set(name.split("."))
        and type(module) in (nn.Linear, Conv1D)
    }


def num_low_bit_bytes(inputs: int, outputs: int, section: Quantize) -> int:
    """What the weight of such a layer and its scales take, before it is made."""
    weights = inputs * outputs
    if section.bits == 8:
        return weights + _FLOAT * outputs
    blocks = math.ceil((weights + weights % 2) / BLOCK)
    scales = blocks + _FLOAT * (math.ceil(blocks / _BLOCK_OF_SCALES) + 256 + 1) if section.double else _FLOAT * blocks
    return math.ceil(weights / 2) + scales + _FLOAT * 16


def quantize_beneath(hf: HuggingModel, section: Quantize, *, whole: Collection[str], dtype: torch.dtype) -> LowBits:
    """Give the backbone's linear layers weights of few bits, in place and on the CPU; before adapters are put there.

    `whole` are the names of weights that are trained as they are (the head, and what starts new), `dtype` is the
    arithmetic of the run. ConfigError where the backbone has no such layer.
    """
    import_quietly("bitsandbytes")
    compute = _COMPUTE.get(section.compute, dtype)
    form = FourBits(section) if section.bits == 4 else EightBits()
    layers: dict[str, LowBitLinear] = {}
    turned: set[str] = set()
    for name, module in low_bit_layers(hf, whole=whole).items():
        linear = cast(nn.Linear, module)
        if isinstance(module, Conv1D):
            turned.add(name)
        weight_OI = linear.weight.detach().t() if name in turned else linear.weight.detach()
        outputs, inputs = weight_OI.shape
        _require_within(form, weight_OI, f"{name}.weight")
        layers[name] = LowBitLinear(form, form.pack(weight_OI), linear.bias, shape=(outputs, inputs), compute=compute)
        hf.set_submodule(name, layers[name])
    if not layers:
        raise ConfigError(
            f"model.quantize: {hf.config.model_type} has no linear layers of its own to give fewer bits.",
            hint="Leave model.quantize out.",
            key="model.quantize",
            value=section.model_dump(),
        )
    return LowBits(section.model_copy(update={"compute": _NAMES[compute]}), layers, frozenset(turned))


def _require_within(form: FourBits | EightBits, weight_OI: torch.Tensor, name: str) -> None:
    """ModelError where a weight has a number that bitsandbytes cannot make few bits of, without saying so."""
    lowest, highest = torch.aminmax(weight_OI)
    largest = float(torch.maximum(-lowest, highest))
    if largest <= form.largest:
        return
    hint = "Use model.quantize.bits = 4, or leave model.quantize out."
    raise ModelError(
        f"model.quantize: {name} has a number of {largest:g}, but weights of {form.bits} bits are made of numbers of"
        f" at most {form.largest:g}.",
        hint=hint if math.isfinite(largest) else "The backbone's files are damaged: restore them.",
        key="model.quantize",
        value=largest,
        reason=name,
    )


def put_packed(hf: HuggingModel, packed: Mapping[str, PackedLayer], dtype: torch.dtype) -> LowBits:
    """Give layers the weights of few bits that their files have, in place and on the CPU; `dtype` is the arithmetic
    of the run."""
    layers = {
        name: LowBitLinear(
            layer.form, layer.tensors, cast(nn.Linear, hf.get_submodule(name)).bias, shape=layer.shape, compute=dtype
        )
        for name, layer in packed.items()
    }
    for name, layer in layers.items():
        hf.set_submodule(name, layer)
    return LowBits(None, layers, frozenset(name for name, layer in packed.items() if layer.turned))


class LowBitLinear(nn.Linear):
    """W x + b, where W has few bits and is not trained; products are computed in `compute`.

    A kind of `nn.Linear`, since adapters are put beside these. bitsandbytes' own layers are not used: on a processor,
    those of 0.50.2 are wrong for some widths that are not a multiple of 64, such as 96, cannot be trained after an
    evaluation, and round the bias.
    """

    def __init__(
        self,
        form: Form,
        tensors: Mapping[str, torch.Tensor],
        bias_O: nn.Parameter | None,
        *,
        shape: tuple[int, int],
        compute: torch.dtype,
    ) -> None:
        """`tensors` are what `form` keeps of a weight [O, I] of that `shape`, one of them named `weight`."""
        nn.Module.__init__(self)  # that of nn.Linear draws random weights
        self.out_features, self.in_features = shape
        self.form = form
        self.compute = compute
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        self.register_parameter("bias", bias_O)

    @property
    def num_bytes(self) -> int:
        """What weight and scales take."""
        return sum(tensor.nbytes for tensor in self.held().values())

    def held(self) -> dict[str, nn.Parameter]:
        """Weight and scales by name, without the bias."""
        return {
            name: parameter for name, parameter in self._parameters.items() if name != "bias" and parameter is not None
        }

    def read_back(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight [O, I] in floating point."""
        return self.form.read_back(self.held(), (self.out_features, self.in_features), dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From [..., I] to [..., O], in the type that a product of plain weights would have."""
        bias = None if self.bias is None else self.bias.to(self.compute)
        with torch.autocast(x.device.type, enabled=False):
            rows_NI = x.reshape(-1, self.in_features).to(self.compute)
            product_NO: torch.Tensor = _Product.apply(rows_NI, bias, self)
        return product_NO.view(*x.shape[:-1], self.out_features).to(dtype_of_products(x.dtype, x.device))


class _Product(torch.autograd.Function):
    """x W^T + b in the type of x; the backward pass reads W back again instead of keeping it."""

    @staticmethod
    def forward(ctx: Context, x_NI: torch.Tensor, bias_O: torch.Tensor | None, layer: LowBitLinear) -> torch.Tensor:
        ctx.layer = layer
        return functional.linear(x_NI, layer.read_back(x_NI.dtype), bias_O)

    @staticmethod
    def backward(ctx: Context, gradient_NO: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        of_x, of_bias, _ = ctx.needs_input_grad
        with torch.autocast(gradient_NO.device.type, enabled=False):
            gradient_NI = gradient_NO @ ctx.layer.read_back(gradient_NO.dtype) if of_x else None
            return gradient_NI, gradient_NO.sum(0) if of_bias else None, None
