"""From hidden states to logits, through Hugging Face's own heads; the models in `backbone.py` read these tables.

A head looks at one place of each row: its first token, its last one, or the mean. Over packed rows that place is gathered here
and the head's own modules do the rest, so that the saved folder computes the same in plain transformers.

Shapes: B rows, T packed tokens, n rows of L tokens in a group, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from textune.model.attention import PackedLayout

Pool = Callable[[Any, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, hidden [T, H], ids [T], layout) to logits [B, C]."""

Positions = Callable[[Any, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, ids [T], positions from 0 [T], layout) to the positions that the backbone expects [T]."""


# --- reading a packed batch -------------------------------------------------------------------------------------------


def _first_token(hidden_TH: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """[B, 1, H]: heads that take a sequence read its position 0."""
    return hidden_TH.index_select(0, layout.starts_B).unsqueeze(1)


def _bert(hf: Any, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(hf.dropout(hf.base_model.pooler(_first_token(hidden_TH, layout))))
    return logits


def _roberta(hf: Any, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(_first_token(hidden_TH, layout))
    return logits


def _albert(hf: Any, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    pooled_BH = hf.albert.pooler_activation(hf.albert.pooler(_first_token(hidden_TH, layout)[:, 0]))
    logits: torch.Tensor = hf.classifier(hf.dropout(pooled_BH))
    return logits


def _distilbert(hf: Any, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    pooled_BH = functional.relu(hf.pre_classifier(_first_token(hidden_TH, layout)[:, 0]))
    logits: torch.Tensor = hf.classifier(hf.dropout(pooled_BH))
    return logits


def _modernbert(hf: Any, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    if hf.config.classifier_pooling == "mean":
        pieces = layout.split(hidden_TH)
        sums = [
            (piece.view(*layout.groups[index], -1) * layout.real(index).unsqueeze(-1)).sum(1)
            for index, piece in enumerate(pieces)
        ]
        pooled_BH = torch.cat(sums) / layout.lengths_B.unsqueeze(1)
    else:
        pooled_BH = _first_token(hidden_TH, layout)[:, 0]
    logits: torch.Tensor = hf.classifier(hf.drop(hf.head(pooled_BH)))
    return logits


def _decoder(hf: Any, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The last token that is not the pad token, as transformers itself chooses it.

    Where the pad token is a real one (eos, for tokenizers without a pad token) and a text ends in it, that is an earlier token
    than the last. Any other rule would give other logits than the saved model does in plain transformers.
    """
    pad_id = hf.config.get_text_config().pad_token_id
    rows_T = layout.rows_T
    steps_T = torch.arange(len(rows_T), device=ids_T.device) - layout.starts_B[rows_T]
    counts_T = (ids_T[: len(rows_T)] != pad_id) & (steps_T < layout.lengths_B[rows_T])
    lasts_B = torch.zeros_like(layout.starts_B).scatter_reduce(0, rows_T, steps_T * counts_T, "amax")
    logits: torch.Tensor = hf.score(hidden_TH.index_select(0, layout.starts_B + lasts_B))
    return logits


def _from_zero(_hf: Any, _ids_T: torch.Tensor, positions_T: torch.Tensor, _layout: PackedLayout) -> torch.Tensor:
    return positions_T


def _after_padding(hf: Any, ids_T: torch.Tensor, _positions_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """RoBERTa's positions: from pad id + 1; a pad token, even one that a text spells out, gets pad id and is not counted."""
    pad_id = hf.config.pad_token_id
    counts_T = (ids_T != pad_id).long()
    before_T = counts_T.cumsum(0) - counts_T
    in_rows = len(layout.rows_T)
    # Counted from the row's start; filler behind the last row stays at pad id.
    steps_T = (before_T[:in_rows] - before_T[layout.starts_B][layout.rows_T] + 1) * counts_T[:in_rows]
    positions_T: torch.Tensor = functional.pad(steps_T, (0, len(ids_T) - in_rows)) + pad_id
    return positions_T


@dataclass(frozen=True)
class PackedFamily:
    """How a family that runs packed counts positions and reads its hidden states."""

    pool: Pool
    positions: Positions = _from_zero
    reads_first: bool = False
    """The head reads the first token of each row, and nothing else."""


PACKED_FAMILIES: dict[str, PackedFamily] = {
    "bert": PackedFamily(_bert, reads_first=True),
    "ernie": PackedFamily(_bert, reads_first=True),
    "electra": PackedFamily(_roberta, reads_first=True),
    "roberta": PackedFamily(_roberta, _after_padding, reads_first=True),
    "xlm-roberta": PackedFamily(_roberta, _after_padding, reads_first=True),
    "camembert": PackedFamily(_roberta, _after_padding, reads_first=True),
    "albert": PackedFamily(_albert, reads_first=True),
    "distilbert": PackedFamily(_distilbert, reads_first=True),
    "modernbert": PackedFamily(_modernbert),
    "gpt2": PackedFamily(_decoder),
    "llama": PackedFamily(_decoder),
    "mistral": PackedFamily(_decoder),
    "qwen2": PackedFamily(_decoder),
    "qwen3": PackedFamily(_decoder),
    "gemma": PackedFamily(_decoder),
    "gemma2": PackedFamily(_decoder),
    "gemma3_text": PackedFamily(_decoder),
}
"""`model_type` of a configuration to how it runs packed; each has its twin test."""

OWN_ATTENTION = ("deberta", "deberta-v2", "mpnet", "xlnet", "t5", "mt5", "umt5")
"""Families known to compute attention themselves, with position terms that no registered function sees."""


# --- reading a padded batch -------------------------------------------------------------------------------------------


def _t5(hf: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    shifted_BL = hf._shift_right(inputs["input_ids"])
    hidden_BLH = hf.base_model(**inputs, decoder_input_ids=shifted_BL, use_cache=False)[0]
    return _at_last_eos(hf, hidden_BLH, inputs)


def _bart(hf: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return _at_last_eos(hf, hf.base_model(**inputs, use_cache=False)[0], inputs)


def _at_last_eos(hf: Any, hidden_BLH: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits from the state at each row's last eos token (its last token, where it has none).

    Their own forward does the same, but refuses a batch whose rows differ in the number of eos tokens.
    """
    ids_BL, real_BL = inputs["input_ids"], inputs["attention_mask"].bool()
    steps = torch.arange(ids_BL.shape[1], device=ids_BL.device)
    is_eos_BL = (ids_BL == hf.config.eos_token_id) & real_BL
    reads_BL = torch.where(is_eos_BL.any(1, keepdim=True), is_eos_BL, real_BL)
    last_B = (reads_BL * steps).argmax(1)
    rows_B = torch.arange(len(ids_BL), device=ids_BL.device)
    logits: torch.Tensor = hf.classification_head(hidden_BLH[rows_B, last_B])
    return logits


PADDED_HEADS: dict[str, Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]] = {
    "t5": _t5,
    "mt5": _t5,
    "umt5": _t5,
    "bart": _bart,
    "mbart": _bart,
}
"""Families whose own forward does not take every batch; (model, inputs) to logits [B, C]. All others: their own forward."""


def reads_last_position(config: Any) -> bool:
    """Whether the head reads position L - 1 wherever the text ends: padding must stand before the text (XLNet)."""
    return getattr(config, "summary_type", None) == "last"
