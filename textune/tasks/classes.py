"""One class per row: binary and multiclass heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.config import BinaryTask, RegressionTask, Task
from textune.data import LabelMap, Problem
from textune.tasks.decision import USUAL, Decision
from textune.tasks.head import ONLY
from textune.tasks.weights import class_weights


@dataclass(frozen=True)
class ClassHead:
    """Exactly one of K classes: softmax over K outputs or, for two classes, the sigmoid of one output.

    Targets are class ids, int64 [B].
    """

    label_map: LabelMap
    num_outputs: int
    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    """float32 [K]: of a row of this class."""
    decision: Decision = USUAL
    name: str = ONLY

    @property
    def problem(self) -> Problem:
        """binary or multiclass."""
        return self.label_map.problem

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return self.label_map.names

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each row, [B], unweighted."""
        weights_K = _on(outputs_BC.device, self.class_weights)
        if self.label_smoothing and weights_K is not None:
            return _weighted_smoothed(outputs_BC, targets, weights_K, self.label_smoothing)
        if self.num_outputs == 1:
            smoothed = targets.to(outputs_BC.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
            return functional.binary_cross_entropy_with_logits(outputs_BC[:, 0], smoothed, reduction="none")
        return functional.cross_entropy(outputs_BC, targets, label_smoothing=self.label_smoothing, reduction="none")

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of the row times that of its class, float32 [B]."""
        weights = torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B
        weights_K = _on(targets.device, self.class_weights)
        return weights if weights_K is None else weights * weights_K[targets]

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K]: of both classes, too, where one output tells them apart."""
        if self.num_outputs == 1:
            positive_B = torch.sigmoid(outputs_BC[:, 0])
            return torch.stack([1 - positive_B, positive_B], dim=1)
        return torch.softmax(outputs_BC, dim=1)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """int64 [N] the class of the highest score."""
        return self.decision.best(scores)


def build_classes(section: Task, label_map: LabelMap, targets: np.ndarray | None) -> ClassHead:
    """The head for these classes; `targets` are those of the training rows, as `build_task` takes them."""
    assert not isinstance(section, RegressionTask), "labels were read as another kind than the task's"
    one_output = isinstance(section, BinaryTask) and section.num_logits == 1
    return ClassHead(
        label_map,
        num_outputs=1 if one_output else len(label_map.names),
        label_smoothing=section.label_smoothing,
        class_weights=class_weights(section.class_weights, label_map, targets, balance=_balance),
    )


def _balance(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Rows / (classes x rows of the class); 1 for a class without rows."""
    counts = np.bincount(targets, minlength=num_classes)
    return np.where(counts > 0, len(targets) / (num_classes * np.maximum(counts, 1)), 1.0)


def _on(device: torch.device, weights_K: torch.Tensor | None) -> torch.Tensor | None:
    return None if weights_K is None else weights_K.to(device)


def _weighted_smoothed(
    outputs_BC: torch.Tensor, targets: torch.Tensor, weights_K: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Loss of each row, [B], where every class that smoothing gives a share of the target counts with its own weight.

    This is PyTorch's CrossEntropyLoss. The weight of the row's own class is divided out, since `row_weights` brings it back;
    a row of a class of weight 0 counts for nothing.
    """
    if outputs_BC.shape[1] == 1:  # the softmax of (0, x) is the sigmoid of x
        outputs_BC = functional.pad(outputs_BC, (1, 0))
    losses_B = functional.cross_entropy(outputs_BC, targets, weight=weights_K, label_smoothing=smoothing, reduction="none")
    weights_B = weights_K[targets]
    return losses_B / torch.where(weights_B > 0, weights_B, 1.0)
