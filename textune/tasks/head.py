"""The interface of a head: one thing that a model predicts for each row. See `classes.py`, `labels.py`, `number.py`.

Shapes: B rows, C outputs of the model for this head, K scores per row. K equals C, with two exceptions: one output may
tell two classes apart (C = 1, K = 2), and a number is its own score, without the axis K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from textune.data import LabelMap
    from textune.tasks.answers import Answers
    from textune.tasks.decision import Decision


class Head(Protocol):
    """One thing that is predicted for each row: its labels, and how outputs become losses, scores and answers.

    Losses are given row by row and unweighted, beside a weight for each row. The loss of an optimizer batch is their
    weighted mean over all its rows, so that cutting the batch into micro-batches cannot change the gradient.
    """

    @property
    def name(self) -> str:
        """The key of its losses, weights, scores and targets among those of other heads."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and their kind."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names in the order of their ids; for a number, the one name of the value."""

    @property
    def answers(self) -> Answers:
        """What an evaluation keeps of each row."""

    @property
    def decision(self) -> Decision:
        """The rule by which scores become probabilities and answers; the usual one where there is nothing to
        decide."""

    @property
    def num_outputs(self) -> int:
        """Number of model outputs, C."""

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each row, [B], unweighted; 0 for a row that has no label for this head."""

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, float32 [B], 0 for a row that has no label for this head; `weights_B` are the weights in
        the data, if any."""

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """What the model says: probabilities [B, K] or numbers [B]."""

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """What users see of scores [N, K] or [N]: probabilities calibrated by the decision."""

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """What the scores [N, K] or [N] say by the head's own rule, in the form of the targets."""
