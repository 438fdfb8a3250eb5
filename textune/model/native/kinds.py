"""The layers of transformers that `prenorm.py` can compute, by class; a layer that deviates from its kind is not
changed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from textune.model.hugging import FamilyModule
from textune.model.native.between import GATES
from textune.model.native.kernels import ACTIVATIONS
from textune.model.native.linears import base_of, is_computable
from textune.model.native.prenorm import PrenormLayer


def find_prenorm(module: FamilyModule) -> PrenormLayer | None:
    """The modules of a layer that can be computed whole; None for any other."""
    describe = PRENORM.get(type(module).__name__)
    parts = None if describe is None or not type(module).__module__.startswith("transformers.") else describe(module)
    return parts if parts is not None and _is_plain(parts) else None


def _is_plain(parts: PrenormLayer) -> bool:
    """Whether all modules are PyTorch's, transformers' or plain adapted ones, and fp32: other adapters and quantised
    layers compute something else.
    """
    linears, norms = parts.linears(), parts.norms()
    kinds = {type(base_of(linear)) for linear in linears}
    plain = all(is_computable(linear) for linear in linears) and all(_is_norm(norm) for norm in norms)
    plain = plain and len(kinds) == 1
    for together in (parts.projections, parts.inner):
        plain = plain and len({linear.bias is None for linear in together}) == 1
    plain = plain and (parts.is_gated or parts.inner[0].bias is not None)
    tensors = [p for module in (*linears, *norms) for p in module.parameters()]
    return plain and max(parts.probabilities()) < 1 and all(p.dtype == torch.float32 for p in tensors)


def _is_norm(norm: FamilyModule) -> bool:
    if type(norm) is nn.LayerNorm:
        return len(norm.normalized_shape) == 1 and norm.weight is not None
    kind = type(norm)
    known = kind.__name__.endswith("RMSNorm") and kind.__module__.startswith("transformers.models.")
    return known and (hasattr(norm, "variance_epsilon") or kind.__name__ == "GemmaRMSNorm")


def _modernbert(module: FamilyModule) -> PrenormLayer | None:
    attention, mlp = module.attn, module.mlp
    activation = _named(GATES, module.config.hidden_activation)
    if activation is None:
        return None
    is_decoder = hasattr(attention, "q_proj")
    return PrenormLayer(
        projections=(attention.q_proj, attention.k_proj, attention.v_proj) if is_decoder else (attention.Wqkv,),
        attention_output=attention.Wo,
        inner=(mlp.Wi,),
        output=mlp.Wo,
        attention_norm=None if type(module.attn_norm) is nn.Identity else module.attn_norm,
        feed_forward_norm=module.mlp_norm,
        num_heads=module.config.num_attention_heads,
        num_key_heads=module.config.num_attention_heads,
        scale=attention.head_dim**-0.5,
        causal=attention.is_causal,
        window=attention.sliding_window or 0,
        activation=activation,
        is_gated=True,
        dropouts=((attention, "attention_dropout"), _place(attention.out_drop), _place(mlp.drop)),
    )


def _llama(module: FamilyModule) -> PrenormLayer | None:
    attention, mlp = module.self_attn, module.mlp
    activation = _named(GATES, attention.config.hidden_act)
    if activation is None:
        return None
    has_own_window = hasattr(attention, "sliding_window")  # Mistral keeps it in the configuration
    window = attention.sliding_window if has_own_window else _mistral_window(attention)
    return PrenormLayer(
        projections=(attention.q_proj, attention.k_proj, attention.v_proj),
        attention_output=attention.o_proj,
        inner=(mlp.gate_proj, mlp.up_proj),
        output=mlp.down_proj,
        attention_norm=module.input_layernorm,
        feed_forward_norm=module.post_attention_layernorm,
        num_heads=attention.config.num_attention_heads,
        num_key_heads=attention.config.num_key_value_heads,
        scale=attention.scaling,
        causal=attention.is_causal,
        window=window or 0,
        activation=activation,
        is_gated=True,
        head_norms=(attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None,
        dropouts=((attention, "attention_dropout"),),
    )


def _mistral_window(attention: FamilyModule) -> int | None:
    window: int | None = attention.config.sliding_window if type(attention).__name__ == "MistralAttention" else None
    return window


def _gpt2(module: FamilyModule) -> PrenormLayer | None:
    attention, mlp = module.attn, module.mlp
    activation = _named(ACTIVATIONS, attention.config.activation_function)
    if activation is None or hasattr(module, "crossattention"):
        return None
    return PrenormLayer(
        projections=(attention.c_attn,),
        attention_output=attention.c_proj,
        inner=(mlp.c_fc,),
        output=mlp.c_proj,
        attention_norm=module.ln_1,
        feed_forward_norm=module.ln_2,
        num_heads=attention.num_heads,
        num_key_heads=attention.num_heads,
        scale=attention.scaling,
        causal=attention.is_causal,
        activation=activation,
        is_gated=False,
        dropouts=(_place(attention.attn_dropout), _place(attention.resid_dropout), None, _place(mlp.dropout)),
    )


def _place(module: nn.Module) -> tuple[nn.Module, str] | None:
    return (module, "p") if isinstance(module, nn.Dropout) else None


def _named(table: dict[str, int], name: object) -> int | None:
    return table.get(name) if isinstance(name, str) else None


PRENORM: dict[str, Callable[[FamilyModule], PrenormLayer | None]] = {
    "ModernBertEncoderLayer": _modernbert,
    "ModernBertDecoderLayer": _modernbert,
    "EuroBertDecoderLayer": _llama,
    "GPT2Block": _gpt2,
    "LlamaDecoderLayer": _llama,
    "MistralDecoderLayer": _llama,
    "Qwen2DecoderLayer": _llama,
    "Qwen3DecoderLayer": _llama,
    "GemmaDecoderLayer": _llama,
}
"""Class of a layer to its modules."""
