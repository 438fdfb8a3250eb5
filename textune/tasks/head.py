"""What one thing that a model predicts of a row is asked for; implemented in `classes.py`, `labels.py` and `number.py`.

Shapes: B rows, C outputs of the model for this head, K scores of a row. K is C, except for two classes told apart by one output
(C = 1, K = 2) and for a number, which is its own score and has no axis K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from textune.data import LabelMap
    from textune.tasks.answers import Answers


class Head(Protocol):
    """One thing that is predicted of each row: its labels, and how outputs become losses, scores and decisions.

    Losses are given row by row and unweighted, beside a weight for each row. The loss of an optimizer batch is their weighted
    mean over all its rows, so that cutting the batch into micro-batches cannot change the gradient.
    """

    @property
    def name(self) -> str:
        """By which losses, weights, scores and targets of several heads are told apart."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and what kind they are of."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names in the order of their ids; of a number, the one name of its value."""

    @property
    def answers(self) -> Answers:
        """What an evaluation keeps of targets and answers."""

    @property
    def num_outputs(self) -> int:
        """Outputs of the model, C."""

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each row, [B], unweighted."""

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, float32 [B]; `weights_B` are those of the data, None where it has none."""

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """What users see: probabilities [B, K], or numbers [B]."""

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """What the scores [N, K] or [N] say, in the form of the targets, by the head's own decision."""
