"""Packed attention with a learned bias per head and distance (MPNet, T5 and mT5); used by `families.py`.

The bias depends on the distance between key and query, counted in buckets, and is shared by all layers.
`RelativeBias` looks up each distance of a batch once; every group of rows adds the values to its scores, and the
gradients of all layers and groups are summed there before they reach the table of buckets.

Shapes: T tokens, h heads of d, n rows of L tokens in a group, M the longest row, W = 2 M - 1 distances.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from transformers import AttentionInterface

from textune.model.attention import PACKED, PackedLayout
from textune.model.hugging import FamilyModule, Forward, HuggingModel, Options

Bucket = Callable[[torch.Tensor], torch.Tensor]
"""Position of the key minus that of the query, int64, to the row of the table of buckets."""


class RelativeBias:
    """The bias of one batch, which the layers of a backbone pass on instead of a tensor for every pair of tokens."""

    def __init__(self, table: nn.Embedding, bucket: Bucket, layout: PackedLayout) -> None:
        self.layout = layout
        self._table, self._bucket = table, bucket
        self._longest = max(group.length for group in layout.groups)
        self._by_distance_hW = torch.empty(0)
        self._by_length: dict[int, torch.Tensor] = {}

    def look_up(self) -> None:
        """Read the table at the point where the backbone does: only there its weights may be present or recomputed."""
        distances_W = torch.arange(1 - self._longest, self._longest, device=self.layout.lengths_B.device)
        self._by_distance_hW = self._table(self._bucket(distances_W)).t()
        self._by_length = {}

    def for_rows(self, length: int) -> torch.Tensor:
        """[h, L, L] of rows of `length` tokens: query by key."""
        if length not in self._by_length:
            first, behind = self._longest - length, self._longest + length - 1
            # Windows over the distances: the first belongs to the last query, which follows all keys.
            windows_hLL = self._by_distance_hW[:, first:behind].unfold(1, length, 1)
            self._by_length[length] = windows_hLL.flip(1)
        return self._by_length[length]


# --- MPNet -----------------------------------------------------------------------------------------------------------


def encode_mpnet(hf: HuggingModel, inputs: Options) -> torch.Tensor:
    """MPNet's own forward, except for the bias: its encoder would compute one for every pair of tokens
    of the batch.
    """
    backbone, layout = hf.base_model, inputs["textune_layout"]
    encoder = backbone.encoder
    hidden_1TH: torch.Tensor = backbone.embeddings(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"])
    bias = RelativeBias(encoder.relative_attention_bias, encoder.relative_position_bucket, layout)
    bias.look_up()
    for layer in encoder.layer:
        hidden_1TH = layer(hidden_1TH, None, bias)[0]
    return hidden_1TH


def mpnet_forwards(hf: HuggingModel) -> list[tuple[nn.Module, Forward]]:
    """MPNet's self-attention, with the forward that replaces its own while the layout is packed."""
    attentions = [layer.attention.attn for layer in hf.base_model.encoder.layer]
    return [(attention, functools.partial(_mpnet_attention, attention)) for attention in attentions]


def _mpnet_attention(
    module: FamilyModule, hidden_states: torch.Tensor, _attention_mask: None, position_bias: RelativeBias, **_: object
) -> tuple[torch.Tensor]:
    """[1, T, H] to [1, T, H], as `MPNetSelfAttention.forward`."""
    query, key, value = (
        linear(hidden_states).unflatten(-1, (module.num_attention_heads, -1)).transpose(1, 2)
        for linear in (module.q, module.k, module.v)
    )
    attended_1Thd, _weights = AttentionInterface()[PACKED](
        module,
        query,
        key,
        value,
        None,
        textune_layout=position_bias.layout,
        dropout=module.dropout.p if module.training else 0.0,
        position_bias=position_bias,
        is_causal=False,
    )
    return (module.o(attended_1Thd.flatten(2)),)


# --- T5 --------------------------------------------------------------------------------------------------------------


def encode_t5(hf: HuggingModel, inputs: Options) -> torch.Tensor:
    """States of the decoder, which reads each row shifted by one token, as in `T5ForSequenceClassification`."""
    backbone, layout, ids_1T = hf.base_model, inputs["textune_layout"], inputs["input_ids"]
    encoded_1TH = _t5_stack(backbone.encoder, ids_1T, layout, None)
    shifted_1T = ids_1T.roll(1, dims=1).index_fill(1, layout.starts_B, hf.config.decoder_start_token_id)
    return _t5_stack(backbone.decoder, shifted_1T, layout, encoded_1TH)


def _t5_stack(
    stack: FamilyModule, ids_1T: torch.Tensor, layout: PackedLayout, encoded_1TH: torch.Tensor | None
) -> torch.Tensor:
    """`T5Stack.forward`, except for the bias; a decoder also attends to `encoded_1TH`."""
    first = stack.block[0].layer[0].SelfAttention
    bucket = functools.partial(
        first._relative_position_bucket,
        bidirectional=not stack.is_decoder,
        num_buckets=first.relative_attention_num_buckets,
        max_distance=first.relative_attention_max_distance,
    )
    bias = RelativeBias(first.relative_attention_bias, bucket, layout)
    hidden_1TH = stack.dropout(stack.embed_tokens(ids_1T))
    for block in stack.block:
        # Between decoder and encoder there is no bias; None would make T5 compute zeros for every pair of tokens.
        hidden_1TH = block(hidden_1TH, None, bias, encoded_1TH, None, False, textune_layout=layout)[0]
    normed_1TH: torch.Tensor = stack.dropout(stack.final_layer_norm(hidden_1TH))
    return normed_1TH


def t5_forwards(hf: HuggingModel) -> list[tuple[nn.Module, Forward]]:
    """The first attention of each stack, which owns the table of buckets, and fills `RelativeBias` while the layout
    is packed.
    """
    firsts = [stack.block[0].layer[0].SelfAttention for stack in (hf.base_model.encoder, hf.base_model.decoder)]
    return [(first, functools.partial(_look_up_first, type(first).forward, first)) for first in firsts]


def _look_up_first(
    forward: Forward, module: FamilyModule, *args: object, position_bias: RelativeBias, **options: object
) -> object:
    position_bias.look_up()
    return forward(module, *args, position_bias=position_bias, **options)
