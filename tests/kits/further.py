"""Tiny backbones of the families that run packed as others do: decoders with last-token heads, and relatives of
RoBERTa.

Beside `tiny.FAMILIES`, whose families go through every test; these go through the twin test of `test_families.py`.
"""

from __future__ import annotations

from typing import Any

from kits import backbones as tiny
from kits.backbones import Family

_ENCODER: dict[str, Any] = tiny.FAMILIES["bert"].keys
_ROBERTA: dict[str, Any] = tiny.FAMILIES["roberta"].keys
_DECODER: dict[str, Any] = tiny.FAMILIES["llama"].keys
_GPT2: dict[str, Any] = tiny.FAMILIES["gpt2"].keys
_SHARED: dict[str, Any] = {**_ENCODER, "num_key_value_heads": 2}
"""Two heads of keys, each half as many as a head of queries needs; without a width of their own."""
_WINDOWS: dict[str, Any] = {**_DECODER, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}
_LATENT: dict[str, Any] = {
    **_ENCODER,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
"""Keys and values out of a narrow layer; values are half as wide as keys."""
_QWEN: dict[str, Any] = tiny.FAMILIES["qwen3"].keys
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

_bert, _roberta, _xlm_roberta = (tiny.FAMILIES[name].tokenizer for name in ("bert", "roberta", "xlm-roberta"))
_llama, _gpt2, _qwen = (tiny.FAMILIES[name].tokenizer for name in ("llama", "gpt2", "qwen2"))

FURTHER: dict[str, Family] = {
    "xmod": Family(
        "XmodConfig", _xlm_roberta, {**_ROBERTA, "languages": ["en_XX", "de_DE"], "default_language": "de_DE"}
    ),
    "roc_bert": Family(
        "RoCBertConfig",
        _bert,
        {**_ENCODER, "pronunciation_embed_dim": 8, "shape_embed_dim": 8, "shape_vocab_size": 20},
    ),
    "ultrabert": Family("UltrabertConfig", _qwen, _WINDOWS),
    "arcee": Family("ArceeConfig", _llama, _DECODER),
    "biogpt": Family("BioGptConfig", _xlm_roberta, _ENCODER),
    "cohere_compass_text": Family(
        "CohereCompassTextConfig",
        _llama,
        {
            **_WINDOWS,
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 10000.0}
                for kind in ("sliding_attention", "full_attention")
            },
        },
    ),
    "ctrl": Family("CTRLConfig", _gpt2, {**_GPT2, "dff": 64}),
    "diffllama": Family("DiffLlamaConfig", _llama, _DECODER),
    "exaone4": Family("Exaone4Config", _llama, {**_WINDOWS, "sliding_window_pattern": 2}),
    "glm": Family("GlmConfig", _llama, _DECODER),
    "glm4": Family("Glm4Config", _llama, _DECODER),
    "gpt_bigcode": Family("GPTBigCodeConfig", _gpt2, _GPT2),
    "gpt_neox": Family("GPTNeoXConfig", _gpt2, _ENCODER),
    "helium": Family("HeliumConfig", _llama, _DECODER),
    # Its norms behind the rotation make it depend on where a text begins, so on padding before it.
    "hunyuan_v1_dense": Family("HunYuanDenseV1Config", _qwen, _DECODER),
    "minicpm3": Family("MiniCPM3Config", _llama, _LATENT),
    "ministral": Family("MinistralConfig", _llama, _WINDOWS),
    "ministral3": Family("Ministral3Config", _llama, {**_DECODER, "sliding_window": 6}),
    "olmo": Family("OlmoConfig", _llama, _DECODER),
    "olmo2": Family("Olmo2Config", _llama, _DECODER),
    "olmo3": Family("Olmo3Config", _llama, _WINDOWS),
    "opt": Family(
        "OPTConfig",
        _gpt2,
        {
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 16,
            "max_position_embeddings": 512,
            "init_std": 0.2,
        },
    ),
    "persimmon": Family("PersimmonConfig", _llama, _ENCODER),
    "phi": Family("PhiConfig", _llama, _ENCODER),
    "phi3": Family("Phi3Config", _llama, {**_SHARED, "sliding_window": 6}),
    "seed_oss": Family("SeedOssConfig", _llama, {**_DECODER, "residual_dropout": 0.0}),
    "smollm3": Family("SmolLM3Config", _llama, {**_WINDOWS, "no_rope_layers": [1, 0], "use_sliding_window": True}),
    "starcoder2": Family("Starcoder2Config", _gpt2, {**_SHARED, "sliding_window": 6}),
    "mt5": Family("MT5Config", tiny.FAMILIES["t5"].tokenizer, tiny.FAMILIES["t5"].keys),
    # Mixtures of experts.
    "axk1": Family(
        "AXK1Config",
        _llama,
        {
            **_LATENT,
            **_EXPERTS,
            "n_routed_experts": 8,
            "n_group": 2,
            "topk_group": 1,
            "mlp_layer_types": ["dense", "sparse"],
        },
    ),
    "deepseek_v2": Family("DeepseekV2Config", _llama, {**_LATENT, **_EXPERTS, "n_routed_experts": 4}),
    "deepseek_v3": Family(
        "DeepseekV3Config",
        _llama,
        {**_LATENT, **_EXPERTS, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1},
    ),
    "hunyuan_v1_moe": Family("HunYuanMoEV1Config", _qwen, {**_DECODER, "num_experts": 4, "moe_topk": 2}),
    "jetmoe": Family("JetMoeConfig", _llama, {**_SHARED, "kv_channels": 8, "num_local_experts": 4}),
    "mistral4": Family("Mistral4Config", _llama, {**_LATENT, **_EXPERTS, "n_routed_experts": 4}),
    "mixtral": Family("MixtralConfig", _llama, {**_DECODER, "num_local_experts": 4, "sliding_window": 6}),
    "qwen3_moe": Family("Qwen3MoeConfig", _qwen, {**_QWEN, **_EXPERTS, "num_experts": 4}),
}
"""Family name to recipe, as in `tiny.FAMILIES`."""
