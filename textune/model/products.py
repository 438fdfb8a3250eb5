"""Attention as two explicit batched products with a softmax between them; a fast path for CPUs, used by
`attention.py`.

Compared with `scaled_dot_product_attention`, forward and backward on a CPU: 2 to 5 times as fast in bf16, whose flash
backward is slow, and up to 1.6 times in fp32 with dropout. It keeps n x h x L x L probabilities for the backward pass.

Shapes: n rows of L tokens, h heads of d, g key heads (h is a multiple of g), values v wide, N = n * L tokens.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from textune.model.hugging import Context

EXACT_BELOW = 32
"""Rows shorter than this are computed in fp32 even under bf16. It is as fast: small bf16 products with ever new
shapes cost more to prepare than to compute."""


def product_attention(
    query_hNd: torch.Tensor,
    key_gNd: torch.Tensor,
    value_gNv: torch.Tensor,
    bias: torch.Tensor | None,
    by_position_hLL: torch.Tensor | None = None,
    *,
    num_rows: int,
    scale: float,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention within each of `num_rows` consecutive rows of equal length; returns [N, h, v].

    `bias` is added to the scores [n, h, L, L] (broadcast; minus infinity hides a key), and so is `by_position_hLL`,
    which has a gradient. `dropout` is rounded to a multiple of 1/65536 and applied to the probabilities.
    """
    output: torch.Tensor = _Products.apply(
        query_hNd, key_gNd, value_gNv, bias, by_position_hLL, num_rows, scale, dropout
    )
    return output


def compute_dtype(dtype: torch.dtype, length: int) -> torch.dtype:
    """The type in which the products of rows of `length` tokens are computed."""
    if dtype == torch.float64:
        return dtype
    return dtype if dtype == torch.bfloat16 and length >= EXACT_BELOW else torch.float32


class _Products(torch.autograd.Function):
    """One autograd node for the whole group: few passes over the scores, no copies except the head transposes."""

    @staticmethod
    def forward(
        ctx: Context,
        query_hNd: torch.Tensor,
        key_gNd: torch.Tensor,
        value_gNv: torch.Tensor,
        bias: torch.Tensor | None,
        by_position_hLL: torch.Tensor | None,
        num_rows: int,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        num_heads, num_tokens, _ = query_hNd.shape
        width = value_gNv.shape[-1]
        length = num_tokens // num_rows
        dtype = compute_dtype(query_hNd.dtype, length)
        drop_in_65536 = round(dropout * 65536)
        rescale = 65536 / (65536 - drop_in_65536)
        repeats = num_heads // key_gNd.shape[0]
        # Autocast would turn the fp32 products of short rows back into bf16.
        with torch.autocast(query_hNd.device.type, enabled=False):
            query_bLd = _by_row(query_hNd, num_rows, dtype).mul_(scale)
            scores_bLL = torch.bmm(query_bLd, _by_row(key_gNd, num_rows, dtype, repeats).transpose(1, 2))
            if bias is not None:
                scores_bLL.view(num_rows, num_heads, length, length).add_(bias)
            if by_position_hLL is not None:
                scores_bLL.view(num_rows, num_heads, length, length).add_(by_position_hLL)
            weights_bLL = torch.softmax(scores_bLL, dim=-1)
            kept_bLL = weights_bLL * _random_mask(weights_bLL, drop_in_65536) if drop_in_65536 else weights_bLL
            output_bLv = torch.bmm(kept_bLL, _by_row(value_gNv, num_rows, dtype, repeats))
            if drop_in_65536:
                output_bLv.mul_(rescale)
        output_Nhv = query_hNd.new_empty(num_tokens, num_heads, width)
        output_Nhv.view(num_rows, length, num_heads, width).copy_(
            output_bLv.view(num_rows, num_heads, length, width).transpose(1, 2)
        )
        ctx.save_for_backward(query_hNd, key_gNd, value_gNv, output_Nhv, weights_bLL, kept_bLL)
        ctx.num_rows, ctx.scale, ctx.rescale = num_rows, scale, rescale
        return output_Nhv

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_Nhv: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_hNd, key_gNd, value_gNv, output_Nhv, weights_bLL, kept_bLL = ctx.saved_tensors
        num_rows, scale, dtype = ctx.num_rows, ctx.scale, weights_bLL.dtype
        num_heads, repeats = query_hNd.shape[0], query_hNd.shape[0] // key_gNd.shape[0]
        with torch.autocast(query_hNd.device.type, enabled=False):
            query_bLd = _by_row(query_hNd, num_rows, dtype).mul_(scale)
            key_bLd = _by_row(key_gNd, num_rows, dtype, repeats)
            value_bLv = _by_row(value_gNv, num_rows, dtype, repeats)
            grad_bLv = _by_row(grad_Nhv.transpose(0, 1), num_rows, dtype)
            # Softmax subtracts sum(probability x gradient), which equals sum(output x gradient), with far fewer
            # numbers.
            inner_hN1 = (
                (grad_Nhv * output_Nhv).sum(-1, dtype=torch.promote_types(dtype, torch.float32)).t().unsqueeze(-1)
            )
            inner_bL1 = _by_row(inner_hN1, num_rows, dtype)
            grad_bLv.mul_(ctx.rescale)
            grad_value_bLv = torch.bmm(kept_bLL.transpose(1, 2), grad_bLv)
            grad_scores_bLL = torch.bmm(grad_bLv, value_bLv.transpose(1, 2))
            if ctx.rescale == 1.0:
                grad_scores_bLL.sub_(inner_bL1).mul_(weights_bLL)
            else:
                grad_scores_bLL.mul_(kept_bLL).addcmul_(weights_bLL, inner_bL1, value=-1)
            grad_query_bLd = torch.bmm(grad_scores_bLL, key_bLd).mul_(scale)
            grad_key_bLd = torch.bmm(grad_scores_bLL.transpose(1, 2), query_bLd)
        grad_by_position_hLL = None
        if ctx.needs_input_grad[4]:
            by_row = grad_scores_bLL.view(num_rows, num_heads, *grad_scores_bLL.shape[1:])
            grad_by_position_hLL = by_row.sum(0, dtype=torch.promote_types(dtype, torch.float32))
        return (
            _by_head(grad_query_bLd, num_rows, num_heads, query_hNd.dtype),
            _by_head(grad_key_bLd, num_rows, num_heads, key_gNd.dtype, repeats),
            _by_head(grad_value_bLv, num_rows, num_heads, value_gNv.dtype, repeats),
            None,
            grad_by_position_hLL,
            None,
            None,
            None,
        )


def _by_row(tensor_gNd: torch.Tensor, num_rows: int, dtype: torch.dtype, repeats: int = 1) -> torch.Tensor:
    """[g, N, d] to a new [n * h, L, d], each head repeated `repeats` times."""
    num_heads, num_tokens, width = tensor_gNd.shape
    length = num_tokens // num_rows
    view = tensor_gNd.unflatten(1, (num_rows, length)).transpose(0, 1).unsqueeze(2)
    fresh = torch.empty(num_rows, num_heads, repeats, length, width, dtype=dtype, device=tensor_gNd.device)
    return fresh.copy_(view.expand_as(fresh)).view(-1, length, width)


def _by_head(
    tensor_bLd: torch.Tensor, num_rows: int, num_heads: int, dtype: torch.dtype, repeats: int = 1
) -> torch.Tensor:
    """[n * h, L, d] to [g, N, d] (a view of [N, g, d], as the layers around lay it out), summing repeated heads."""
    _, length, width = tensor_bLd.shape
    view = tensor_bLd.view(num_rows, num_heads // repeats, repeats, length, width)
    summed = view.squeeze(2) if repeats == 1 else view.sum(2)
    fresh = torch.empty(num_rows, length, num_heads // repeats, width, dtype=dtype, device=tensor_bLd.device)
    return fresh.copy_(summed.transpose(1, 2)).view(num_rows * length, -1, width).transpose(0, 1)


def _random_mask(like: torch.Tensor, drop_in_65536: int) -> torch.Tensor:
    """A mask like `like` with `drop_in_65536` zeros in 65536; 16 random bits per element, 5 times as fast as
    `bernoulli_`.
    """
    count = like.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device).random_(-(2**63), None)
    mask = torch.empty_like(like)
    torch.ge(bits.view(torch.int16)[:count], drop_in_65536 - 32768, out=mask.view(-1))
    return mask
