"""Tables of the families of backbones that run packed, and how, and of those that do not, and why; read by
`backbone.py`.

A family can run packed if tokens interact only in attention, and attention goes through a function that can be
registered (`attention.py`) or a module's forward that can be replaced (`PackedFamily.forwards`).

To add a family: give its `model_type` a row in `PACKED_FAMILIES` (out of `PADDED_FAMILIES`, if it stands there), and
its smallest configuration to the twin test in `tests/model/test_families.py`, which fails for a family without one.

Shapes: B rows, T packed tokens, H hidden.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from torch import nn
from torch.nn import functional

from textune.batches import Layout
from textune.errors import ModelError
from textune.model import disentangled, heads
from textune.model.attention import PACKED, PackedLayout
from textune.model.heads import PackedHead
from textune.model.hugging import Forward, HuggingModel, Options
from textune.model.own import as_own
from textune.model.pretrained import quiet_transformers
from textune.model.relative import encode_mpnet, encode_t5, mpnet_forwards, t5_forwards

Positions = Callable[[HuggingModel, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, ids [T], positions from 0 [T], layout) to the positions [T] that the backbone expects."""

Encode = Callable[[HuggingModel, Options], torch.Tensor]
"""(Hugging Face model, inputs of its backbone including `textune_layout`) to hidden states [1, T, H]."""

Forwards = Callable[[HuggingModel], list[tuple[nn.Module, Forward]]]
"""(Hugging Face model) to modules, each with its forward while the layout is packed."""


def _from_zero(
    _hf: HuggingModel, _ids_T: torch.Tensor, positions_T: torch.Tensor, _layout: PackedLayout
) -> torch.Tensor:
    return positions_T


def _after_padding(
    hf: HuggingModel, ids_T: torch.Tensor, _positions_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """RoBERTa's positions: from pad id + 1; a pad token, even one written in the text, gets pad id and is not
    counted.
    """
    pad_id = hf.base_model.embeddings.padding_idx
    counts_T = (ids_T != pad_id).long()
    before_T = counts_T.cumsum(0) - counts_T
    in_rows = len(layout.rows_T)
    # Counted from the row's start; filler after the last row stays at pad id.
    steps_T = (before_T[:in_rows] - before_T[layout.starts_B][layout.rows_T] + 1) * counts_T[:in_rows]
    positions_T: torch.Tensor = functional.pad(steps_T, (0, len(ids_T) - in_rows)) + pad_id
    return positions_T


def _through_backbone(hf: HuggingModel, inputs: Options) -> torch.Tensor:
    hidden_1TH: torch.Tensor = hf.base_model(**inputs).last_hidden_state
    return hidden_1TH


def _none_replaced(_hf: HuggingModel) -> list[tuple[nn.Module, Forward]]:
    return []


@dataclass(frozen=True)
class PackedFamily:
    """How a family that runs packed counts positions, computes its hidden states and reads them."""

    head: PackedHead
    positions: Positions = _from_zero
    reads_first: bool = False
    """The head reads only the first token of each row, unless `classifier_pooling` asks for a mean."""
    encode: Encode = _through_backbone
    """Replaces the backbone's own forward if that does not pass the layout to its attention."""
    forwards: Forwards = _none_replaced
    """Replaces attention that is not computed by a registered function."""
    registered: bool = True
    """Attention is a function registered with transformers; not every release supports that in every family."""

    def reads_only_first(self, hf: HuggingModel) -> bool:
        """Whether only the first token of each row of the last layer is read."""
        return self.reads_first and getattr(hf.config, "classifier_pooling", "cls") == "cls"


_BERT = PackedFamily(heads.POOLER_OF_FIRST, reads_first=True)
_ROBERTA = PackedFamily(heads.HEAD_OF_FIRST, _after_padding, reads_first=True)
_DECODER = PackedFamily(heads.SCORE_OF_LAST)

PACKED_FAMILIES: dict[str, PackedFamily] = {
    **dict.fromkeys(("bert", "ernie", "gte", "nomic_bert", "roc_bert"), _BERT),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "data2vec-text", "roberta-prelayernorm"), _ROBERTA),
    **dict.fromkeys(("xlm-roberta-xl", "xmod"), _ROBERTA),
    "electra": PackedFamily(heads.HEAD_OF_FIRST, reads_first=True),
    "jina_embeddings_v3": PackedFamily(heads.HEAD_OF_FIRST, reads_first=True),
    "albert": PackedFamily(heads.ALBERT, reads_first=True),
    "distilbert": PackedFamily(heads.DISTILBERT, reads_first=True),
    "mpnet": PackedFamily(
        heads.HEAD_OF_FIRST,
        _after_padding,
        reads_first=True,
        encode=encode_mpnet,
        forwards=mpnet_forwards,
        registered=False,
    ),
    "deberta-v2": PackedFamily(
        heads.DEBERTA,
        reads_first=True,
        encode=disentangled.encode,
        forwards=disentangled.replaced_forwards,
        registered=False,
    ),
    **dict.fromkeys(("t5", "mt5"), PackedFamily(heads.HEAD_OF_LAST_EOS, encode=encode_t5, forwards=t5_forwards)),
    "modernbert": PackedFamily(heads.MODERNBERT, reads_first=True),
    "ultrabert": PackedFamily(heads.MODERNBERT, reads_first=True),
    "modernbert-decoder": PackedFamily(heads.MODERNBERT_DECODER),
    "eurobert": PackedFamily(heads.EUROBERT),
    "ctrl": PackedFamily(heads.CLASSIFIER_OF_LAST),
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), _DECODER),
    **dict.fromkeys(
        ("arcee", "biogpt", "cohere_compass_text", "diffllama", "exaone4", "glm", "glm4", "gpt_bigcode"), _DECODER
    ),
    **dict.fromkeys(("gpt_neox", "helium", "hunyuan_v1_dense", "minicpm3", "ministral", "ministral3"), _DECODER),
    **dict.fromkeys(("olmo", "olmo2", "olmo3", "opt", "persimmon", "phi", "phi3", "seed_oss", "smollm3"), _DECODER),
    **dict.fromkeys(
        ("starcoder2", "axk1", "deepseek_v2", "deepseek_v3", "hunyuan_v1_moe", "jetmoe", "mistral4"), _DECODER
    ),
    **dict.fromkeys(("mixtral", "qwen3_moe"), _DECODER),
}
"""`model_type` of a configuration to how it runs packed; each has its twin test."""

_OWN = "computes its own kind of attention"
_BESIDE = "lets tokens interact outside attention, too"
_RECURRENT = "reads the tokens one after another, in recurrent layers"
_TWO_STACKS = "is an encoder with a decoder"
_CUT_OFF = "does not pass all keyword arguments to its attention"
_NOT_TEXT = "is not made for text only"

PADDED_FAMILIES: dict[str, str] = {
    **dict.fromkeys(
        ("axk2", "big_bird", "bloom", "deberta", "doge", "falcon", "flaubert", "gpt_neo", "gpt_oss"), _OWN
    ),
    **dict.fromkeys(
        ("gptj", "ibert", "longformer", "megatron-bert", "mpt", "mra", "nystromformer", "openai-gpt"), _OWN
    ),
    **dict.fromkeys(("reformer", "rembert", "roformer", "squeezebert", "xlm", "xlnet", "yoso"), _OWN),
    **dict.fromkeys(("canine", "convbert", "fnet", "funnel", "mobilebert"), _BESIDE),
    **dict.fromkeys(("jamba", "minimax", "qwen3_5", "qwen3_5_text", "qwen3_next", "zamba", "zamba2"), _RECURRENT),
    **dict.fromkeys(("bart", "bigbird_pegasus", "mbart", "mvp", "plbart", "t5gemma", "t5gemma2", "umt5"), _TWO_STACKS),
    **dict.fromkeys(("nemotron", "phimoe", "qwen2_moe", "stablelm"), _CUT_OFF),
    **dict.fromkeys(
        ("esm", "esmc", "gemma3", "layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "luke", "markuplm"), _NOT_TEXT
    ),
    **dict.fromkeys(("modernvbert", "perceiver", "tapas", "ultravbert"), _NOT_TEXT),
}
"""`model_type` to why the family does not run packed."""


def why_padded(family: str) -> str:
    """Why models of this `model_type` cannot run packed; empty where they can."""
    if family in PACKED_FAMILIES:
        return ""
    if family in PADDED_FAMILIES:
        return f"{family} {PADDED_FAMILIES[family]}"
    return f"textune knows no packed form of {family}"


def packing_obstacle(hf: HuggingModel) -> str:
    """Why this model cannot run packed; empty where it can."""
    family = hf.config.model_type
    if (own := as_own(hf)) is not None:
        return "" if own.takes_packed else f"{own.name} is code of its own, without forward_packed"
    if not type(hf).__module__.startswith("transformers."):
        return f"{type(hf).__name__} is code of its own"
    if reason := why_padded(family):
        return reason
    if PACKED_FAMILIES[family].registered and "ALL_ATTENTION_FUNCTIONS" not in vars(sys.modules[type(hf).__module__]):
        return f"this release of transformers computes attention of {family} by itself"
    if getattr(hf.config, "chunk_size_feed_forward", 0):
        return "chunk_size_feed_forward needs rows of a fixed length"
    return ""


def cannot_pack(obstacle: str) -> ModelError:
    """The error for a model that is to run packed, and cannot."""
    return ModelError(
        f'model.attention = "packed", but {obstacle}.',
        hint='Use "auto", or a family that runs packed: bert, modernbert, llama and others (docs/architecture.md).',
        key="model.attention",
        value="packed",
        reason=obstacle,
    )


def attend_in(layout: Layout, hf: HuggingModel, *, padded: str) -> None:
    """Let a model of a packed family compute attention in batches of this layout from now on; it was in the other one
    before. `padded` is the attention that transformers chose for padded batches."""
    attention = PACKED if layout == "packed" else padded
    with quiet_transformers():
        hf.set_attn_implementation(attention)
    # It is not set where the family computes attention itself, but read by what compiles layers; and some releases of
    # transformers pass over submodels with a copy of the configuration, such as T5's stacks.
    for module in hf.modules():
        if isinstance(module, transformers.PreTrainedModel):
            module.config._attn_implementation = attention
    for module, forward in PACKED_FAMILIES[hf.config.model_type].forwards(hf):
        if layout == "packed":
            module.forward = forward
        else:
            del module.forward
