"""Attention over packed rows, registered with transformers under its own name: the one seam where sequences matter.

Everything else in a backbone works token by token on [1, T]. Each layer calls `packed_attention`, which receives the
batch's `PackedLayout` through the keyword arguments of the backbone's forward. No mask function is registered, so
transformers builds no mask. Each group of rows uses explicit products or `scaled_dot_product_attention`, whichever is
faster.

Shapes: T tokens, h heads of d, g key heads, n rows of L tokens in a group, N = n * L.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface

from textune.batches import Group, to_device
from textune.model.device import dtype_of_products
from textune.model.hugging import FamilyModule, HuggingModel, Options
from textune.model.native import AttentionShape, Kernels, kernel_attention
from textune.model.pretrained import quiet_transformers
from textune.model.products import compute_dtype, product_attention
from textune.model.varlen import cut_into_sequences, varlen_attention

if TYPE_CHECKING:
    from textune.model.relative import RelativeBias

PACKED = "textune_packed"
"""Name of the attention implementation."""

MAX_PRODUCT_LENGTH = {
    # (bf16, backward, dropout or a bias by distance): longest rows, in tokens
    (True, True, True): 512,
    (True, True, False): 512,
    (False, True, True): 512,
    (False, True, False): 128,
    (True, False, False): 256,
    (False, False, False): 0,
}
"""Longest rows for which a CPU uses explicit products; beyond, SDPA is faster or needs far less memory (12 heads of
32)."""

ROUND_TO = 16
"""A packed batch is filled up to a multiple of this number of tokens ..."""
ROUND_FROM = 256
"""... if it has at least that many: a single short text should not wait for filler."""


def filler_after(num_tokens: int) -> int:
    """Tokens that round a large batch up, so that few sizes occur: oneDNN builds new kernels for each."""
    return -num_tokens % ROUND_TO if num_tokens >= ROUND_FROM else 0


def require_capped_scores(hf: HuggingModel) -> None:
    """Cap the scores of the padded layout where the backbone does: some releases of transformers choose an SDPA that
    cannot."""
    capped = getattr(hf.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and hf.config._attn_implementation == "sdpa":
        hf.set_attn_implementation("eager")


class PackedLayout:
    """Where the rows of a packed batch are; built once per batch, and shared by all layers together with its masks.

    `groups`, `lengths_B` and `row_lengths` (the lengths on the host) are those of a TokenBatch; `num_filler` tokens
    after the last row belong to no row. `kernels`, if any, compute attention on a CPU; `in_one_call` prepares for
    variable-length flash attention on a GPU. `reads_first`: only the first token of each row of the last layer is
    read.
    """

    def __init__(
        self,
        groups: tuple[Group, ...],
        lengths_B: torch.Tensor,
        row_lengths: np.ndarray,
        *,
        num_filler: int = 0,
        kernels: Kernels | None = None,
        in_one_call: bool = False,
        reads_first: bool = False,
    ) -> None:
        self.groups = groups
        self.kernels = kernels
        self.reads_first = reads_first
        self.num_filler = num_filler
        self.lengths_B = lengths_B
        self.sizes = [group.rows * group.length for group in groups]
        starts, has_padding, token, row = [], [], 0, 0
        for group, size in zip(groups, self.sizes, strict=True):
            starts.append(np.arange(token, token + size, group.length))
            has_padding.append(int(row_lengths[row : row + group.rows].min()) < group.length)
            token += size
            row += group.rows
        starts_B = np.concatenate(starts)
        self.starts_B = to_device(torch.from_numpy(starts_B), lengths_B.device)
        """int64 [B] position of each row's first token."""
        self._widths = np.repeat([group.length for group in groups], [group.rows for group in groups])
        num_tokens = token + num_filler
        self.sequences = (
            cut_into_sequences(starts_B, row_lengths, num_tokens=num_tokens, device=lengths_B.device)
            if in_one_call
            else None
        )
        """For attention in one call; None if attention is computed group by group."""
        self._has_padding = has_padding
        self._biases: dict[tuple[int, bool, int | None, torch.dtype], torch.Tensor | None] = {}

    def split(self, tensor: torch.Tensor, dim: int = 0) -> tuple[torch.Tensor, ...]:
        """The tokens of each group along `dim`, without filler."""
        pieces: tuple[torch.Tensor, ...] = tensor.split([*self.sizes, self.num_filler], dim)
        return pieces[:-1]

    @functools.cached_property
    def rows_T(self) -> torch.Tensor:
        """int64 [T without filler]: the row of each token, padding included."""
        return to_device(
            torch.from_numpy(np.repeat(np.arange(len(self._widths)), self._widths)), self.lengths_B.device
        )

    def real(self, index: int) -> torch.Tensor:
        """bool [n, L]: True for the real tokens of group `index`."""
        group = self.groups[index]
        first = sum(other.rows for other in self.groups[:index])
        lengths_n = self.lengths_B[first : first + group.rows]
        return torch.arange(group.length, device=lengths_n.device) < lengths_n.unsqueeze(1)

    def bias(self, index: int, *, causal: bool, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        """0 where a token may attend, minus infinity elsewhere, broadcastable to [n, h, L, L]; None if nothing is
        hidden.

        `window`: only tokens fewer than `window` positions away are visible. Padding is hidden from real tokens; the
        results of padded positions are never read, but stay finite.
        """
        if window is not None and window >= self.groups[index].length:
            window = None
        key = (index, causal, window, dtype)
        if key not in self._biases:
            allowed = self._allowed(index, causal=causal, window=window)
            self._biases[key] = None if allowed is None else _as_bias(allowed, dtype)
        return self._biases[key]

    def _allowed(self, index: int, *, causal: bool, window: int | None) -> torch.Tensor | None:
        # Padding is at the end of its row: a causal token never reaches it.
        padding = self._has_padding[index] and not causal
        if window is None and not causal:
            return self.real(index)[:, None, None, :] if padding else None
        steps = torch.arange(self.groups[index].length, device=self.lengths_B.device)
        distance_LL = steps[:, None] - steps[None, :]
        allowed = distance_LL >= 0 if causal else torch.ones_like(distance_LL, dtype=torch.bool)
        if window is not None:
            allowed = allowed & (distance_LL.abs() < window)
        if not padding:
            return allowed
        # A padded position far after the last real token would see nothing, and the softmax of nothing is NaN.
        return (allowed & self.real(index)[:, None, None, :]) | (distance_LL == 0)


def _as_bias(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -torch.inf)


@contextlib.contextmanager
def attention_written_out(hf: HuggingModel) -> Iterator[None]:
    """Within it, the attention of padded batches is computed by plain operators, which an exporter knows."""
    before = hf.config._attn_implementation
    with quiet_transformers():
        hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        with quiet_transformers():
            hf.set_attn_implementation(before)


def packed_attention(
    module: FamilyModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    textune_layout: PackedLayout,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    position_bias: RelativeBias | Literal[False] | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention within each row: query [1, h, T, d], key and value [1, g, T, d] to ([1, T, h, d], None).

    The signature is that of transformers; `textune_layout` is passed through the keyword arguments of the backbone. A
    row attends only to itself, so `attention_mask` is not used. Values may have another width than queries and keys.
    """
    dtype = dtype_of_products(query.dtype, query.device)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    causal = bool(module.is_causal) if is_causal is None else is_causal
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if textune_layout.sequences is not None and softcap is None and not position_bias:
        output_Thd = varlen_attention(
            query.squeeze(0),
            key.squeeze(0),
            value.squeeze(0),
            textune_layout,
            causal=causal,
            window=sliding_window,
            scale=scale,
            dropout=dropout,
        )
        return output_Thd.unsqueeze(0), None
    kernels = textune_layout.kernels
    known = query.is_cpu and dtype in {torch.float32, torch.bfloat16} and query.shape[-1] == value.shape[-1]
    if kernels is not None and known and softcap is None and not position_bias and dropout < 1:
        shape = AttentionShape(
            textune_layout.starts_B,
            textune_layout.lengths_B,
            scale,
            causal=causal,
            window=sliding_window or 0,
            dropout=dropout,
        )
        by_token = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
        return kernel_attention(kernels, shape, *by_token).unsqueeze(0), None
    options: Options = {
        "causal": causal,
        "window": sliding_window,
        "scale": scale,
        "dropout": dropout,
        "softcap": softcap,
        "position_bias": position_bias or None,
    }
    return _attention_by_group(query, key, value, textune_layout, options).unsqueeze(0), None


def _attention_by_group(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: PackedLayout, options: Options
) -> torch.Tensor:
    """[T, h, d]: one group after the other, then zeros for filler; `options` are those of `_group_attention`."""
    splits = (layout.split(tensor.squeeze(0), dim=1) for tensor in (query, key, value))
    outputs = [
        _group_attention(query_hNd, key_gNd, value_gNd, layout, index, **options)
        for index, (query_hNd, key_gNd, value_gNd) in enumerate(zip(*splits, strict=True))
    ]
    if layout.num_filler:
        outputs.append(outputs[0].new_zeros(layout.num_filler, *outputs[0].shape[1:]))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _group_attention(
    query_hNd: torch.Tensor,
    key_gNd: torch.Tensor,
    value_gNd: torch.Tensor,
    layout: PackedLayout,
    index: int,
    *,
    causal: bool,
    window: int | None,
    scale: float,
    dropout: float,
    softcap: float | None,
    position_bias: RelativeBias | None,
) -> torch.Tensor:
    """Attention of one group: [h, N, d] and [g, N, d] to [N, h, d]."""
    group = layout.groups[index]
    by_position_hLL = None if position_bias is None else position_bias.for_rows(group.length)
    # With dropout, or a learned bias, PyTorch's own attention uses explicit products, too, and is slower.
    written_out = dropout > 0 or by_position_hLL is not None
    longest = 0 if dropout > 0.99 else _max_product_length(query_hNd, key_gNd, value_gNd, written_out=written_out)
    if softcap is None and group.length <= longest:
        dtype = compute_dtype(query_hNd.dtype, group.length)
        mask = layout.bias(index, causal=causal, window=window, dtype=dtype)
        options: Options = {"num_rows": group.rows, "scale": scale, "dropout": dropout}
        return product_attention(query_hNd, key_gNd, value_gNd, mask, by_position_hLL, **options)
    repeats = query_hNd.shape[0] // key_gNd.shape[0]
    query, key, value = (
        tensor.unflatten(1, (group.rows, group.length)).transpose(0, 1) for tensor in (query_hNd, key_gNd, value_gNd)
    )
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if softcap is None:
        # A causal row needs no mask, and without one the fused kernels are faster.
        plain_causal = causal and (window is None or window >= group.length) and by_position_hLL is None
        bias = None if plain_causal else layout.bias(index, causal=causal, window=window, dtype=query.dtype)
        if by_position_hLL is not None:
            by_position_1hLL = by_position_hLL.to(query.dtype).unsqueeze(0)
            bias = by_position_1hLL if bias is None else by_position_1hLL + bias
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, is_causal=plain_causal, scale=scale
        )
    else:
        dtype = torch.promote_types(query.dtype, torch.float32)
        bias = layout.bias(index, causal=causal, window=window, dtype=dtype)
        scores = torch.tanh(torch.matmul(query, key.transpose(-1, -2)) * (scale / softcap)) * softcap
        weights = torch.softmax(scores if bias is None else scores + bias, dim=-1, dtype=dtype).to(query.dtype)
        output = torch.matmul(functional.dropout(weights, dropout), value)
    return output.transpose(1, 2).reshape(group.rows * group.length, query_hNd.shape[0], -1)


def _max_product_length(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, written_out: bool) -> int:
    if query.device.type != "cpu":
        return 0
    backward = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    return MAX_PRODUCT_LENGTH.get((query.dtype == torch.bfloat16, backward, backward and written_out), 0)


AttentionInterface.register(PACKED, packed_attention)
