"""From hidden states to logits, through Hugging Face's own heads; `families.py` lists the head of each family.

A head reads the first token of each row, its last one, or the mean. For packed rows, that state is gathered here and
passed through the head's own modules, so that the saved folder computes the same in plain transformers.

Shapes: B rows, T packed tokens, n rows of L tokens in a group, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from textune.model.attention import PackedLayout
from textune.model.hugging import HuggingConfig, HuggingModel

Pool = Callable[[HuggingModel, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, hidden [T, H], ids [T], layout) to logits [B, C]."""


# --- reading a packed batch ------------------------------------------------------------------------------------------


def _first_token(hidden_TH: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """[B, 1, H]: for heads that take a sequence and read its position 0."""
    return hidden_TH.index_select(0, layout.starts_B).unsqueeze(1)


def _mean(hidden_TX: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """[B, X]: the mean over each row's tokens."""
    sums = [
        (piece.view(*layout.groups[index], -1) * layout.real(index).unsqueeze(-1)).sum(1)
        for index, piece in enumerate(layout.split(hidden_TX))
    ]
    return torch.cat(sums) / layout.lengths_B.unsqueeze(1)


def _last_token(hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """[B, H]: the last token that is not the pad token, as transformers chooses it.

    If the pad token is a real one (eos, for tokenizers without a pad token) and a text ends in it, this is not the
    last token of the text. Any other rule would give other logits than the saved model in plain transformers.
    """
    pad_id = hf.config.get_text_config().pad_token_id
    rows_T = layout.rows_T
    steps_T = torch.arange(len(rows_T), device=ids_T.device) - layout.starts_B[rows_T]
    counts_T = (ids_T[: len(rows_T)] != pad_id) & (steps_T < layout.lengths_B[rows_T])
    lasts_B = torch.zeros_like(layout.starts_B).scatter_reduce(0, rows_T, steps_T * counts_T, "amax")
    return hidden_TH.index_select(0, layout.starts_B + lasts_B)


def pooler_of_first(
    hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """BERT: the backbone's pooler reads the first token."""
    logits: torch.Tensor = hf.classifier(hf.dropout(hf.base_model.pooler(_first_token(hidden_TH, layout))))
    return logits


def head_of_first(
    hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """RoBERTa: the head as a whole reads position 0 of a sequence."""
    logits: torch.Tensor = hf.classifier(_first_token(hidden_TH, layout))
    return logits


def deberta(hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The first token through a pooler that belongs to the head."""
    logits: torch.Tensor = hf.classifier(hf.dropout(hf.pooler(_first_token(hidden_TH, layout))))
    return logits


def albert(hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The first token through the backbone's pooler, whose activation is a separate module."""
    pooled_BH = hf.albert.pooler_activation(hf.albert.pooler(_first_token(hidden_TH, layout)[:, 0]))
    logits: torch.Tensor = hf.classifier(hf.dropout(pooled_BH))
    return logits


def distilbert(hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The first token through an additional layer of the head."""
    pooled_BH = functional.relu(hf.pre_classifier(_first_token(hidden_TH, layout)[:, 0]))
    logits: torch.Tensor = hf.classifier(hf.dropout(pooled_BH))
    return logits


def modernbert(hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The first token or the mean, depending on the configuration."""
    mean = hf.config.classifier_pooling == "mean"
    pooled_BH = _mean(hidden_TH, layout) if mean else _first_token(hidden_TH, layout)[:, 0]
    logits: torch.Tensor = hf.classifier(hf.drop(hf.head(pooled_BH)))
    return logits


def eurobert(hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The first token ("bos"), the mean of the states ("mean") or that of every token's logits ("late")."""

    def head(states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = hf.classifier(hf.activation(hf.dense(states)))
        return logits

    if hf.classifier_pooling == "late":
        return _mean(head(hidden_TH), layout)
    return head(_mean(hidden_TH, layout) if hf.classifier_pooling == "mean" else _first_token(hidden_TH, layout)[:, 0])


def score_of_last(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """Decoders: a linear layer reads the last token."""
    logits: torch.Tensor = hf.score(_last_token(hf, hidden_TH, ids_T, layout))
    return logits


def classifier_of_last(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """CTRL: the same under another name."""
    logits: torch.Tensor = hf.classifier(_last_token(hf, hidden_TH, ids_T, layout))
    return logits


def head_of_last_eos(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """T5: the last eos token of each row, or its last token if it has none, as `_at_last_eos` below."""
    rows_T = layout.rows_T
    steps_T = torch.arange(len(rows_T), device=ids_T.device) - layout.starts_B[rows_T]
    is_eos_T = (ids_T[: len(rows_T)] == hf.config.eos_token_id) & (steps_T < layout.lengths_B[rows_T])
    behind_B = torch.zeros_like(layout.starts_B).scatter_reduce(0, rows_T, (steps_T + 1) * is_eos_T, "amax")
    lasts_B = torch.where(behind_B > 0, behind_B, layout.lengths_B) - 1
    logits: torch.Tensor = hf.classification_head(hidden_TH.index_select(0, layout.starts_B + lasts_B))
    return logits


def modernbert_decoder(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """The last token, through the head of a language model."""
    logits: torch.Tensor = hf.classifier(hf.drop(hf.head(_last_token(hf, hidden_TH, ids_T, layout))))
    return logits


# --- reading a padded batch ------------------------------------------------------------------------------------------


def _t5(hf: HuggingModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    shifted_BL = hf._shift_right(inputs["input_ids"])
    hidden_BLH = hf.base_model(**inputs, decoder_input_ids=shifted_BL, use_cache=False)[0]
    return _at_last_eos(hf, hidden_BLH, inputs)


def _bart(hf: HuggingModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return _at_last_eos(hf, hf.base_model(**inputs, use_cache=False)[0], inputs)


def _at_last_eos(hf: HuggingModel, hidden_BLH: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits from the state at each row's last eos token (its last token if it has none).

    The models' own forward does the same, but refuses a batch whose rows differ in the number of eos tokens.
    """
    ids_BL, real_BL = inputs["input_ids"], inputs["attention_mask"].bool()
    steps = torch.arange(ids_BL.shape[1], device=ids_BL.device)
    is_eos_BL = (ids_BL == hf.config.eos_token_id) & real_BL
    reads_BL = torch.where(is_eos_BL.any(1, keepdim=True), is_eos_BL, real_BL)
    last_B = (reads_BL * steps).argmax(1)
    rows_B = torch.arange(len(ids_BL), device=ids_BL.device)
    logits: torch.Tensor = hf.classification_head(hidden_BLH[rows_B, last_B])
    return logits


PADDED_HEADS: dict[str, Callable[[HuggingModel, dict[str, torch.Tensor]], torch.Tensor]] = {
    "t5": _t5,
    "mt5": _t5,
    "umt5": _t5,
    "bart": _bart,
    "mbart": _bart,
}
"""Families whose own forward does not accept every batch: (model, inputs) to logits [B, C]. Others use their own
forward."""


def reads_last_position(config: HuggingConfig) -> bool:
    """Whether the head reads position L - 1 wherever the text ends, so that padding must precede the text (XLNet)."""
    return getattr(config, "summary_type", None) == "last"
