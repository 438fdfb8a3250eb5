"""Whole pre-norm layers, which normalise before attention and before the feed-forward part (ModernBERT, GPT-2, Llama,
...).

    x --norm--> --one product--> query, key, value --rotary, attention--> --product--> added to x, norm -->
    --one product--> activation, gate --> --product--> added: y

As in `layers.py` the modules keep their parameters and names, weights are copied to the precision of the products
(`linears.py`), and the residual stream, norms and sums stay fp32. Which layers are known: `kinds.py`.

Shapes: T tokens, H hidden, I inner width, h heads, g key heads, n = h + 2g heads of all three, d head width; R of the
T tokens are computed to the end: of the last layer only what the head reads, else all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from textune.model.device import dtype_of_products
from textune.model.hugging import Context, FamilyModule
from textune.model.native import between
from textune.model.native.between import Addend, Norm, Normed, Rotation
from textune.model.native.kernels import AttentionShape, Kernels, draw_seeds
from textune.model.native.linears import Linears

if TYPE_CHECKING:
    from textune.model.attention import PackedLayout


class Dropouts(NamedTuple):
    """Probabilities: of attention's weights, of its output, behind the activation, of the layer's output."""

    attention: float = 0.0
    attention_output: float = 0.0
    inner: float = 0.0
    output: float = 0.0


@dataclass(frozen=True)
class PrenormLayer:
    """The modules of one layer, whatever they are called in its family."""

    projections: tuple[nn.Module, ...]
    """One product or three that make queries, keys and values, in this order."""
    attention_output: nn.Module
    inner: tuple[nn.Module, ...]
    """One product or two; of a gated layer the activated half comes first."""
    output: nn.Module
    attention_norm: nn.Module | None
    feed_forward_norm: nn.Module
    num_heads: int
    num_key_heads: int
    scale: float
    causal: bool
    activation: int
    is_gated: bool
    dropouts: tuple[tuple[FamilyModule, str] | None, ...]
    """Where each of `Dropouts` is kept: (module, attribute); None where there is none."""
    window: int = 0
    head_norms: tuple[nn.Module, nn.Module] | None = None
    """Of queries and of keys."""

    def probabilities(self) -> Dropouts:
        """The current dropout probabilities in training."""
        return Dropouts(*(0.0 if place is None else float(getattr(*place)) for place in self.dropouts))

    def linears(self) -> tuple[nn.Module, ...]:
        """All products."""
        return *self.projections, self.attention_output, *self.inner, self.output

    def norms(self) -> tuple[nn.Module, ...]:
        """All norms."""
        first = () if self.attention_norm is None else (self.attention_norm,)
        return *first, self.feed_forward_norm, *(self.head_norms or ())


def norm_of(module: FamilyModule) -> Norm:
    """What a norm of PyTorch or transformers computes; Gemma's weights are added to 1."""
    gamma = module.weight.detach()
    if isinstance(module, nn.LayerNorm):
        return Norm(gamma, None if module.bias is None else module.bias.detach(), module.eps, centred=True)
    if type(module).__name__.startswith("Gemma"):
        return Norm(gamma + 1.0, None, module.eps, centred=False)
    return Norm(gamma, None, module.variance_epsilon, centred=False)


@dataclass(frozen=True)
class Pass:
    """One forward pass of one layer: batch, precision, dropouts and their seeds."""

    layout: PackedLayout
    dtype: torch.dtype
    rotation: Rotation | None
    causal: bool
    dropouts: Dropouts
    seeds: list[int]
    with_grad: bool
    reads_R: torch.Tensor | None


class _Attended(NamedTuple):
    """What the gradient of the first half needs; `raw` are queries, keys and values before the norms of heads."""

    x_TH: torch.Tensor
    low_TH: torch.Tensor
    mean_T: torch.Tensor | None
    scale_T: torch.Tensor | None
    raw_Tnd: torch.Tensor | None
    query_Thd: torch.Tensor
    key_Tgd: torch.Tensor
    value_Tgd: torch.Tensor
    attended_RO: torch.Tensor
    weight: torch.Tensor


class _Fed(NamedTuple):
    """What the gradient of the second half needs."""

    middle_RH: torch.Tensor
    low_RH: torch.Tensor
    mean_R: torch.Tensor
    scale_R: torch.Tensor
    inner_RI: torch.Tensor
    activated_RI: torch.Tensor
    attention_output: torch.Tensor
    inner: torch.Tensor
    output: torch.Tensor


class FastPrenormLayer:
    """One layer of a backbone with its working copies; calling it computes a packed batch."""

    def __init__(self, parts: PrenormLayer, kernels: Kernels, *, is_last: bool) -> None:
        self.parts = parts
        self.is_last = is_last
        self.kernels = kernels
        self.projections = Linears(*parts.projections)
        self.attention_output = Linears(parts.attention_output)
        self.inner = Linears(*parts.inner)
        self.output = Linears(parts.output)
        self.parameters = [p for module in (*parts.linears(), *parts.norms()) for p in module.parameters()]

    def __call__(self, x_TH: torch.Tensor, layout: PackedLayout, *, training: bool, **kwargs: Any) -> torch.Tensor:
        """y float32 [T, H] of x float32 [T, H]; `kwargs` are those of the layer's own forward."""
        dtype = dtype_of_products(x_TH.dtype, x_TH.device)
        positions = kwargs.get("position_embeddings")
        causal = kwargs.get("is_causal")
        this = Pass(
            layout,
            dtype,
            None if positions is None else Rotation(*(t.detach().squeeze(0).float().contiguous() for t in positions)),
            self.parts.causal if causal is None else bool(causal),
            self.parts.probabilities() if training else Dropouts(),
            draw_seeds(4) if training else [0] * 4,
            torch.is_grad_enabled(),
            layout.starts_B if self.is_last and layout.reads_first else None,
        )
        with torch.autocast("cpu", enabled=False):
            y_TH: torch.Tensor = _Layer.apply(x_TH.contiguous(), self, this, *self.parameters)
        return y_TH

    def attention_shape(self, this: Pass, width: int) -> AttentionShape:
        """The call of the attention kernel."""
        return AttentionShape(
            this.layout.starts_B,
            this.layout.lengths_B,
            self.parts.scale,
            causal=this.causal,
            window=self.parts.window,
            dropout=this.dropouts.attention,
            seed=this.seeds[0],
            first_only=this.reads_R is not None,
        )

    def attention_addend(self, this: Pass) -> Addend:
        """What attention adds to the residual stream, except the product itself."""
        return Addend(_bias(self.parts.attention_output), this.dropouts.attention_output, this.seeds[1])

    def output_addend(self, this: Pass) -> Addend:
        """What the feed-forward part adds."""
        return Addend(_bias(self.parts.output), this.dropouts.output, this.seeds[3])

    def attend(self, this: Pass, x_TH: torch.Tensor) -> _Attended:
        """From the residual stream to the output of attention, before its product."""
        parts, weights = self.parts, self.projections
        if parts.attention_norm is None:
            low_TH, mean_T, scale_T = x_TH.to(this.dtype), None, None
        else:
            normed = between.normalize(self.kernels, norm_of(parts.attention_norm), x_TH, this.dtype)
            low_TH, mean_T, scale_T = normed.y_TH, normed.mean_T, normed.scale_T
        weight = weights.get(this.dtype, with_grad=this.with_grad)
        heads = parts.num_heads + 2 * parts.num_key_heads
        made_Tnd = weights.times(low_TH, weight, weights.bias(this.dtype, with_grad=this.with_grad)).unflatten(
            1, (heads, -1)
        )
        raw_Tnd, query_Thd, key_Tgd, value_Tgd = self._turn(this, made_Tnd)
        shape = self.attention_shape(this, made_Tnd.shape[2])
        attended_RO = self.kernels.attention(shape, query_Thd, key_Tgd, value_Tgd).flatten(1)
        return _Attended(x_TH, low_TH, mean_T, scale_T, raw_Tnd, query_Thd, key_Tgd, value_Tgd, attended_RO, weight)

    def _turn(
        self, this: Pass, made_Tnd: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(what was made, where it is kept; queries, keys, values) after norms and rotary positions."""
        query_Thd, key_Tgd, value_Tgd = self.split(made_Tnd)
        if this.rotation is None:
            return None, query_Thd, key_Tgd, value_Tgd
        if self.parts.head_norms is None:
            turned_Tnd = made_Tnd[:, : self.parts.num_heads + self.parts.num_key_heads]
            between.rotate(self.kernels, this.rotation, turned_Tnd, turned_Tnd)
            return None, query_Thd, key_Tgd, value_Tgd
        results = []
        for source, norm in zip((query_Thd, key_Tgd), self.parts.head_norms, strict=True):
            results.append(torch.empty(source.shape, dtype=source.dtype))
            between.rotate(self.kernels, this.rotation, source, results[-1], norm_of(norm))
        return made_Tnd, results[0], results[1], value_Tgd

    def split(self, all_Tnd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values."""
        query, key, value = all_Tnd.split(
            [self.parts.num_heads, self.parts.num_key_heads, self.parts.num_key_heads], dim=1
        )
        return query, key, value

    def trains_attention(self, needed: set[int]) -> bool:
        """Whether `needed` has parameters of what comes before the output of attention."""
        norms = (self.parts.attention_norm, *(self.parts.head_norms or ()))
        return self.projections.trains(needed) or any(_any(norm, needed) for norm in norms)

    def feed(self, this: Pass, attended_RO: torch.Tensor, residual_RH: torch.Tensor) -> tuple[torch.Tensor, _Fed]:
        """From the output of attention to that of the layer."""
        parts, kernels = self.parts, self.kernels
        copies = [
            w.get(this.dtype, with_grad=this.with_grad) for w in (self.attention_output, self.inner, self.output)
        ]
        mixed_RH = self.attention_output.times(attended_RO, copies[0])
        norm, addend = norm_of(parts.feed_forward_norm), self.attention_addend(this)
        middle_RH, low_RH, mean_R, scale_R = between.add_and_normalize(kernels, norm, addend, mixed_RH, residual_RH)
        inner_RI = self.inner.times(low_RH, copies[1])
        bias_I = self.inner_bias(this.with_grad)
        if parts.is_gated:
            dropout, seed = this.dropouts.inner, this.seeds[2]
            activated_RI = between.gate(kernels, inner_RI, bias_I, parts.activation, dropout, seed)
        else:
            assert bias_I is not None
            activated_RI = kernels.activation(inner_RI, bias_I, parts.activation)
        back_RH = self.output.times(activated_RI, copies[2])
        y_RH = between.add(kernels, self.output_addend(this), back_RH, middle_RH)
        return y_RH, _Fed(middle_RH, low_RH, mean_R, scale_R, inner_RI, activated_RI, *copies)

    def inner_bias(self, with_grad: bool) -> torch.Tensor | None:
        """float32 biases of the inner products."""
        return self.inner.bias(torch.float32, with_grad=with_grad)

    def feed_backward(
        self, this: Pass, fed: _Fed, attended_RO: torch.Tensor, grad_y_RH: torch.Tensor, needed: set[int]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[int, torch.Tensor | None]]:
        """Gradients of the residual, of attention's output and of parameters."""
        parts, kernels, norm = self.parts, self.kernels, norm_of(self.parts.feed_forward_norm)
        last = between.sum_backward(kernels, grad_y_RH, addend=self.output_addend(this), dtype=this.dtype)
        assert last.x_TH is not None
        grads: dict[int, torch.Tensor | None] = {}
        grads |= self.output.gradients(needed, last.x_TH, fed.activated_RI, last.bias_H)
        grad_activated_RI = self.output.back(last.x_TH, fed.output)
        bias_I = self.inner_bias(False)
        if parts.is_gated:
            dropout, seed = this.dropouts.inner, this.seeds[2]
            grad_inner_RI, grad_bias_I = between.gate_backward(
                kernels, fed.inner_RI, bias_I, grad_activated_RI, parts.activation, dropout, seed
            )
        else:
            assert bias_I is not None
            grad_inner_RI, grad_bias_I = kernels.activation_backward(
                fed.inner_RI, bias_I, grad_activated_RI, parts.activation
            )
        grads |= self.inner.gradients(needed, grad_inner_RI, fed.low_RH, grad_bias_I)
        first = between.sum_backward(
            kernels,
            grad_y_RH,
            norm=norm,
            addend=self.attention_addend(this),
            normed=Normed(fed.middle_RH, fed.low_RH, fed.mean_R, fed.scale_R),
            grad_y_TH=self.inner.back(grad_inner_RI, fed.inner),
            dtype=this.dtype,
        )
        assert first.x_TH is not None
        grads |= _norm_gradients(parts.feed_forward_norm, first.gamma_H, first.beta_H)
        grads |= self.attention_output.gradients(needed, first.x_TH, attended_RO, first.bias_H)
        return first.residual_TH, self.attention_output.back(first.x_TH, fed.attention_output), grads

    def attend_backward(
        self,
        this: Pass,
        saved: _Attended,
        grad_TH: torch.Tensor,
        grad_attended_RO: torch.Tensor,
        needed: set[int],
        *,
        needs_x: bool,
    ) -> tuple[torch.Tensor | None, dict[int, torch.Tensor | None]]:
        """Gradients of x, where `needs_x`, and of parameters; `grad_TH` is what reaches x past attention."""
        parts, kernels = self.parts, self.kernels
        grad_Tnd = torch.empty(
            len(saved.x_TH), parts.num_heads + 2 * parts.num_key_heads, saved.query_Thd.shape[2], dtype=this.dtype
        )
        shape = self.attention_shape(this, grad_Tnd.shape[2])
        places = self.split(grad_Tnd)
        answers = grad_attended_RO.unflatten(1, (parts.num_heads, -1))
        kernels.attention_backward(shape, saved.query_Thd, saved.key_Tgd, saved.value_Tgd, answers, places)
        grads: dict[int, torch.Tensor | None] = {}
        if this.rotation is not None and parts.head_norms is None:
            turned_Tnd = grad_Tnd[:, : parts.num_heads + parts.num_key_heads]
            between.rotate_backward(kernels, this.rotation, turned_Tnd, turned_Tnd)
        elif this.rotation is not None and saved.raw_Tnd is not None:
            for source, grad, module in zip(self.split(saved.raw_Tnd), places, parts.head_norms or (), strict=False):
                gamma = between.rotate_backward(kernels, this.rotation, source, grad, norm_of(module))
                grads |= _norm_gradients(module, gamma, None)
        grad_TO = grad_Tnd.flatten(1)
        grad_bias_O = kernels.column_sums(grad_TO) if self.projections.trains_bias(needed) else None
        grads |= self.projections.gradients(needed, grad_TO, saved.low_TH, grad_bias_O)
        if not needs_x and not _any(parts.attention_norm, needed):
            return None, grads
        grad_low_TH = self.projections.back(grad_TO, saved.weight)
        if parts.attention_norm is None or saved.mean_T is None or saved.scale_T is None:
            return grad_TH.add_(grad_low_TH), grads
        norm = norm_of(parts.attention_norm)
        normed = Normed(saved.x_TH, saved.low_TH, saved.mean_T, saved.scale_T)
        found = between.sum_backward(
            kernels, grad_TH, norm=norm, normed=normed, grad_y_TH=grad_low_TH, dtype=this.dtype
        )
        grads |= _norm_gradients(parts.attention_norm, found.gamma_H, found.beta_H)
        return found.residual_TH, grads


class _Layer(torch.autograd.Function):
    """One layer as one node of the graph: x float32 [T, H] to y float32 [T, H], zeros for tokens that
    are never read.
    """

    @staticmethod
    def forward(
        ctx: Context, x_TH: torch.Tensor, layer: FastPrenormLayer, this: Pass, *_: torch.Tensor
    ) -> torch.Tensor:
        attended = layer.attend(this, x_TH)
        residual_RH = x_TH if this.reads_R is None else x_TH.index_select(0, this.reads_R)
        y_RH, fed = layer.feed(this, attended.attended_RO, residual_RH)
        ctx.layer, ctx.run = layer, this
        ctx.save_for_backward(*attended, *fed)
        return y_RH if this.reads_R is None else torch.zeros_like(x_TH).index_copy_(0, this.reads_R, y_RH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_y_TH: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layer, this = ctx.layer, ctx.run
        number = len(_Attended._fields)
        saved = ctx.saved_tensors  # once: a checkpointed layer computes them again for each reading
        attended, fed = _Attended(*saved[:number]), _Fed(*saved[number:])
        wanted = ctx.needs_input_grad[3:]
        needed = {id(p) for p, wants in zip(layer.parameters, wanted, strict=True) if wants}
        grad_y_RH = grad_y_TH.contiguous() if this.reads_R is None else grad_y_TH.index_select(0, this.reads_R)
        grad_RH, grad_attended_RO, grads = layer.feed_backward(this, fed, attended.attended_RO, grad_y_RH, needed)
        grad_x_TH, needs_x = None, ctx.needs_input_grad[0]
        if needs_x or layer.trains_attention(needed):
            grad_TH = (
                grad_RH if this.reads_R is None else torch.zeros_like(grad_y_TH).index_copy_(0, this.reads_R, grad_RH)
            )
            grad_x_TH, more = layer.attend_backward(this, attended, grad_TH, grad_attended_RO, needed, needs_x=needs_x)
            grads |= more
        return grad_x_TH, None, None, *(grads.get(id(p)) if id(p) in needed else None for p in layer.parameters)


def _any(module: nn.Module | None, needed: set[int]) -> bool:
    """Whether a parameter of `module` is in `needed`."""
    return module is not None and any(id(parameter) in needed for parameter in module.parameters())


def _bias(module: FamilyModule) -> torch.Tensor | None:
    return None if module.bias is None else module.bias.detach()


def _norm_gradients(
    module: FamilyModule, gamma: torch.Tensor | None, beta: torch.Tensor | None
) -> dict[int, torch.Tensor | None]:
    found: dict[int, torch.Tensor | None] = {id(module.weight): gamma}
    if beta is not None:
        found[id(module.bias)] = beta
    return found
