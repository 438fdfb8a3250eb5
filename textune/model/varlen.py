"""Attention over packed rows on a GPU, in one call of variable-length flash attention; used by `attention.py`.

The kernel takes all tokens of a batch end to end with the bounds of their sequences, so it needs neither groups nor
masks. What it cannot compute (`varlen_obstacle`) is computed group by group in `attention.py`.

Shapes: B rows, T tokens, h heads of d, g key heads, S sequences.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol

import numpy as np
import torch

from textune.model.hugging import HuggingConfig

MAX_WIDTH = 256
"""Widest heads that the kernels support; widths must be multiples of 8 (flash_api.cpp of PyTorch)."""

ROUND_LONGEST_TO = 64
"""The length of the longest sequence is rounded up to a multiple of this: a tile of the kernel, and few values to
compile for. It also avoids 1, for which the kernel takes another path."""


class Sequences(NamedTuple):
    """All tokens of a packed batch, cut into consecutive sequences; a token sees only its own sequence."""

    bounds_S1: torch.Tensor
    """int32 [S + 1] on the device: the start of each sequence, and T."""
    longest: int
    """Tokens of the longest sequence, rounded up."""


class HasSequences(Protocol):
    """What `varlen_attention` reads of a layout."""

    @property
    def sequences(self) -> Sequences | None:
        """The sequences; None if attention is computed group by group."""


def cut_into_sequences(
    starts_B: np.ndarray, lengths_B: np.ndarray, *, num_tokens: int, device: torch.device
) -> Sequences:
    """Make a sequence of each row, of the padding after each row and of the filler after the last row.

    `starts_B` and `lengths_B` are int64 [B] on the host, to avoid waiting for the device. The sequences cover all
    `num_tokens`: the kernel would not write the output and gradients of other tokens.
    """
    edges = np.concatenate([[0], starts_B, starts_B + lengths_B, [num_tokens]])
    bounds = np.unique(edges).astype(np.int32)
    longest = int(np.diff(bounds).max())
    host_S1 = torch.from_numpy(bounds)
    if device.type == "cuda":
        host_S1 = host_S1.pin_memory()
    rounded = -(-longest // ROUND_LONGEST_TO) * ROUND_LONGEST_TO
    return Sequences(host_S1.to(device, non_blocking=device.type == "cuda"), rounded)


def varlen_attention(
    query_hTd: torch.Tensor,
    key_gTd: torch.Tensor,
    value_gTd: torch.Tensor,
    layout: HasSequences,
    *,
    causal: bool,
    window: int | None,
    scale: float,
    dropout: float,
) -> torch.Tensor:
    """Attention within each sequence: [h, T, d], [g, T, d] and [g, T, d] to [T, h, d]; h is a multiple of g.

    `window`: only tokens fewer than `window` positions away are visible. The kernel's dropout probability has steps
    of 1/256 and uses the device's random state. `torch.nn.attention.varlen` has no dropout; the operator below it
    has, with gradients.
    """
    sequences = layout.sequences
    assert sequences is not None, "this layout was made for attention group by group"
    reach = -1 if window is None else window - 1
    output_Thd: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query_hTd.transpose(0, 1),
        key_gTd.transpose(0, 1),
        value_gTd.transpose(0, 1),
        sequences.bounds_S1,
        sequences.bounds_S1,
        sequences.longest,
        sequences.longest,
        dropout,
        causal,
        False,
        scale=scale,
        window_size_left=reach,
        window_size_right=0 if causal else reach,
    )[0]
    return output_Thd


# --- where it can run ------------------------------------------------------------------------------------------------


@functools.cache
def varlen_obstacle(device: torch.device, dtype: torch.dtype, head_dim: int, softcap: float | None) -> str:
    """Why `varlen_attention` cannot compute heads `head_dim` wide in `dtype` on `device`; empty if it can."""
    if device.type != "cuda":
        return f"flash attention needs a CUDA device, not {device.type}"
    if torch.version.hip is not None:
        return "flash attention of variable length is not tested on ROCm"
    if dtype not in {torch.float16, torch.bfloat16}:
        return "flash attention computes in bf16 or fp16 only"
    if head_dim > MAX_WIDTH or head_dim % 8:
        return f"flash attention takes heads of up to {MAX_WIDTH} in steps of 8, these are {head_dim} wide"
    if softcap is not None:
        return "PyTorch's flash attention cannot cap its scores, as this backbone does"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of PyTorch has no flash attention"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"flash attention needs compute capability 8.0, this GPU has {major}.{minor}"
    if not _allowed_by_torch(device, dtype, head_dim):
        return f"PyTorch refuses flash attention for heads {head_dim} wide on this GPU"
    return ""


def _allowed_by_torch(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """PyTorch's own check, for training with dropout; it knows the consumer GPUs that cannot train wide heads."""
    with torch.inference_mode(False), torch.enable_grad():
        probe = torch.empty(1, 1, 8, head_dim, device=device, dtype=dtype, requires_grad=True)
        params = torch.backends.cuda.SDPAParams(probe, probe, probe, None, 0.1, False, False)
        return torch.backends.cuda.can_use_flash_attention(params)


ADDED_TERMS = {
    "mpnet": "bias by distance",
    "t5": "bias by distance",
    "mt5": "bias by distance",
    "deberta-v2": "terms for distances",
}
"""`model_type` to what its attention adds to the scores, which flash attention cannot."""


def attention_obstacle(device: torch.device, dtype: torch.dtype, hf_config: HuggingConfig) -> str:
    """`varlen_obstacle` for the heads of a Hugging Face configuration."""
    config = hf_config.get_text_config()
    if config.model_type in ADDED_TERMS:
        return f"flash attention has no {ADDED_TERMS[config.model_type]}, as this backbone has"
    if getattr(config, "v_head_dim", None):
        return "flash attention takes keys and values of one width only"
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return varlen_obstacle(device, dtype, head_dim, getattr(config, "attn_logit_softcapping", None))


def describe_attention(device: torch.device, dtype: torch.dtype, hf_config: HuggingConfig) -> str:
    """How a packed model computes attention, for the header of a run."""
    obstacle = attention_obstacle(device, dtype, hf_config)
    return f"attention group by group: {obstacle}" if obstacle else "flash attention of variable length"
