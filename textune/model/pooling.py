"""From the vectors of a text's windows to the one vector that the head reads; used by `backbone.py`.

Shapes: R windows, B examples, H hidden.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from textune.config import Pooling
from textune.errors import ModelError

POOLING_NAME = "pooling.safetensors"
"""The file beside a model's weights that holds what its pooling has learned."""

POOLING_PREFIX = "pooling."
"""What the names of its weights begin with, beside those of the Hugging Face model."""


def cannot_pool(name: str, reason: str) -> ModelError:
    """The error for a model, called `name`, whose head cannot be computed apart from its backbone."""
    return ModelError(
        f'tokens.long = "windows" pools what the head of {name} reads, but {reason}.',
        hint='Set tokens.long = "truncate", or choose a family that runs packed (docs/architecture.md).',
        key="tokens.long",
        value="windows",
        reason=reason,
    )


class WindowPooling(nn.Module):
    """Pools vectors of windows; the vector of a single window comes out as it went in, bit for bit."""

    def __init__(self, kind: Pooling, width: int) -> None:
        """`width`: H, which only learned attention needs to know."""
        super().__init__()
        self.kind = kind
        if kind == "attention":
            # Zero weighs all windows alike: training begins with the mean.
            self.query = nn.Parameter(torch.zeros(width))

    def forward(self, vectors_RH: torch.Tensor, places_R: torch.Tensor, counts_B: torch.Tensor) -> torch.Tensor:
        """[B, H] in the type of the vectors; `places_R` and `counts_B` are those of a `WindowedBatch`."""
        ordered_RH = vectors_RH.index_select(0, places_R).float()
        if self.kind == "attention":
            return self._attend(ordered_RH, counts_B).to(vectors_RH.dtype)
        return _reduce(ordered_RH, self.kind, counts_B).to(vectors_RH.dtype)

    def _attend(self, vectors_RH: torch.Tensor, counts_B: torch.Tensor) -> torch.Tensor:
        """The mean, weighted by the softmax of each window's product with the query."""
        num_windows, width = vectors_RH.shape
        scores_R = (vectors_RH * self.query).sum(1) * width**-0.5
        highest_B = _reduce(scores_R.detach(), "max", counts_B)
        weights_R = torch.exp(scores_R - highest_B.repeat_interleave(counts_B, output_size=num_windows))
        sums_BH = _reduce(weights_R.unsqueeze(1) * vectors_RH, "sum", counts_B)
        return sums_BH / _reduce(weights_R, "sum", counts_B).unsqueeze(1)

    def save(self, folder: Path, state: dict[str, torch.Tensor]) -> None:
        """Take what was learned out of `state`, that of a whole model, and write it into a model folder."""
        names = {name: name.removeprefix(POOLING_PREFIX) for name in state if name.startswith(POOLING_PREFIX)}
        if names:
            own = {short: state.pop(name).detach().cpu().contiguous() for name, short in names.items()}
            save_file(own, folder / POOLING_NAME)

    def read(self, folder: Path, *, required: bool) -> None:
        """Take over what a model folder holds; ModelError where that is damaged or of another width, or `required` and
        not there."""
        path = folder / POOLING_NAME
        own = self.state_dict()
        if not own or not (required or path.is_file()):
            return
        try:
            self.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelError(
                f"{path} does not hold the weights of a pooling for this model: {str(error).splitlines()[0]}",
                hint="Restore the file from a copy, or train again.",
                place=str(path),
                reason=str(error).splitlines()[0],
            ) from error


def _reduce(values_RX: torch.Tensor, how: str, counts_B: torch.Tensor) -> torch.Tensor:
    """[B, X]: the values of each example's windows, added one after the other, whatever else is in the batch."""
    return torch.segment_reduce(values_RX, how, lengths=counts_B, axis=0, unsafe=True)
