"""From the hidden states of a language model to logits, in each family's own way: a table; before `faces.py`.

Every decoder projects states on the words by its output embedding, which may be tied to the token embeddings. Some do
something before or after that, which stands here. A family that is in no table is tried out when it is loaded
(`require_projection`).

To add a family that runs packed: give its `model_type` a row in `PROJECTIONS`, and its smallest configuration to the
twin test in `tests/model/test_language.py`, which fails for a family without one.

Shapes: N tokens of B rows of L, H hidden, V words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from textune.errors import ModelError
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.nats import LogitForm

_PROBE_TOKENS = 6
_TOLERANCE = 1e-3
"""Of logits, relative to the largest: other mathematics differ by far more, kernels of other shapes by far less."""


def _as_they_are(_hf: HuggingModel, states_NH: torch.Tensor) -> torch.Tensor:
    return states_NH


def _plain(_config: HuggingConfig) -> LogitForm:
    return LogitForm()


@dataclass(frozen=True)
class Projection:
    """How hidden states become logits, around the output embedding."""

    before: Callable[[HuggingModel, torch.Tensor], torch.Tensor] = _as_they_are
    """(Hugging Face model, hidden states [N, H]) to what the output embedding is given."""
    form: Callable[[HuggingConfig], LogitForm] = _plain
    """What becomes of the products."""


def _capped(config: HuggingConfig) -> LogitForm:
    return LogitForm(cap=config.final_logit_softcapping or 0.0)


def _scaled(config: HuggingConfig) -> LogitForm:
    return LogitForm(scale=1.0 if config.logit_scale is None else config.logit_scale)


def _divided(config: HuggingConfig) -> LogitForm:
    return LogitForm(scale=1.0 / config.logits_scaling)


def _divide_states(hf: HuggingModel, states_NH: torch.Tensor) -> torch.Tensor:
    divided_NH: torch.Tensor = states_NH / hf.config.logits_scaling
    return divided_NH


def _head_before_words(hf: HuggingModel, states_NH: torch.Tensor) -> torch.Tensor:
    transformed_NH: torch.Tensor = hf.lm_head(states_NH)
    return transformed_NH


_PLAIN = Projection()

PROJECTIONS: dict[str, Projection] = {
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "opt", "ctrl", "phi", "phi3"), _PLAIN),
    **dict.fromkeys(("arcee", "biogpt", "diffllama", "exaone4", "glm", "glm4", "gpt_bigcode", "gpt_neox"), _PLAIN),
    **dict.fromkeys(("helium", "hunyuan_v1_dense", "ministral", "ministral3", "olmo", "olmo2", "olmo3"), _PLAIN),
    **dict.fromkeys(("persimmon", "seed_oss", "smollm3", "starcoder2", "axk1", "deepseek_v2", "deepseek_v3"), _PLAIN),
    **dict.fromkeys(("hunyuan_v1_moe", "jetmoe", "mistral4", "mixtral", "qwen3_moe"), _PLAIN),
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma4_text", "vaultgemma", "nanochat"), Projection(form=_capped)),
    **dict.fromkeys(("cohere", "cohere2", "cohere_compass_text"), Projection(form=_scaled)),
    **dict.fromkeys(("granite", "granitemoe"), Projection(form=_divided)),
    "minicpm3": Projection(before=_divide_states),
    "modernbert-decoder": Projection(before=_head_before_words),
}
"""`model_type` of decoders to how they project."""


def projection_of(family: str) -> Projection:
    """That of a family; of one that nobody knows, the product alone."""
    return PROJECTIONS.get(family, _PLAIN)


def logits_of(hf: HuggingModel, states_NH: torch.Tensor) -> torch.Tensor:
    """Whole logits [N, V] of hidden states [N, H]."""
    projection = projection_of(hf.config.model_type)
    logits_NV: torch.Tensor = projection.form(hf.config).of(
        hf.get_output_embeddings()(projection.before(hf, states_NH))
    )
    return logits_NV


@torch.no_grad()
def require_projection(hf: HuggingModel, *, where: str, key: str) -> None:
    """ModelError unless this language model reads tokens from left to right alone, and its logits are those of
    `logits_of`, as two rows of tokens show. `where` and `key` name it and the setting that it comes from."""
    family = hf.config.model_type
    if getattr(hf, "get_output_embeddings", None) is None or hf.get_output_embeddings() is None:
        raise _cannot(family, where, key, "it has no output embedding")
    ids_BL = torch.arange(2 * _PROBE_TOKENS).view(2, -1) % len(hf.get_input_embeddings().weight)
    ids_BL[1] = ids_BL[0]
    ids_BL[1, -1] += 1
    inputs = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}
    try:
        whole_BLV = hf(**inputs).logits
        hidden_BLH = hf.base_model(**inputs)[0]
        ours_BLV = logits_of(hf, hidden_BLH)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _cannot(family, where, key, f"its hidden states cannot be had ({str(error).splitlines()[0]})") from error
    tolerance = _TOLERANCE * float(whole_BLV.abs().max())
    if float((whole_BLV[0, :-1] - whole_BLV[1, :-1]).abs().max()) > tolerance:
        raise ModelError(
            f"{key}: the {family} in the {where} is an encoder: what it says of a token depends on those after it.",
            hint="Choose a decoder, such as gpt2 or SmolLM2.",
            key=key,
            value=where,
            reason="encoder",
        )
    if ours_BLV.shape != whole_BLV.shape or float((ours_BLV - whole_BLV).abs().max()) > tolerance:
        raise _cannot(family, where, key, "its logits are not the products of hidden states and words")


def _cannot(family: str, where: str, key: str, reason: str) -> ModelError:
    return ModelError(
        f"{key}: {family} cannot be trained as a language model here ({where}): {reason}.",
        hint="Choose a family that is known: gpt2, llama, qwen3, gemma3 and others (docs/architecture.md).",
        key=key,
        value=family,
        reason=reason,
    )
