"""Whole encoder layers with few passes over memory: products by PyTorch, everything between them by the kernels.

    x --one product--> query, key, value --attention kernel--> --product, norm kernel--> --product, activation-->
    --product, norm kernel--> y

For post-norm layers, which normalise after each residual sum (BERT and similar, DistilBERT, DeBERTa-v2 and v3);
`prenorm.py` has the pre-norm layers. The modules of the backbone keep their parameters and names.

Weights are copied to the precision of the products (`linears.py`); norms, the residual stream and all sums stay fp32,
as under autocast. Shapes: T tokens, H hidden, I inner width, h heads, d head width, P rows of a table of distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from textune.model.device import dtype_of_products
from textune.model.distances import Distances, count_terms, terms_of_distances
from textune.model.hugging import Context, FamilyModule
from textune.model.native.disentangled import Terms, disentangled_attention, disentangled_backward
from textune.model.native.int8 import Int8Linear
from textune.model.native.kernels import ACTIVATIONS, AttentionShape, Kernels, Norm, draw_seeds
from textune.model.native.linears import Linears, base_of, is_computable

if TYPE_CHECKING:
    from textune.model.attention import PackedLayout


@dataclass(frozen=True)
class EncoderLayer:
    """The modules of one layer, whatever they are called in its family."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    output: nn.Linear
    output_norm: nn.LayerNorm
    num_heads: int
    activation: int
    attention_dropout: nn.Dropout
    attention_output_dropout: nn.Dropout
    output_dropout: nn.Dropout
    distances_read_by: FamilyModule | None = None
    """DeBERTa's attention, whose scores have terms for distances."""

    def linears(self) -> tuple[nn.Linear, ...]:
        """All of them."""
        return self.query, self.key, self.value, self.attention_output, self.inner, self.output

    def floats(self) -> list[nn.Parameter]:
        """All parameters; layers with int8 weights have none."""
        modules: tuple[nn.Module, ...] = (*self.linears(), self.attention_norm, self.output_norm)
        return [parameter for module in modules for parameter in module.parameters()]


class _Saved(NamedTuple):
    """What the gradient of a layer needs."""

    residual_RH: torch.Tensor
    low_TH: torch.Tensor
    qkv_T3hd: torch.Tensor
    attended_RH: torch.Tensor
    mixed_RH: torch.Tensor
    first_mean_R: torch.Tensor
    first_scale_R: torch.Tensor
    middle_RH: torch.Tensor
    middle_low_RH: torch.Tensor
    inner_RI: torch.Tensor
    activated_RI: torch.Tensor
    back_RH: torch.Tensor
    second_mean_R: torch.Tensor
    second_scale_R: torch.Tensor
    qkv_weight: torch.Tensor
    out_weight: torch.Tensor
    inner_weight: torch.Tensor
    output_weight: torch.Tensor
    key_Phd: torch.Tensor | None
    query_Phd: torch.Tensor | None


class _Layer(torch.autograd.Function):
    """One layer as one node of the graph: x float32 [T, H] to y float32 [T, H].

    Where a head reads the first token of each row alone, the last layer computes its answers for those R tokens only,
    and zeros for the others; else R = T.
    """

    @staticmethod
    def forward(
        ctx: Context,
        x_TH: torch.Tensor,
        layer: FastLayer,
        layout: PackedLayout,
        dtype: torch.dtype,
        training: bool,
        with_grad: bool,
        distances: Distances | None,
        key_Phd: torch.Tensor | None,
        query_Phd: torch.Tensor | None,
        *_: torch.Tensor,
    ) -> torch.Tensor:
        kernels, parts = layer.kernels, layer.parts
        seeds = draw_seeds(3) if training else [0, 0, 0]
        heads, width = parts.num_heads, parts.query.weight.shape[0] // parts.num_heads
        low_TH = x_TH.to(dtype)
        groups = (layer.projections, layer.attention_output, layer.inner, layer.output)
        qkv_weight, *weights = (linears.get(dtype, with_grad=with_grad) for linears in groups)

        qkv_bias = layer.projections.bias(dtype, with_grad=with_grad)
        qkv_T3hd = layer.projections.times(low_TH, qkv_weight, qkv_bias).view(-1, 3, heads, width)
        reads_R = layout.starts_B if layer.is_last and layout.reads_first else None
        shape = AttentionShape(
            layout.starts_B,
            layout.lengths_B,
            layer.scale,
            dropout=parts.attention_dropout.p * training,
            seed=seeds[0],
            first_only=reads_R is not None,
        )
        residual_RH = x_TH if reads_R is None else x_TH.index_select(0, reads_R)
        if distances is None:
            attended_Rhd = kernels.attention(shape, *qkv_T3hd.unbind(1))
        else:
            attended_Rhd = disentangled_attention(kernels, shape, distances, qkv_T3hd.unbind(1), (key_Phd, query_Phd))
        attended_RH = attended_Rhd.flatten(1)
        first = layer.norm(
            parts.attention_output, parts.attention_norm, parts.attention_output_dropout.p * training, seeds[1]
        )
        mixed_RH = layer.attention_output.times(attended_RH, weights[0])
        middle_RH, middle_low_RH, *first_saved = kernels.norm(first, mixed_RH, residual_RH)

        inner_RI = layer.inner.times(middle_low_RH, weights[1])
        activated_RI = kernels.activation(inner_RI, parts.inner.bias, parts.activation)
        second = layer.norm(parts.output, parts.output_norm, parts.output_dropout.p * training, seeds[2])
        back_RH = layer.output.times(activated_RI, weights[2])
        y_RH, _low, *second_saved = kernels.norm(second, back_RH, middle_RH)

        ctx.layer, ctx.shape, ctx.first, ctx.second, ctx.reads_R = layer, shape, first, second, reads_R
        ctx.distances = distances
        ctx.save_for_backward(
            *(residual_RH, low_TH, qkv_T3hd, attended_RH, mixed_RH, *first_saved),
            *(middle_RH, middle_low_RH, inner_RI, activated_RI, back_RH, *second_saved),
            *(qkv_weight, *weights, key_Phd, query_Phd),
        )
        return y_RH if reads_R is None else torch.zeros_like(x_TH).index_copy_(0, reads_R, y_RH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_y_RH: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layer, saved = ctx.layer, _Saved(*ctx.saved_tensors)
        needed = {id(p) for p, wants in zip(layer.parameters, ctx.needs_input_grad[9:], strict=True) if wants}
        if ctx.reads_R is not None:
            grad_y_RH = grad_y_RH.index_select(0, ctx.reads_R)
        grad_residual_RH, grad_mixed_RH, grads = _feed_backward(ctx, saved, grad_y_RH.contiguous(), needed)
        grad_x_TH: torch.Tensor | None = None
        grad_terms: Terms = (None, None)
        if any(ctx.needs_input_grad[:9]) or layer.projections.trains(needed):
            grad_x_TH, grad_terms, more = _attention_backward(ctx, saved, grad_residual_RH, grad_mixed_RH, needed)
            grads |= more
        found = (grads.get(id(p)) if id(p) in needed else None for p in layer.parameters)
        return grad_x_TH, *(None,) * 6, *grad_terms, *found


def _feed_backward(
    ctx: Context, saved: _Saved, grad_y_RH: torch.Tensor, needed: set[int]
) -> tuple[torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]:
    """Gradients of the residual and of attention's product, and of the parameters behind it."""
    layer, parts, kernels = ctx.layer, ctx.layer.parts, ctx.layer.kernels
    grad_middle_RH, grad_back_RH, *vectors = kernels.norm_backward(
        ctx.second, saved.back_RH, saved.middle_RH, saved.second_mean_R, saved.second_scale_R, grad_y_RH
    )
    grads: dict[int, torch.Tensor] = {id(parts.output_norm.weight): vectors[0], id(parts.output_norm.bias): vectors[1]}
    grads |= layer.output.gradients(needed, grad_back_RH, saved.activated_RI, vectors[2])
    grad_activated_RI = layer.output.back(grad_back_RH, saved.output_weight)
    grad_inner_RI, grad_bias_I = kernels.activation_backward(
        saved.inner_RI, parts.inner.bias, grad_activated_RI, parts.activation
    )
    grads |= layer.inner.gradients(needed, grad_inner_RI, saved.middle_low_RH, grad_bias_I)
    grad_residual_RH, grad_mixed_RH, *vectors = kernels.norm_backward(
        ctx.first,
        saved.mixed_RH,
        saved.residual_RH,
        saved.first_mean_R,
        saved.first_scale_R,
        grad_middle_RH,
        layer.inner.back(grad_inner_RI, saved.inner_weight),
    )
    grads |= {id(parts.attention_norm.weight): vectors[0], id(parts.attention_norm.bias): vectors[1]}
    grads |= layer.attention_output.gradients(needed, grad_mixed_RH, saved.attended_RH, vectors[2])
    return grad_residual_RH, grad_mixed_RH, grads


def _attention_backward(
    ctx: Context, saved: _Saved, grad_residual_RH: torch.Tensor, grad_mixed_RH: torch.Tensor, needed: set[int]
) -> tuple[torch.Tensor | None, Terms, dict[int, torch.Tensor]]:
    """Gradients of x, where it needs one, of the terms of distances and of the projections' parameters."""
    layer, kernels = ctx.layer, ctx.layer.kernels
    grad_qkv_T3hd = torch.empty_like(saved.qkv_T3hd)
    grad_attended_RH = layer.attention_output.back(grad_mixed_RH, saved.out_weight)
    grad_attended_Rhd = grad_attended_RH.view(len(grad_mixed_RH), layer.parts.num_heads, -1)
    qkv, grad_qkv = saved.qkv_T3hd.unbind(1), grad_qkv_T3hd.unbind(1)
    grad_terms: Terms = (None, None)
    if ctx.distances is None:
        kernels.attention_backward(ctx.shape, *qkv, grad_attended_Rhd, grad_qkv)
    else:
        terms = (saved.key_Phd, saved.query_Phd)
        grad_terms = disentangled_backward(kernels, ctx.shape, ctx.distances, qkv, terms, grad_attended_Rhd, grad_qkv)
    grad_TO = grad_qkv_T3hd.flatten(1)
    grad_bias_O = kernels.column_sums(grad_TO) if layer.projections.trains_bias(needed) else None
    grads = layer.projections.gradients(needed, grad_TO, saved.low_TH, grad_bias_O)
    if not ctx.needs_input_grad[0]:
        return None, grad_terms, grads
    grad_low_TH = layer.projections.back(grad_TO, saved.qkv_weight)
    if ctx.reads_R is None:
        return grad_residual_RH.add_(grad_low_TH), grad_terms, grads
    return grad_low_TH.float().index_add_(0, ctx.reads_R, grad_residual_RH), grad_terms, grads


class FastLayer:
    """One layer of a backbone with its working copies; calling it computes a packed batch."""

    def __init__(self, parts: EncoderLayer, kernels: Kernels, *, is_last: bool) -> None:
        self.parts = parts
        self.is_last = is_last
        self.kernels = kernels
        width = parts.query.weight.shape[0] // parts.num_heads
        num_terms = 1 if parts.distances_read_by is None else count_terms(parts.distances_read_by)
        self.scale = (num_terms * width) ** -0.5
        self.projections = Linears(parts.query, parts.key, parts.value)
        self.attention_output = Linears(parts.attention_output)
        self.inner = Linears(parts.inner)
        self.output = Linears(parts.output)
        self.parameters = parts.floats()

    def norm(self, linear: nn.Linear, norm: nn.LayerNorm, dropout: float, seed: int) -> Norm:
        """The norm behind a product whose bias it adds."""
        return Norm(linear.bias.detach(), norm.weight.detach(), norm.bias.detach(), norm.eps, dropout, seed)

    def __call__(
        self,
        x_TH: torch.Tensor,
        layout: PackedLayout,
        *,
        training: bool,
        relative_pos: Distances | None = None,
        rel_embeddings: torch.Tensor | None = None,
        **_: object,
    ) -> torch.Tensor:
        """y float32 [T, H] of x float32 [T, H]; `rel_embeddings` [P, H] are those of distances, by transformers'
        name.
        """
        terms: Terms = (None, None)
        if self.parts.distances_read_by is not None:
            # Outside the layer's node: the projections may be those of the tokens, and both gradients count.
            terms = terms_of_distances(self.parts.distances_read_by, rel_embeddings)
        dtype = dtype_of_products(x_TH.dtype, x_TH.device)
        with torch.autocast("cpu", enabled=False):
            y_TH: torch.Tensor = _Layer.apply(
                x_TH.contiguous(),
                self,
                layout,
                dtype,
                training,
                torch.is_grad_enabled(),
                None if all(term is None for term in terms) else relative_pos,
                *terms,
                *self.parameters,
            )
        return y_TH


def _is_plain(parts: EncoderLayer) -> bool:
    """Whether the modules are PyTorch's own or plainly adapted, and fp32, or int8 throughout."""
    norms = (parts.attention_norm, parts.output_norm)
    plain = all(_is_linear(linear) for linear in parts.linears()) or is_int8(parts)
    plain = plain and all(type(norm) is nn.LayerNorm and norm.bias is not None for norm in norms)
    dropouts = (parts.attention_dropout, parts.attention_output_dropout, parts.output_dropout)
    return (
        plain and max(dropout.p for dropout in dropouts) < 1 and all(p.dtype == torch.float32 for p in parts.floats())
    )


def _is_linear(module: FamilyModule) -> bool:
    return is_computable(module) and type(base_of(module)) is nn.Linear and module.bias is not None


def is_int8(parts: EncoderLayer) -> bool:
    """Whether all linear layers have int8 weights, of a kind that is computed whole."""
    linears: tuple[nn.Module, ...] = parts.linears()
    return parts.distances_read_by is None and all(type(linear) is Int8Linear for linear in linears)


def _bert_layer(module: FamilyModule) -> EncoderLayer | None:
    config = module.attention.self.config
    activation = ACTIVATIONS.get(config.hidden_act if isinstance(config.hidden_act, str) else "")
    if activation is None or module.is_decoder or module.chunk_size_feed_forward:
        return None
    attention = module.attention
    return EncoderLayer(
        query=attention.self.query,
        key=attention.self.key,
        value=attention.self.value,
        attention_output=attention.output.dense,
        attention_norm=attention.output.LayerNorm,
        inner=module.intermediate.dense,
        output=module.output.dense,
        output_norm=module.output.LayerNorm,
        num_heads=attention.self.num_attention_heads,
        activation=activation,
        attention_dropout=attention.self.dropout,
        attention_output_dropout=attention.output.dropout,
        output_dropout=module.output.dropout,
    )


def _deberta_layer(module: FamilyModule) -> EncoderLayer | None:
    attention, config = module.attention, module.output.config
    activation = ACTIVATIONS.get(config.hidden_act if isinstance(config.hidden_act, str) else "")
    if activation is None:
        return None
    return EncoderLayer(
        query=attention.self.query_proj,
        key=attention.self.key_proj,
        value=attention.self.value_proj,
        attention_output=attention.output.dense,
        attention_norm=attention.output.LayerNorm,
        inner=module.intermediate.dense,
        output=module.output.dense,
        output_norm=module.output.LayerNorm,
        num_heads=attention.self.num_attention_heads,
        activation=activation,
        attention_dropout=attention.self.dropout,
        attention_output_dropout=attention.output.dropout,
        output_dropout=module.output.dropout,
        distances_read_by=attention.self,
    )


def _distilbert_layer(module: FamilyModule) -> EncoderLayer | None:
    config = module.attention.config
    activation = ACTIVATIONS.get(config.activation if isinstance(config.activation, str) else "")
    if activation is None or module.ffn.chunk_size_feed_forward:
        return None
    return EncoderLayer(
        query=module.attention.q_lin,
        key=module.attention.k_lin,
        value=module.attention.v_lin,
        attention_output=module.attention.out_lin,
        attention_norm=module.sa_layer_norm,
        inner=module.ffn.lin1,
        output=module.ffn.lin2,
        output_norm=module.output_layer_norm,
        num_heads=module.attention.n_heads,
        activation=activation,
        attention_dropout=module.attention.dropout,
        attention_output_dropout=nn.Dropout(0.0),
        output_dropout=module.ffn.dropout,
    )


def find_postnorm(module: FamilyModule) -> EncoderLayer | None:
    """The modules of a layer that can be computed whole; None for any other."""
    describe = POSTNORM.get(type(module).__name__)
    parts = None if describe is None else describe(module)
    return parts if parts is not None and _is_plain(parts) else None


POSTNORM: dict[str, Callable[[FamilyModule], EncoderLayer | None]] = {
    "BertLayer": _bert_layer,
    "RobertaLayer": _bert_layer,
    "XLMRobertaLayer": _bert_layer,
    "CamembertLayer": _bert_layer,
    "ElectraLayer": _bert_layer,
    "ErnieLayer": _bert_layer,
    "DebertaV2Layer": _deberta_layer,
    "Data2VecTextLayer": _bert_layer,
    "RoCBertLayer": _bert_layer,
    "TransformerBlock": _distilbert_layer,
}
"""Class of a layer to its modules."""
