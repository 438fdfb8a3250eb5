"""The distances between tokens, as DeBERTa-v2 and v3 use them; before `disentangled.py` and `native/`.

Shapes: H hidden, h heads of d, D distances, P rows of the table.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from textune.model.hugging import FamilyModule


@dataclass(frozen=True)
class Distances:
    """The distances j - i within rows of up to `reach + 1` tokens: -reach to reach, D in all."""

    reach: int
    first: int
    """The first row of the table of embeddings that they use."""
    end: int
    """The row after the last that they use."""
    rows_D: np.ndarray
    """int64 [D]: the row of each distance, counted from `first`."""

    @property
    def num_rows(self) -> int:
        """P."""
        return self.end - self.first


@functools.lru_cache(maxsize=1024)
def count_distances(length: int, buckets: int, limit: int, span: int) -> Distances:
    """The distances in rows of `length` tokens, for a table of 2 * `span` rows; `buckets` and `limit` as in
    transformers.

    Both terms use the same row: c2p looks up bucket(i - j), p2c -bucket(j - i), and buckets are symmetric.
    """
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    # The table counts in the opposite direction: from key to query.
    back_D = torch.arange(length - 1, -length, -1)
    bucket_D = make_log_bucket_position(back_D, buckets, limit) if buckets > 0 and limit > 0 else back_D
    rows_D = (bucket_D.long() + span).clamp(0, 2 * span - 1).numpy()
    first, end = int(rows_D.min()), int(rows_D.max()) + 1
    return Distances(length - 1, first, end, rows_D - first)


def count_terms(attention: FamilyModule) -> int:
    """The number of terms in a score, counted as transformers does: by the names in the configuration."""
    return 1 + ("c2p" in attention.pos_att_type) + ("p2c" in attention.pos_att_type)


def terms_of_distances(
    attention: FamilyModule, table_PH: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Keys (c2p) and queries (p2c) [P, h, d] of the table's rows in one layer; None for a missing term."""
    if not attention.relative_attention or table_PH is None:
        return None, None
    names = ("key_proj", "query_proj") if attention.share_att_key else ("pos_key_proj", "pos_query_proj")
    wanted = [name for name, term in zip(names, ("c2p", "p2c"), strict=True) if term in attention.pos_att_type]
    dropped_PH = attention.pos_dropout(table_PH) if wanted else table_PH
    key, query = (
        _project(getattr(attention, name), dropped_PH, attention) if name in wanted else None for name in names
    )
    return key, query


def _project(projection: nn.Module, table_PH: torch.Tensor, attention: FamilyModule) -> torch.Tensor:
    projected_Phd: torch.Tensor = projection(table_PH).unflatten(1, (attention.num_attention_heads, -1))
    return projected_Phd
