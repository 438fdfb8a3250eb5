"""From hidden states to logits, through Hugging Face's own heads; `families.py` lists the head of each family.

A head reads the first token of each row, its last one, or the mean. For packed rows, that state is gathered here (the
row's vector) and passed through the head's own modules, so that the saved folder computes the same in plain
transformers.

Shapes: B rows, T packed tokens, n rows of L tokens in a group, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from textune.batches import TokenBatch
from textune.model.attention import PackedLayout
from textune.model.hugging import HuggingConfig, HuggingModel

Read = Callable[[HuggingModel, torch.Tensor, torch.Tensor, PackedLayout], torch.Tensor]
"""(Hugging Face model, hidden [T, H], ids [T], layout) to the vector of each row, [B, H]."""
Outputs = Callable[[HuggingModel, torch.Tensor], torch.Tensor]
"""(Hugging Face model, vectors [B, H]) to logits [B, C]."""


class PackedHead(NamedTuple):
    """A head in two halves: which state of a row it reads, and what it makes of that."""

    read: Read
    outputs: Outputs


# --- reading a packed batch: a vector for each row -------------------------------------------------------------------


def _first_token(
    _hf: HuggingModel, hidden_TH: torch.Tensor, _ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    return hidden_TH.index_select(0, layout.starts_B)


def _mean(hidden_TX: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """[B, X]: the mean over each row's tokens."""
    sums = [
        (piece.view(*layout.groups[index], -1) * layout.real(index).unsqueeze(-1)).sum(1)
        for index, piece in enumerate(layout.split(hidden_TX))
    ]
    return torch.cat(sums) / layout.lengths_B.unsqueeze(1)


def _last_token(hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The last token that is not the pad token, as transformers chooses it.

    If the pad token is a real one (eos, for tokenizers without a pad token) and a text ends in it, this is not the
    last token of the text. Any other rule would give other logits than the saved model in plain transformers.
    """
    pad_id = hf.config.get_text_config().pad_token_id
    rows_T = layout.rows_T
    steps_T = torch.arange(len(rows_T), device=ids_T.device) - layout.starts_B[rows_T]
    counts_T = (ids_T[: len(rows_T)] != pad_id) & (steps_T < layout.lengths_B[rows_T])
    lasts_B = torch.zeros_like(layout.starts_B).scatter_reduce(0, rows_T, steps_T * counts_T, "amax")
    return hidden_TH.index_select(0, layout.starts_B + lasts_B)


def _last_eos(hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
    """The last eos token of each row, or its last token if it has none, as `_at_last_eos` below."""
    rows_T = layout.rows_T
    steps_T = torch.arange(len(rows_T), device=ids_T.device) - layout.starts_B[rows_T]
    is_eos_T = (ids_T[: len(rows_T)] == hf.config.eos_token_id) & (steps_T < layout.lengths_B[rows_T])
    behind_B = torch.zeros_like(layout.starts_B).scatter_reduce(0, rows_T, (steps_T + 1) * is_eos_T, "amax")
    lasts_B = torch.where(behind_B > 0, behind_B, layout.lengths_B) - 1
    return hidden_TH.index_select(0, layout.starts_B + lasts_B)


def _first_or_mean(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """The first token or the mean, depending on the configuration."""
    mean = hf.config.classifier_pooling == "mean"
    return _mean(hidden_TH, layout) if mean else _first_token(hf, hidden_TH, ids_T, layout)


def _eurobert_read(
    hf: HuggingModel, hidden_TH: torch.Tensor, ids_T: torch.Tensor, layout: PackedLayout
) -> torch.Tensor:
    """The first token ("bos"), the mean of the states ("mean") or that of every token's logits ("late")."""
    if hf.classifier_pooling == "late":
        return _mean(_eurobert_logits(hf, hidden_TH), layout)
    mean = hf.classifier_pooling == "mean"
    return _mean(hidden_TH, layout) if mean else _first_token(hf, hidden_TH, ids_T, layout)


# --- from the vectors to logits --------------------------------------------------------------------------------------


def _pooler_of_backbone(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(hf.dropout(hf.base_model.pooler(vectors_BH.unsqueeze(1))))
    return logits


def _whole_head(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    """The head is made for a sequence and reads its position 0."""
    logits: torch.Tensor = hf.classifier(vectors_BH.unsqueeze(1))
    return logits


def _pooler_of_head(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(hf.dropout(hf.pooler(vectors_BH.unsqueeze(1))))
    return logits


def _albert(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    """The backbone's pooler, whose activation is a separate module."""
    pooled_BH = hf.albert.pooler_activation(hf.albert.pooler(vectors_BH))
    logits: torch.Tensor = hf.classifier(hf.dropout(pooled_BH))
    return logits


def _distilbert(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    """An additional layer of the head."""
    logits: torch.Tensor = hf.classifier(hf.dropout(functional.relu(hf.pre_classifier(vectors_BH))))
    return logits


def _language_head(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    """The head of a language model before the classifier."""
    logits: torch.Tensor = hf.classifier(hf.drop(hf.head(vectors_BH)))
    return logits


def _eurobert_logits(hf: HuggingModel, states_XH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(hf.activation(hf.dense(states_XH)))
    return logits


def _eurobert(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    return vectors_BH if hf.classifier_pooling == "late" else _eurobert_logits(hf, vectors_BH)


def _score(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.score(vectors_BH)
    return logits


def _classifier(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.classifier(vectors_BH)
    return logits


def _classification_head(hf: HuggingModel, vectors_BH: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = hf.classification_head(vectors_BH)
    return logits


POOLER_OF_FIRST = PackedHead(_first_token, _pooler_of_backbone)
"""BERT."""
HEAD_OF_FIRST = PackedHead(_first_token, _whole_head)
"""RoBERTa."""
DEBERTA = PackedHead(_first_token, _pooler_of_head)
ALBERT = PackedHead(_first_token, _albert)
DISTILBERT = PackedHead(_first_token, _distilbert)
MODERNBERT = PackedHead(_first_or_mean, _language_head)
MODERNBERT_DECODER = PackedHead(_last_token, _language_head)
EUROBERT = PackedHead(_eurobert_read, _eurobert)
SCORE_OF_LAST = PackedHead(_last_token, _score)
"""Decoders."""
CLASSIFIER_OF_LAST = PackedHead(_last_token, _classifier)
"""CTRL."""
HEAD_OF_LAST_EOS = PackedHead(_last_eos, _classification_head)
"""T5."""


def unsplit_head(hf: HuggingModel) -> str:
    """Why the head of this model does not begin at one vector for each row; empty where it does."""
    late = getattr(hf, "classifier_pooling", "") == "late"
    return 'classifier_pooling = "late" takes the mean of the logits of all tokens' if late else ""


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
    reads_BL = is_eos_BL | (real_BL & ~is_eos_BL.any(1, keepdim=True))  # ONNX Runtime chooses no booleans
    last_B = (reads_BL * steps).argmax(1)
    rows_B = torch.arange(ids_BL.shape[0], device=ids_BL.device)  # `len` would fix the number in an exported graph
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


def _reads_last_position(config: HuggingConfig) -> bool:
    """Whether the head reads position L - 1 wherever the text ends, so that padding must precede the text (XLNet)."""
    return getattr(config, "summary_type", None) == "last"


def padded_tensors(
    config: HuggingConfig, batch: TokenBatch, ids_T: torch.Tensor, *, takes_types: bool
) -> dict[str, torch.Tensor]:
    """What a Hugging Face model reads of a padded batch, int64 [B, L] by the name that its forward gives it; `ids_T`
    are the ids of the batch, those without an embedding replaced."""
    assert len(batch.groups) == 1, f"a padded batch is one group, not {len(batch.groups)}"
    (group,) = batch.groups
    tensors = {"input_ids": ids_T.view(group)}
    if batch.types_T is not None and takes_types:
        tensors["token_type_ids"] = batch.types_T.view(group)
    steps_L = torch.arange(group.length, device=ids_T.device)
    tensors["attention_mask"] = (steps_L < batch.lengths_B.unsqueeze(1)).long()
    if _reads_last_position(config):
        # Padding moves from behind each row to its front.
        source_BL = (steps_L - (group.length - batch.lengths_B.unsqueeze(1))) % group.length
        tensors = {name: tensor.gather(1, source_BL) for name, tensor in tensors.items()}
    return tensors
