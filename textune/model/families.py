"""Which families of backbones run packed and how, and which do not and why; `backbone.py` reads these tables.

A family runs packed where each token meets other tokens in attention alone, and attention goes through a function that can be
registered (`attention.py`) or a module's forward that can be replaced (`PackedFamily.forwards`). Every entry has its twin test.

Shapes: B rows, T packed tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from textune.model import disentangled, heads
from textune.model.attention import PackedLayout
from textune.model.heads import Pool
from textune.model.relative import encode_mpnet, mpnet_forwards

Positions = Callable[[Any, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, ids [T], positions from 0 [T], layout) to the positions that the backbone expects [T]."""

Encode = Callable[[Any, dict[str, Any]], torch.Tensor]
"""(Hugging Face model, inputs of its backbone, `textune_layout` among them) to hidden states [1, T, H]."""

Forwards = Callable[[Any], list[tuple[nn.Module, Callable[..., Any]]]]
"""(Hugging Face model) to modules, each with the forward that it has as long as the layout is packed."""


def _from_zero(_hf: Any, _ids_T: torch.Tensor, positions_T: torch.Tensor, _layout: PackedLayout) -> torch.Tensor:
    return positions_T


def _after_padding(hf: Any, ids_T: torch.Tensor, _positions_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """RoBERTa's positions: from pad id + 1; a pad token, even one that a text spells out, gets pad id and is not counted."""
    pad_id = hf.base_model.embeddings.padding_idx
    counts_T = (ids_T != pad_id).long()
    before_T = counts_T.cumsum(0) - counts_T
    in_rows = len(layout.rows_T)
    # Counted from the row's start; filler behind the last row stays at pad id.
    steps_T = (before_T[:in_rows] - before_T[layout.starts_B][layout.rows_T] + 1) * counts_T[:in_rows]
    positions_T: torch.Tensor = functional.pad(steps_T, (0, len(ids_T) - in_rows)) + pad_id
    return positions_T


def _through_backbone(hf: Any, inputs: dict[str, Any]) -> torch.Tensor:
    hidden_1TH: torch.Tensor = hf.base_model(**inputs).last_hidden_state
    return hidden_1TH


def _none_replaced(_hf: Any) -> list[tuple[nn.Module, Callable[..., Any]]]:
    return []


@dataclass(frozen=True)
class PackedFamily:
    """How a family that runs packed counts positions, computes its hidden states and reads them."""

    pool: Pool
    positions: Positions = _from_zero
    reads_first: bool = False
    """The head reads the first token of each row and nothing else, unless `classifier_pooling` asks for a mean."""
    encode: Encode = _through_backbone
    """Another way through the backbone, where its own forward does not hand the layout to its attention."""
    forwards: Forwards = _none_replaced
    """What stands in for attention that no registered function computes."""

    def reads_only_first(self, hf: Any) -> bool:
        """Whether of the last layer only the first token of each row is read."""
        return self.reads_first and getattr(hf.config, "classifier_pooling", "cls") == "cls"


_DECODER = PackedFamily(heads.score_of_last)

PACKED_FAMILIES: dict[str, PackedFamily] = {
    "bert": PackedFamily(heads.pooler_of_first, reads_first=True),
    "ernie": PackedFamily(heads.pooler_of_first, reads_first=True),
    "electra": PackedFamily(heads.head_of_first, reads_first=True),
    "roberta": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "xlm-roberta": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "camembert": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "data2vec-text": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "roberta-prelayernorm": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "xlm-roberta-xl": PackedFamily(heads.head_of_first, _after_padding, reads_first=True),
    "mpnet": PackedFamily(heads.head_of_first, _after_padding, reads_first=True, encode=encode_mpnet, forwards=mpnet_forwards),
    "jina_embeddings_v3": PackedFamily(heads.head_of_first, reads_first=True),
    "gte": PackedFamily(heads.pooler_of_first, reads_first=True),
    "nomic_bert": PackedFamily(heads.pooler_of_first, reads_first=True),
    "albert": PackedFamily(heads.albert, reads_first=True),
    "distilbert": PackedFamily(heads.distilbert, reads_first=True),
    "deberta-v2": PackedFamily(
        heads.deberta, reads_first=True, encode=disentangled.encode, forwards=disentangled.replaced_forwards
    ),
    "modernbert": PackedFamily(heads.modernbert, reads_first=True),
    "modernbert-decoder": PackedFamily(heads.modernbert_decoder),
    "eurobert": PackedFamily(heads.eurobert),
    "gpt2": _DECODER,
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
}
"""`model_type` of a configuration to how it runs packed; each has its twin test."""

OWN_ATTENTION = ("deberta", "xlnet", "t5", "mt5", "umt5")
"""Families known to compute attention themselves, with position terms that no registered function sees."""
