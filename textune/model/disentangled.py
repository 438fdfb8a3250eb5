"""Disentangled attention (DeBERTa-v2 and v3) over packed rows: separate terms for content and position.

    score[i, j] = (q_i . k_j  +  q_i . key_of(j - i)  +  k_j . query_of(j - i)) / sqrt(d * number of terms)

The second term is called c2p (content to position), the third p2c; a configuration may have one, both or none. Keys
and queries of a distance are projections of one table of embeddings, shared by all layers. Only the distances that
occur in the batch are projected: a short batch needs a few dozen of hundreds of rows. Large distances share a row, as
in transformers.

Two things are replaced in a backbone while its layout is packed: `forward` of every `DisentangledSelfAttention`,
which then takes the batch's layout instead of a mask (`replaced_forwards`), and the encoder's loop over its layers,
which `encode` runs.

Shapes: T tokens, H hidden, h heads of d, n rows of L tokens in a group, N = n * L, D distances, P rows of the table.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional

from textune.batches import to_device
from textune.model.attention import PackedLayout, packed_attention
from textune.model.distances import Distances, count_distances, count_terms, terms_of_distances
from textune.model.hugging import FamilyModule, Forward, HuggingModel, Options
from textune.model.native import AttentionShape, Terms, kernel_disentangled


def encode(hf: HuggingModel, inputs: Options) -> torch.Tensor:
    """Hidden states [1, T, H] of packed inputs: the backbone's own forward, but without masks of T x T numbers."""
    embeddings, encoder = hf.base_model.embeddings, hf.base_model.encoder
    layout: PackedLayout = inputs["textune_layout"]
    hidden_1TH: torch.Tensor = embeddings(inputs["input_ids"], inputs.get("token_type_ids"), inputs["position_ids"])
    embedded_1TH = hidden_1TH
    distances, table_PH = _table(encoder, layout)
    for number, layer in enumerate(encoder.layer):
        output = layer(hidden_1TH, layout, relative_pos=distances, rel_embeddings=table_PH)
        # Layers computed by the kernels return only their output, without probabilities.
        hidden_1TH = output if isinstance(output, torch.Tensor) else output[0]
        if number == 0 and encoder.conv is not None:
            hidden_1TH = _convolution(encoder.conv, embedded_1TH, hidden_1TH, layout)
    return hidden_1TH


def _table(encoder: FamilyModule, layout: PackedLayout) -> tuple[Distances | None, torch.Tensor | None]:
    """The distances of a batch and their embeddings [P, H]."""
    if not encoder.relative_attention:
        return None, None
    length = max(group.length for group in layout.groups)
    span = encoder.rel_embeddings.num_embeddings // 2
    distances = count_distances(length, encoder.position_buckets, encoder.max_relative_positions, span)
    table_PH = encoder.rel_embeddings.weight[distances.first : distances.end]
    return distances, encoder.LayerNorm(table_PH) if "layer_norm" in encoder.norm_rel_ebd else table_PH


def _convolution(
    conv: FamilyModule, embedded_1TH: torch.Tensor, hidden_1TH: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """The convolution after the first layer (DeBERTa-v2-xlarge), group by group, with zeros beyond the ends
    of a row.
    """
    pieces = []
    splits = (layout.split(tensor.squeeze(0)) for tensor in (embedded_1TH, hidden_1TH))
    for index, (embedded_NH, hidden_NH) in enumerate(zip(*splits, strict=True)):
        real_nL = layout.real(index)
        embedded_nLH, hidden_nLH = (tensor.unflatten(0, layout.groups[index]) for tensor in (embedded_NH, hidden_NH))
        pieces.append(conv(embedded_nLH * real_nL.unsqueeze(-1), hidden_nLH, real_nL.long()).flatten(0, 1))
    if layout.num_filler:
        pieces.append(pieces[0].new_zeros(layout.num_filler, pieces[0].shape[1]))
    return torch.cat(pieces).unsqueeze(0)


def replaced_forwards(hf: HuggingModel) -> list[tuple[nn.Module, Forward]]:
    """Every module that computes attention, with its forward while the layout is packed."""
    attentions = (layer.attention.self for layer in hf.base_model.encoder.layer)
    return [(attention, functools.partial(_forward, attention)) for attention in attentions]


def _forward(
    module: FamilyModule,
    hidden_states: torch.Tensor,
    attention_mask: PackedLayout,
    output_attentions: bool = False,
    query_states: torch.Tensor | None = None,
    relative_pos: Distances | None = None,
    rel_embeddings: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """`DisentangledSelfAttention.forward` with a layout instead of a mask: [1, T, H] to ([1, T, H], None)."""
    layout = attention_mask
    query_Thd, key_Thd, value_Thd = (
        projection(hidden_states.squeeze(0)).unflatten(1, (module.num_attention_heads, -1))
        for projection in (module.query_proj, module.key_proj, module.value_proj)
    )
    content = (query_Thd, key_Thd, value_Thd)
    scale = (count_terms(module) * query_Thd.shape[2]) ** -0.5
    dropout = module.dropout.p if module.training else 0.0
    terms = terms_of_distances(module, rel_embeddings)
    if relative_pos is None or all(term is None for term in terms):
        query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in content)
        options: Options = {"dropout": dropout, "scaling": scale, "is_causal": False}
        attended_1Thd, _ = packed_attention(module, query, key, value, None, textune_layout=layout, **options)
        return attended_1Thd.flatten(2), None
    known = query_Thd.device.type == "cpu" and query_Thd.dtype in {torch.float32, torch.bfloat16} and dropout < 1
    if layout.kernels is not None and known:
        shape = AttentionShape(layout.starts_B, layout.lengths_B, scale, dropout=dropout)
        attended_Thd = kernel_disentangled(layout.kernels, shape, relative_pos, content, terms)
    else:
        attended_Thd = group_attention(content, terms, relative_pos, layout, scale=scale, dropout=dropout)
    return attended_Thd.flatten(1).unsqueeze(0), None


# Every batch has other groups: a graph that contains them would be recompiled each time.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def group_attention(
    content: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    terms: Terms,
    distances: Distances,
    layout: PackedLayout,
    *,
    scale: float,
    dropout: float,
) -> torch.Tensor:
    """Attention within each row by PyTorch's operators, group by group: queries, keys, values [T, h, d] to
    [T, h, d].
    """
    key_Dhd, query_Dhd = (_of_distances(tensor, distances) for tensor in terms)
    outputs = []
    for index, pieces in enumerate(zip(*(layout.split(tensor) for tensor in content), strict=True)):
        group = layout.groups[index]
        query_nLhd, key_nLhd, value_nLhd = (piece.unflatten(0, group) for piece in pieces)
        nearby = slice(distances.reach - (group.length - 1), distances.reach + group.length)
        key_nearby, query_nearby = (None if tensor is None else tensor[nearby] for tensor in (key_Dhd, query_Dhd))
        scores_nhLL = _scores(query_nLhd, key_nLhd, key_nearby, query_nearby)
        dtype = torch.promote_types(scores_nhLL.dtype, torch.float32)
        bias = layout.bias(index, causal=False, window=None, dtype=dtype)
        scores_nhLL = scores_nhLL.to(dtype) * scale
        weights_nhLL = torch.softmax(scores_nhLL if bias is None else scores_nhLL + bias, dim=-1).to(value_nLhd.dtype)
        output_nhLd = torch.matmul(functional.dropout(weights_nhLL, dropout), value_nLhd.transpose(1, 2))
        outputs.append(output_nhLd.transpose(1, 2).flatten(0, 1))
    if layout.num_filler:
        outputs.append(outputs[0].new_zeros(layout.num_filler, *outputs[0].shape[1:]))
    return torch.cat(outputs)


def _of_distances(tensor_Phd: torch.Tensor | None, distances: Distances) -> torch.Tensor | None:
    """[D, h, d] from the table's rows [P, h, d]; by `embedding`, whose gradient is always summed in the same order."""
    if tensor_Phd is None:
        return None
    rows_D = to_device(torch.from_numpy(distances.rows_D), tensor_Phd.device)
    tensor_Dhd: torch.Tensor = functional.embedding(rows_D, tensor_Phd.flatten(1)).unflatten(1, tensor_Phd.shape[1:])
    return tensor_Dhd


def _scores(
    query_nLhd: torch.Tensor, key_nLhd: torch.Tensor, key_Dhd: torch.Tensor | None, query_Dhd: torch.Tensor | None
) -> torch.Tensor:
    """The sum of the terms [n, h, L, L]; a row has D = 2 L - 1 distances."""
    scores_nhLL = torch.matmul(query_nLhd.transpose(1, 2), key_nLhd.permute(0, 2, 3, 1))
    if key_Dhd is not None:
        scores_nhLL = scores_nhLL + _towards(query_nLhd, key_Dhd)
    if query_Dhd is not None:
        # Seen from the keys, the distances are in reverse order.
        scores_nhLL = scores_nhLL + _towards(key_nLhd, query_Dhd.flip(0)).transpose(-1, -2)
    return scores_nhLL


def _towards(tokens_nLhd: torch.Tensor, places_Dhd: torch.Tensor) -> torch.Tensor:
    """[n, h, L, L]: for the tokens i and j of a row, the product of token i with the embedding of distance j - i."""
    num_rows, length = tokens_nLhd.shape[:2]
    # One product per head: the distances are the same in every row.
    products_hND = torch.bmm(tokens_nLhd.flatten(0, 1).transpose(0, 1), places_Dhd.permute(1, 2, 0))
    return _sheared(products_hND.unflatten(1, (num_rows, length))).transpose(0, 1)


def _sheared(products: torch.Tensor) -> torch.Tensor:
    """[..., L, 2 L - 1] to [..., L, L]: line i begins L - 1 - i columns later, where distance -i is. A view."""
    length = products.shape[-2]
    if length == 1:
        return products
    flat = products.flatten(-2)[..., length - 1 : length - 1 + length * (2 * length - 2)]
    lines: torch.Tensor = flat.unflatten(-1, (length, 2 * length - 2))
    return lines[..., :length]
