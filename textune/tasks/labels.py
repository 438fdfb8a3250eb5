"""Any number of labels per row: the multilabel head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.config import RegressionTask, Task
from textune.data import LabelMap, Problem
from textune.tasks.decision import USUAL, Decision
from textune.tasks.head import ONLY
from textune.tasks.weights import class_weights


@dataclass(frozen=True)
class LabelHead:
    """Each of K labels for itself: the sigmoid of an output of its own.

    Targets are 0 or 1 for each label, float32 [B, K].
    """

    label_map: LabelMap
    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    """float32 [K]: of the positive term of this label."""
    decision: Decision = USUAL
    name: str = ONLY

    @property
    def problem(self) -> Problem:
        """multilabel."""
        return self.label_map.problem

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the order of their ids."""
        return self.label_map.names

    @property
    def num_outputs(self) -> int:
        """One per label."""
        return len(self.label_map.names)

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of each row, the mean over its labels, [B]; the weights of the labels are inside."""
        smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights_K = None if self.class_weights is None else self.class_weights.to(outputs_BC.device)
        return functional.binary_cross_entropy_with_logits(outputs_BC, smoothed, pos_weight=weights_K, reduction="none").mean(
            dim=1
        )

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, float32 [B]."""
        return torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K]."""
        return torch.sigmoid(outputs_BC)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """int64 [N, K] 1 for each label that is given."""
        return self.decision.given(scores)


def build_labels(section: Task, label_map: LabelMap, targets: np.ndarray | None) -> LabelHead:
    """The head for these labels; `targets` are those of the training rows, as `build_task` takes them."""
    assert not isinstance(section, RegressionTask), "labels were read as another kind than the task's"
    return LabelHead(
        label_map,
        label_smoothing=section.label_smoothing,
        class_weights=class_weights(section.class_weights, label_map, targets, balance=_balance),
    )


def _balance(targets: np.ndarray, num_labels: int) -> np.ndarray:
    """Rows without the label / rows with it; 1 for a label that never occurs, which has no positive term to weigh."""
    positive = targets.sum(axis=0)
    return np.where(positive > 0, (len(targets) - positive) / np.maximum(positive, 1), 1.0)
