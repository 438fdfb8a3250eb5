"""Tiny random language models, batches with masks, and the loss of plain transformers that they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from kits.backbones import FAMILIES, WORDS, Family
from kits.further import FURTHER
from kits.models import Built, known, lay_out
from textune.batches.batch import TokenBatch
from textune.config.schema import ModelSection
from textune.model.language import load_language_model
from textune.model.pretrained import quiet_transformers
from textune.model.projections import PROJECTIONS
from textune.model.tokenizer import load_tokenizer


def model_type(family: str) -> str:
    """What the configuration of a recipe calls itself."""
    return str(getattr(transformers, recipe_of(family).config).model_type)


def recipe_of(family: str) -> Family:
    """The recipe of a family."""
    return (FAMILIES | FURTHER)[family]


PACKED_LANGUAGES = [
    family
    for family in known(*FAMILIES, *FURTHER)
    if model_type(family) in PROJECTIONS and model_type(family) in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
]
"""Decoders that run packed and that transformers has a language model of."""

_LLAMA, _GPT2 = FAMILIES["llama"], FAMILIES["gpt2"]
_FALCON: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_GPTJ: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.2}
_GPT_NEO: dict[str, Any] = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 6,
    "initializer_range": 0.2,
}

PADDED_LANGUAGES = {
    "bloom": Family("BloomConfig", _GPT2.tokenizer, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": Family("FalconConfig", _GPT2.tokenizer, _FALCON),
    "gpt_neo": Family("GPTNeoConfig", _GPT2.tokenizer, _GPT_NEO),
    "gptj": Family("GPTJConfig", _GPT2.tokenizer, {**_GPTJ, "rotary_dim": 4}),
    "bart": FAMILIES["bart"],
    "mamba": Family("MambaConfig", _GPT2.tokenizer, {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "nanochat": Family("NanoChatConfig", _LLAMA.tokenizer, _LLAMA.keys),
    "stablelm": Family("StableLmConfig", _LLAMA.tokenizer, _LLAMA.keys),
    "granite": Family("GraniteConfig", _LLAMA.tokenizer, {**_LLAMA.keys, "logits_scaling": 4.0}),
    "cohere2": Family("Cohere2Config", _LLAMA.tokenizer, {**_LLAMA.keys, "logit_scale": 0.25, "sliding_window": 6}),
}
"""Some that do not."""

SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id")


def tiny_language_model(family: str | Family, folder: Path, *, seed: int = 0, **keys: Any) -> Path:
    """Write a random language model (config, safetensors, tokenizer) into `folder` and return it."""
    recipe = recipe_of(family) if isinstance(family, str) else family
    tokenizer = recipe.tokenizer(WORDS)
    kind = getattr(transformers, recipe.config)
    special = {key: getattr(tokenizer, key) for key in SPECIAL if hasattr(kind(), key)}
    config = kind(**{"vocab_size": len(tokenizer), **special, **recipe.keys, **keys})
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():  # some start at zero, and would show nothing
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def build_language(family: str | Family, folder: Path, *, section: dict[str, Any] | None = None, **keys: Any) -> Built:
    """Write a tiny language model and load it, in evaluation mode."""
    tiny_language_model(family, folder, **keys)
    return open_language(folder, **(section or {}))


def open_language(folder: Path, **section: Any) -> Built:
    """Load the language model of a folder."""
    model_section = ModelSection(pretrained=str(folder), **section)
    tokenizer = load_tokenizer(model_section)
    model = load_language_model(model_section, tokenizer, seed=1)
    return Built(str(model.hf.config.model_type), folder, tokenizer, model.eval())


def masks_of(rows: Sequence[Sequence[int]], *, seed: int = 0) -> list[list[int]]:
    """Random masks; one row is masked as a whole."""
    generator = np.random.default_rng(seed)
    masks = [(generator.random(len(row)) < 0.4).astype(int).tolist() for row in rows]
    masks[len(rows) // 2] = [1] * len(rows[len(rows) // 2])
    return masks


def masked_batch(
    built: Built,
    rows: Sequence[Sequence[int]],
    masks: Sequence[Sequence[int]],
    groups: Sequence[int] | None = None,
) -> TokenBatch:
    """A batch of rows with their masks, laid out in groups of so many rows."""
    batch = lay_out(built, rows, groups)
    mask_T = lay_out(built, masks, groups).columns["ids"].clone()
    mask_T[mask_T > 1] = 0  # padding has mask 0, and is not scored for that
    return replace(batch, columns={**batch.columns, "mask": mask_T})


def plain_nats(
    plain: Any, built: Built, rows: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]
) -> torch.Tensor:
    """float32 [B]: what plain transformers' logits give of each row, by cross-entropy with labels masked."""
    logits_BLV = plain(**padded_on_the_right(built, rows)).logits.float()
    labels_BL = labels_of(rows, masks)
    return functional.cross_entropy(
        logits_BLV[:, :-1].transpose(1, 2), labels_BL[:, 1:], ignore_index=-100, reduction="none"
    ).sum(1)


def padded_on_the_right(built: Built, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """What a plain model reads of rows."""
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*row, *[built.tokenizer.pad_token_id] * (width - len(row))] for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }


def labels_of(rows: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]) -> torch.Tensor:
    """int64 [B, L]: labels as transformers wants them, -100 where a token is not scored."""
    width = max(map(len, rows))
    return torch.tensor(
        [
            [-100 if masked else token for token, masked in zip(row, mask, strict=True)] + [-100] * (width - len(row))
            for row, mask in zip(rows, masks, strict=True)
        ]
    )


def num_scored(masks: Sequence[Sequence[int]]) -> int:
    """Tokens that are scored: the first of a row never is."""
    return sum(1 - masked for mask in masks for masked in mask[1:])


def plain_language(folder: Path) -> Any:
    """The language model of a folder in plain transformers, in evaluation mode."""
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def saved_copy(built: Built, folder: Path) -> Any:
    """The saved model in plain transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    return plain_language(folder)
