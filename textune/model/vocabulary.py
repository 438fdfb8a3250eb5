"""Trains only the embeddings of tokens that occur in a run's data; enabled by `TextModel.compact_vocabulary`.

A token that never occurs gets no gradient. An element-wise update rule then leaves its row unchanged or multiplies it
by a factor that is the same for all such rows (decoupled weight decay). So only the rows of tokens that occur need
gradients and moments; the others are put back, decayed, when the model is saved.

Shapes: V token ids, K kept ids, H numbers per embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from textune.config import Switch
from textune.errors import ConfigError
from textune.model.hugging import FamilyModule, HuggingModel
from textune.model.own import class_name

WORTH_BELOW = 0.8
"""`auto` keeps the full table if more than this share of it occurs."""

CHUNK_IDS = 1 << 22
"""Token ids read at a time, so that a memory-mapped store is never in memory as a whole."""


def compact_vocabulary(
    hf: HuggingModel,
    token_ids: Iterable[np.ndarray],
    *,
    always: Iterable[int],
    mode: Switch,
    rule_obstacle: str,
) -> tuple[CompactVocabulary | None, str]:
    """Compact the word embedding of the Hugging Face model `hf`, which is on the CPU, according to
    `train.compact_vocabulary`.

    `token_ids` are flat arrays [tokens] of all tokens that the model will see, `always` further ids, `rule_obstacle`
    why the update rule needs the whole table (empty: it does not). Returns the compact vocabulary (None if the full
    table is trained) and a sentence about the choice. ConfigError if `mode` is "on" and training only those rows would
    not be exact.
    """
    if mode == "off":
        return None, 'full table: train.compact_vocabulary = "off"'
    obstacle = rule_obstacle or _obstacle(hf)
    if obstacle and mode == "on":
        raise ConfigError(
            f'train.compact_vocabulary = "on", but {obstacle}.', hint='Use "auto", which then trains the whole table.'
        )
    if obstacle:
        return None, f"full table: {obstacle}"
    num_ids = hf.get_input_embeddings().num_embeddings
    kept_K = occurring_ids(token_ids, {*always, *_special_ids(hf)}, num_ids=num_ids)
    if mode == "auto" and len(kept_K) > WORTH_BELOW * num_ids:
        return None, f"full table: {len(kept_K):,} of {num_ids:,} token embeddings occur in the data"
    fact = f"{len(kept_K):,} of {num_ids:,} token embeddings trained: the others do not occur in the data"
    return CompactVocabulary(hf, kept_K), fact


def occurring_ids(token_ids: Iterable[np.ndarray], always: Iterable[int], *, num_ids: int) -> np.ndarray:
    """The ids below `num_ids` that occur in the arrays [tokens] or in `always`: int64 [K], ascending."""
    seen_V = np.zeros(num_ids, dtype=bool)
    for ids in token_ids:
        for start in range(0, len(ids), CHUNK_IDS):
            chunk = ids[start : start + CHUNK_IDS]
            seen_V[chunk[chunk < num_ids]] = True
    seen_V[[index for index in always if 0 <= index < num_ids]] = True
    return np.flatnonzero(seen_V)


class CompactEmbedding(nn.Module):
    """Replaces a word embedding: the same ids in, the same vectors out, from fewer rows.

    It has no `weight`, so that code that indexes rows by full ids fails instead of reading wrong rows.
    """

    place_V: torch.Tensor

    def __init__(self, rows: FamilyModule, place_V: torch.Tensor) -> None:
        """`rows` holds the kept embeddings, `place_V` the row of each id; the number of rows means that
        it has none.
        """
        super().__init__()
        self.rows = rows
        self.register_buffer("place_V", place_V, persistent=False)
        self.train(rows.training)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [..., H] of full ids [...]; RuntimeError for an id that has no row here."""
        places = self.place_V.index_select(0, input_ids.reshape(-1)).view(input_ids.shape)
        # Training reads only rows whose ids were collected, and must not wait for the GPU.
        if not self.training and bool((places >= self.rows.num_embeddings).any()):
            raise RuntimeError(
                "this model is in training and has only the token embeddings of its run's data; for other texts, use"
                " the saved"
                " model (textune.load)"
            )
        embeddings: torch.Tensor = self.rows(places)
        return embeddings


class CompactVocabulary:
    """The word embedding of `hf`, reduced to the rows `kept_K` and one more, the witness; the full table when it is
    saved.

    The witness is a row that belongs to no id, so it gets no gradient either: whatever the optimizer does to it
    (decay at each step's rate, nothing in a step that the scaler skips), it would have done to the rows left out. As
    a row of the parameter it is part of every checkpoint. The rows left out are copied, so that the full table can be
    freed.
    """

    def __init__(self, hf: HuggingModel, kept_K: np.ndarray) -> None:
        table = hf.get_input_embeddings().weight
        table_VH = table.detach()
        self._kept_K = torch.from_numpy(kept_K)
        self._paths: list[str] = []
        num_ids, num_kept = len(table), len(kept_K)
        self._shape = table.shape
        self._left_out = torch.ones(num_ids, dtype=torch.bool).index_fill_(0, self._kept_K, 0).nonzero().squeeze(1)
        self._left_out_rows = table_VH[self._left_out]
        self.fingerprint = _hash(kept_K, table_VH.numpy())
        """Hash of the full table as it was read, and of the ids that are trained."""
        place_V = torch.full((num_ids,), num_kept + 1)
        place_V[self._kept_K] = torch.arange(num_kept)
        weight = nn.Parameter(torch.cat([table_VH[self._kept_K], _witness(table.shape[1]).unsqueeze(0)]))
        made: dict[FamilyModule, CompactEmbedding] = {}
        for path, module in list(hf.named_modules(remove_duplicate=False)):
            if getattr(module, "weight", None) is not table and module not in made:
                continue
            if module not in made:
                module.weight, module.num_embeddings = weight, num_kept + 1
                if module.padding_idx is not None:
                    module.padding_idx = int(place_V[module.padding_idx])
                made[module] = CompactEmbedding(module, place_V)
            parent, _, name = path.rpartition(".")
            setattr(hf.get_submodule(parent), name, made[module])
            self._paths.append(path)

    @property
    def kept_ids(self) -> torch.Tensor:
        """The ids that have a row, int64 [K], ascending."""
        return self._kept_K

    @property
    def num_left_out(self) -> int:
        """How many more parameters the full model has than the compact one; the witness is not part of the model."""
        return self._left_out_rows.numel() - self._shape[1]

    def restored(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The state of `hf` with the full table, float32 [V, H] on the CPU, for the compact one."""
        restored = dict(state)
        compact = [restored.pop(f"{path}.rows.weight") for path in self._paths]
        rows_KH, witness_H = compact[0][:-1].cpu(), compact[0][-1].cpu()
        # Rounding differs from number to number at every step; the mean over many is the factor.
        factor = float((witness_H.double() / _witness(len(witness_H)).double()).mean())
        table_VH = torch.zeros(self._shape).index_copy_(0, self._left_out, self._left_out_rows).mul_(factor)
        table_VH[self._kept_K] = rows_KH
        return restored | {f"{path}.weight": table_VH for path in self._paths}


def _witness(width: int) -> torch.Tensor:
    """Numbers from 1 to 2, float32 [H], spread evenly over the possible mantissas of a weight."""
    return torch.exp2(torch.arange(width, dtype=torch.float64) / width).float()


def _hash(kept_K: np.ndarray, table_VH: np.ndarray) -> str:
    digest = hashlib.blake2b(kept_K.tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(table_VH).data)
    return digest.hexdigest()


def _obstacle(hf: HuggingModel) -> str:
    """Why training only some rows would not be exact or not useful; empty if it is both."""
    embedding = hf.get_input_embeddings()
    if not type(hf).__module__.startswith("transformers."):
        return f"{class_name(hf)} is code of its own and may use the embeddings elsewhere"
    if not _looks_rows_up(embedding):
        return f"{type(embedding).__name__} is not a plain table of embeddings"
    if not embedding.weight.requires_grad:
        return "the token embeddings are frozen"
    users = _other_users(hf)
    return f"{users[0]} uses the token embeddings too" if users else ""


def reads_rows_alone(hf: HuggingModel) -> bool:
    """Whether the token embeddings are a plain table, and every module that has it looks rows up."""
    is_known = type(hf).__module__.startswith("transformers.")
    return is_known and _looks_rows_up(hf.get_input_embeddings()) and not _other_users(hf)


def _other_users(hf: HuggingModel) -> list[str]:
    """The modules, by name, that do something else with the token embeddings than look rows up."""
    table, modules = hf.get_input_embeddings().weight, dict(hf.named_modules(remove_duplicate=False))
    users = [name.rpartition(".")[0] for name, p in hf.named_parameters(remove_duplicate=False) if p is table]
    return [path for path in users if not _looks_rows_up(modules[path])]


def _looks_rows_up(module: FamilyModule) -> bool:
    """Whether this is a table of rows, plain or times a constant (Gemma, BART and others, by transformers' class
    names).
    """
    return type(module) is nn.Embedding or (
        isinstance(module, nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding")
    )


def _special_ids(hf: HuggingModel) -> set[int]:
    """Ids that a backbone itself looks up: padding, the start of a decoder, the padding row of its table."""
    ids: set[int] = set()
    for config in (hf.config, hf.config.get_text_config()):
        for key, value in config.to_dict().items():
            if key.endswith("_token_id"):
                ids.update(value if isinstance(value, list) else [] if value is None else [value])
    padding_row = hf.get_input_embeddings().padding_idx
    return ids if padding_row is None else ids | {padding_row}
