"""What a model gives out, from the hidden states of its backbone: a classifier logits, a language model how unlikely
it finds each row; held by `backbone.py`.

Shapes: B rows, T tokens laid out, L tokens of the longest row, H hidden, C outputs, N scored tokens.
"""

from __future__ import annotations

import inspect
from typing import Protocol

import torch

from textune.batches import Group, TokenBatch
from textune.model.attention import PackedLayout
from textune.model.families import PACKED_FAMILIES, packing_obstacle
from textune.model.heads import PADDED_HEADS, unsplit_head
from textune.model.hugging import Forward, HuggingModel, Options
from textune.model.nats import COPIES, nats_of, piece_tokens
from textune.model.projections import PROJECTIONS, projection_of


class Face(Protocol):
    """The side of a model that its task sees."""

    name: str
    """What messages call it."""

    def packing_obstacle(self) -> str:
        """Why it cannot run packed; empty where it can."""

    def pooling_obstacle(self) -> str:
        """Why windows cannot be pooled between `read` and `outputs` in packed batches; empty where they can."""

    def reads_only_first(self) -> bool:
        """Whether only the first token of each row of the last layer is read."""

    def read(
        self, hidden_TH: torch.Tensor, ids_T: torch.Tensor, batch: TokenBatch, layout: PackedLayout
    ) -> torch.Tensor:
        """What is read of each row of a packed batch, [B, H]; `ids_T` are those that the backbone was given."""

    def outputs(self, read_BH: torch.Tensor) -> torch.Tensor:
        """Outputs [B, C] of what was read."""

    def of_padded(self, tensors: dict[str, torch.Tensor], batch: TokenBatch) -> torch.Tensor:
        """Outputs [B, C] of a padded batch, from what `TextModel.padded_inputs` gave of it."""

    def vocabulary_obstacle(self) -> str:
        """Why it needs the embeddings of tokens that never occur; empty where it does not."""

    def working_bytes(self) -> int:
        """Memory that a pass takes beside what grows with its tokens."""


class ClassifierFace:
    """Logits, by Hugging Face's own head."""

    name = "classifier"

    def __init__(self, hf: HuggingModel, accepted: frozenset[str]) -> None:
        """`accepted` are the arguments of the model's forward."""
        self._hf = hf
        self._options: Options = {"use_cache": False} if "use_cache" in accepted else {}

    def packing_obstacle(self) -> str:
        """As of its family."""
        return packing_obstacle(self._hf)

    def pooling_obstacle(self) -> str:
        """Some heads read every token."""
        return unsplit_head(self._hf)

    def reads_only_first(self) -> bool:
        """As its family does."""
        return PACKED_FAMILIES[self._hf.config.model_type].reads_only_first(self._hf)

    def read(
        self, hidden_TH: torch.Tensor, ids_T: torch.Tensor, batch: TokenBatch, layout: PackedLayout
    ) -> torch.Tensor:
        """The row's vector."""
        return PACKED_FAMILIES[self._hf.config.model_type].head.read(self._hf, hidden_TH, ids_T, layout)

    def outputs(self, read_BH: torch.Tensor) -> torch.Tensor:
        """Logits of vectors."""
        return PACKED_FAMILIES[self._hf.config.model_type].head.outputs(self._hf, read_BH)

    def of_padded(self, tensors: dict[str, torch.Tensor], batch: TokenBatch) -> torch.Tensor:
        """Logits."""
        return self.logits(tensors)

    def logits(self, tensors: dict[str, torch.Tensor], forward: Forward | None = None) -> torch.Tensor:
        """Logits [B, C] of padded tensors [B, L] alone; `forward` is that of the model where its own was replaced."""
        if (head := PADDED_HEADS.get(self._hf.config.model_type)) is not None:
            return head(self._hf, tensors)
        logits_BC: torch.Tensor = (forward or self._hf)(**tensors, **self._options).logits
        return logits_BC

    def vocabulary_obstacle(self) -> str:
        """Its head knows no tokens."""
        return ""

    def working_bytes(self) -> int:
        """Logits of rows are few."""
        return 0


class LanguageFace:
    """Minus the log-likelihood of the scored tokens of each row, in nats: of those with mask 0, without the first,
    which nothing predicts."""

    name = "language model"

    def __init__(self, hf: HuggingModel) -> None:
        self._hf = hf
        self._projection = projection_of(hf.config.model_type)
        self._form = self._projection.form(hf.config)
        accepted = inspect.signature(hf.base_model.forward).parameters
        self._options: Options = {"use_cache": False} if "use_cache" in accepted else {}

    def packing_obstacle(self) -> str:
        """Encoders that transformers makes decoders of run padded, as it computes them."""
        family = self._hf.config.model_type
        known = family in PROJECTIONS
        return packing_obstacle(self._hf) or ("" if known else f"textune knows no packed language model of {family}")

    def pooling_obstacle(self) -> str:
        """There is nothing to pool."""
        return "a language model scores every token"

    def reads_only_first(self) -> bool:
        """Every token is read."""
        return False

    def read(
        self, hidden_TH: torch.Tensor, ids_T: torch.Tensor, batch: TokenBatch, layout: PackedLayout
    ) -> torch.Tensor:
        """float32 [B, 1]: the nats of each row."""
        return self._nats(hidden_TH, ids_T, batch)

    def outputs(self, read_BH: torch.Tensor) -> torch.Tensor:
        """What was read."""
        return read_BH

    def of_padded(self, tensors: dict[str, torch.Tensor], batch: TokenBatch) -> torch.Tensor:
        """float32 [B, 1], from the hidden states of Hugging Face's own padded forward."""
        hidden_BLH: torch.Tensor = self._hf.base_model(**tensors, **self._options)[0]
        return self._nats(hidden_BLH.flatten(0, 1), tensors["input_ids"].flatten(), batch)

    def _nats(self, hidden_TH: torch.Tensor, ids_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        places_N = scored_tokens(batch).nonzero().squeeze(1)
        states_NH = self._projection.before(self._hf, hidden_TH.index_select(0, places_N - 1))
        output = self._hf.get_output_embeddings()
        at_once = piece_tokens(self._num_words, states_NH.device)
        nats_N = nats_of(output, states_NH, ids_T.index_select(0, places_N), self._form, at_once=at_once)
        nats_T = nats_N.new_zeros(len(batch.ids_T)).index_copy(0, places_N, nats_N)
        return torch.cat([piece_nL.sum(1) for piece_nL in _by_group(nats_T, batch.groups)]).unsqueeze(1)

    def vocabulary_obstacle(self) -> str:
        """Every token may come next."""
        return "a language model predicts every token of its vocabulary"

    @property
    def _num_words(self) -> int:
        return len(self._hf.get_input_embeddings().weight)

    def working_bytes(self) -> int:
        """The logits of a piece in several forms, and the output embedding and its gradient in the precision of
        products."""
        weight = self._hf.get_input_embeddings().weight
        of_logits = COPIES * torch.float32.itemsize * self._num_words * piece_tokens(self._num_words, weight.device)
        return of_logits + 2 * int(weight.nbytes)


def scored_tokens(batch: TokenBatch) -> torch.Tensor:
    """bool [T]: the tokens that a language model is scored on; all but the first of each row where there is no
    mask."""
    firsts, first = [], 0
    for group in batch.groups:
        lengths_n = batch.lengths_B[first : first + group.rows]
        steps_L = torch.arange(group.length, device=lengths_n.device)
        firsts.append(((steps_L > 0) & (steps_L < lengths_n.unsqueeze(1))).flatten())
        first += group.rows
    scored_T = torch.cat(firsts)
    mask_T = batch.columns.get("mask")
    return scored_T if mask_T is None else scored_T & (mask_T == 0)


def _by_group(tensor_T: torch.Tensor, groups: tuple[Group, ...]) -> list[torch.Tensor]:
    """The tokens of each group, [n, L]."""
    pieces = tensor_T.split([group.rows * group.length for group in groups])
    return [piece.view(group.rows, group.length) for piece, group in zip(pieces, groups, strict=True)]
