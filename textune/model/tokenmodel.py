"""What prediction asks of a model, whatever computes it: the side of `TextModel` and of exports that `Scorer` sees."""

from __future__ import annotations

from typing import Protocol

import torch

from textune.batches import Layout, Padding, Tokens


class TokenModel(Protocol):
    """A model from a batch of tokens to its outputs."""

    @property
    def layout(self) -> Layout:
        """How batches must be laid out."""

    @property
    def pad_id(self) -> int:
        """Fills the padding of batches."""

    @property
    def padding(self) -> Padding:
        """How long padded rows are."""

    @property
    def pooling(self) -> object | None:
        """What pools the windows of an example; None where every example is one row."""

    @property
    def training(self) -> bool:
        """Whether it computes as in training, with dropout."""

    def group_cost(self, dtype: torch.dtype) -> int:
        """What a group of rows costs, in tokens, where products are of `dtype`."""

    def train(self, mode: bool = True) -> object:
        """Compute as in training from now on."""

    def eval(self) -> object:
        """Compute as in prediction from now on."""

    def __call__(self, batch: Tokens) -> torch.Tensor:
        """Outputs float32 [B, C] of a batch, in the order of its rows."""
