"""Disentangled attention (DeBERTa-v2 and v3) by its kernel; after `kernels.py`, before `layers.py`.

Shapes: T tokens, h heads of d, D distances, P rows of the table of distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch.autograd.function import once_differentiable

from textune.model.distances import Distances
from textune.model.hugging import Context
from textune.model.native.calls import SEED, Call, Fields, Tensor, doubles, is_low, longs, pointer, pointers, strided
from textune.model.native.kernels import AttentionShape, Kernels, draw_seeds

Content = Sequence[torch.Tensor]
"""Queries, keys and values [T, h, d]."""
Terms = tuple[torch.Tensor | None, torch.Tensor | None]
"""Keys (c2p) and queries (p2c) of the table's rows [P, h, d]; None for a missing term."""


class DisentangledCall(Call):
    """Of `disentangled_forward` and `disentangled_backward`."""

    _fields_: ClassVar[Fields] = [
        *longs("rows", "tokens", "heads", "d", "first_only", "places", "table_rows"),
        *doubles("scale", "dropout"),
        *SEED,
        *pointers("starts", "lengths", "place_rows"),
        *((name, Tensor) for name in ("query", "key", "value", "place_key", "place_query", "output")),
        *((name, Tensor) for name in ("grad_query", "grad_key", "grad_value")),
        *pointers("grad_place_key", "grad_place_query"),
    ]


def disentangled_attention(
    kernels: Kernels, shape: AttentionShape, distances: Distances, content: Content, terms: Terms
) -> torch.Tensor:
    """Attention within each row [T, h, d], zero for tokens of no row; with `first_only`, [B, h, d]."""
    query_Thd = content[0]
    num_answers = len(shape.starts_B) if shape.first_only else len(query_Thd)
    output_Thd = torch.empty(num_answers, *query_Thd.shape[1:], dtype=query_Thd.dtype)
    both = _both_terms(distances, query_Thd, terms)
    kernels.call("disentangled_forward", _call(shape, distances, content, both, output_Thd))
    return output_Thd


def disentangled_backward(
    kernels: Kernels,
    shape: AttentionShape,
    distances: Distances,
    content: Content,
    terms: Terms,
    grad_Thd: torch.Tensor,
    grads: Content,
) -> Terms:
    """Write the gradients of queries, keys and values into `grads`; returns those of the terms."""
    both = _both_terms(distances, content[0], terms)
    call = _call(shape, distances, content, both, grad_Thd)
    for place, grad in zip((call.grad_query, call.grad_key, call.grad_value), grads, strict=True):
        _point(place, grad, content[0].shape, content[0].dtype)
    key_Phd, query_Phd = (torch.empty(tensor.shape) for tensor in both)
    call.grad_place_key, call.grad_place_query = pointer(key_Phd, both[0].shape), pointer(query_Phd, both[1].shape)
    kernels.call("disentangled_backward", call)
    key, query = (
        None if term is None else grad.to(term.dtype) for term, grad in zip(terms, (key_Phd, query_Phd), strict=True)
    )
    return key, query


def _both_terms(distances: Distances, query_Thd: torch.Tensor, terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
    """Both terms, with zeros, which add nothing to a score, for a missing one."""
    shape = (distances.num_rows, *query_Thd.shape[1:])
    key, query = (query_Thd.new_zeros(shape) if term is None else term for term in terms)
    return key, query


def _call(
    shape: AttentionShape,
    distances: Distances,
    content: Content,
    both: tuple[torch.Tensor, torch.Tensor],
    output: torch.Tensor,
) -> DisentangledCall:
    tokens, heads, width = content[0].shape
    rows = len(shape.lengths_B)
    call = DisentangledCall(
        low=is_low(content[0].dtype),
        rows=rows,
        tokens=tokens,
        heads=heads,
        d=width,
        first_only=shape.first_only,
        places=len(distances.rows_D),
        table_rows=distances.num_rows,
        scale=shape.scale,
        dropout=shape.dropout,
        seed=shape.seed,
        starts=pointer(shape.starts_B, (rows,), torch.int64),
        lengths=pointer(shape.lengths_B, (rows,), torch.int64),
        place_rows=distances.rows_D.ctypes.data,
    )
    for place, tensor in zip((call.query, call.key, call.value), content, strict=True):
        _point(place, tensor, (tokens, heads, width), content[0].dtype)
    for place, tensor in zip((call.place_key, call.place_query), both, strict=True):
        _point(place, tensor, (distances.num_rows, heads, width), content[0].dtype)
    _point(call.output, output, (rows if shape.first_only else tokens, heads, width), content[0].dtype)
    return call


def _point(place: Tensor, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    place.data, place.token, place.head = strided(tensor, shape, dtype)


def kernel_disentangled(
    kernels: Kernels, shape: AttentionShape, distances: Distances, content: Content, terms: Terms
) -> torch.Tensor:
    """`disentangled_attention` with its gradient; the seed of dropout is drawn here."""
    if shape.dropout:
        shape = replace(shape, seed=draw_seeds(1)[0])
    output_Thd: torch.Tensor = _Disentangled.apply(*content, *terms, kernels, shape, distances)
    return output_Thd


class _Disentangled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context,
        query_Thd: torch.Tensor,
        key_Thd: torch.Tensor,
        value_Thd: torch.Tensor,
        key_Phd: torch.Tensor | None,
        query_Phd: torch.Tensor | None,
        kernels: Kernels,
        shape: AttentionShape,
        distances: Distances,
    ) -> torch.Tensor:
        ctx.save_for_backward(query_Thd, key_Thd, value_Thd, key_Phd, query_Phd)
        ctx.kernels, ctx.shape, ctx.distances = kernels, shape, distances
        return disentangled_attention(kernels, shape, distances, (query_Thd, key_Thd, value_Thd), (key_Phd, query_Phd))

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_Thd: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *content, key_Phd, query_Phd = ctx.saved_tensors
        grads = [torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in content]
        outer_Thd = grad_Thd if grad_Thd.stride(2) == 1 else grad_Thd.contiguous()
        terms = (key_Phd, query_Phd)
        of_terms = disentangled_backward(ctx.kernels, ctx.shape, ctx.distances, content, terms, outer_Thd, grads)
        return *grads, *of_terms, None, None, None
