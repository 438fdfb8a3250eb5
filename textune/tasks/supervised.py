"""Supervised tasks: how logits become losses and scores; after `data`, before `model`.

Every loss is given row by row, with a weight for each row. The loss of an optimizer batch is the weighted mean over *all* its
rows, so that cutting the batch into micro-batches cannot change the gradient: each part contributes sum(weight x loss) / total
weight.

Shapes: B rows, C outputs of the model, K classes (K == C but for a binary task with one logit, where K = 2 and C = 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from textune.config import AutoTask, BinaryTask, ClassWeights, MulticlassTask, MultilabelTask, RegressionTask
from textune.data import LabelMap, Problem
from textune.errors import ConfigError

TaskSection = AutoTask | BinaryTask | MulticlassTask | MultilabelTask | RegressionTask


class Task(Protocol):
    """What the training loop and the predictor ask of a task."""

    @property
    def num_logits(self) -> int:
        """Outputs of the model, C."""

    def row_losses(self, logits_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each row, [B], unweighted."""

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, [B]."""

    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """What users see: probabilities [B, K], or values [B] for regression."""


@dataclass(frozen=True)
class SupervisedTask:
    """Binary, multiclass, multilabel or regression, with smoothing and weights."""

    label_map: LabelMap
    num_logits: int
    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    """float32 [K]: of a row of this class; for multilabel, of the positive term of this label."""
    regression: RegressionTask | None = None

    @property
    def problem(self) -> Problem:
        """binary, multiclass, multilabel or regression."""
        return self.label_map.problem

    def row_losses(self, logits_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each row, [B]: cross-entropy, mean binary cross-entropy over the labels, squared or smooth L1 error."""
        if self.regression is not None:
            values_B = self.scores(logits_BC)
            if self.regression.loss == "mse":
                return functional.mse_loss(values_B, targets, reduction="none")
            return functional.smooth_l1_loss(values_B, targets, beta=self.regression.beta, reduction="none")
        smoothing = self.label_smoothing
        if self.problem == "multilabel":
            smoothed = targets * (1 - smoothing) + smoothing / 2
            return functional.binary_cross_entropy_with_logits(
                logits_BC, smoothed, pos_weight=self._weights_on(logits_BC.device), reduction="none"
            ).mean(dim=1)
        weights_K = self._weights_on(logits_BC.device)
        if smoothing and weights_K is not None:
            return _weighted_smoothed(logits_BC, targets, weights_K, smoothing)
        if self.num_logits == 1:
            smoothed = targets.to(logits_BC.dtype) * (1 - smoothing) + smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits_BC[:, 0], smoothed, reduction="none")
        return functional.cross_entropy(logits_BC, targets, label_smoothing=smoothing, reduction="none")

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Row weight x class weight of each row, float32 [B]."""
        weights = torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B
        class_weights = self._weights_on(targets.device)
        if class_weights is None or self.problem == "multilabel":  # multilabel: already inside the loss
            return weights
        return weights * class_weights[targets]

    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K] (binary: both classes, whatever the number of logits), or values [B] for regression."""
        if self.regression is not None:
            values_B = logits_BC[:, 0]
            return torch.sigmoid(values_B) if self.regression.activation == "sigmoid" else values_B
        if self.problem == "multilabel":
            return torch.sigmoid(logits_BC)
        if self.num_logits == 1:
            positive_B = torch.sigmoid(logits_BC[:, 0])
            return torch.stack([1 - positive_B, positive_B], dim=1)
        return torch.softmax(logits_BC, dim=1)

    def _weights_on(self, device: torch.device) -> torch.Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(device)


def _weighted_smoothed(
    logits_BC: torch.Tensor, targets: torch.Tensor, weights_K: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Loss of each row, [B], where every class that smoothing gives a share of the target counts with its own weight.

    This is PyTorch's CrossEntropyLoss. The weight of the row's own class is divided out, since `row_weights` brings it back;
    a row of a class of weight 0 counts for nothing.
    """
    if logits_BC.shape[1] == 1:  # the softmax of (0, x) is the sigmoid of x
        logits_BC = functional.pad(logits_BC, (1, 0))
    losses_B = functional.cross_entropy(logits_BC, targets, weight=weights_K, label_smoothing=smoothing, reduction="none")
    weights_B = weights_K[targets]
    return losses_B / torch.where(weights_B > 0, weights_B, 1.0)


def build_task(section: TaskSection, label_map: LabelMap, *, targets: np.ndarray | None = None) -> SupervisedTask:
    """The task for these labels; `targets` (of the training rows) are needed where class weights are `balanced`.

    Raises ConfigError where the section does not fit the labels: class weights or smoothing for a regression, an unknown class
    name, targets that a sigmoid can never reach.
    """
    if label_map.problem == "regression":
        if isinstance(section, AutoTask) and (section.class_weights != "none" or section.label_smoothing):
            raise ConfigError(
                "task.class_weights and task.label_smoothing need classes, but the labels are numbers (a regression).",
                hint='Remove them, or set task.kind = "multiclass" if the numbers are classes.',
            )
        regression = section if isinstance(section, RegressionTask) else RegressionTask()
        if targets is not None:
            _require_reachable(regression, targets)
        return SupervisedTask(label_map, num_logits=1, regression=regression)
    assert not isinstance(section, RegressionTask), "labels were read as another kind than the task's"
    one_logit = isinstance(section, BinaryTask) and section.num_logits == 1
    return SupervisedTask(
        label_map,
        num_logits=1 if one_logit else len(label_map.names),
        label_smoothing=section.label_smoothing,
        class_weights=_class_weights(section.class_weights, label_map, targets),
    )


def _require_reachable(section: RegressionTask, targets: np.ndarray) -> None:
    if section.activation != "sigmoid" or not len(targets):
        return
    lowest, highest = float(targets.min()), float(targets.max())
    if lowest < 0 or highest > 1:
        raise ConfigError(
            f'task.activation = "sigmoid" predicts numbers from 0 to 1, but the training labels go from {lowest:g} to'
            f" {highest:g}.",
            hint='Set task.activation = "linear", or scale the labels to 0..1.',
        )


def _class_weights(wanted: ClassWeights, label_map: LabelMap, targets: np.ndarray | None) -> torch.Tensor | None:
    if wanted == "none":
        return None
    if isinstance(wanted, Mapping):
        return _weights_from_table(wanted, label_map)
    assert targets is not None, "balanced class weights need the training targets"
    num_rows, num_classes = len(targets), len(label_map.names)
    if label_map.problem == "multilabel":
        positive = targets.sum(axis=0)
        # A label that never occurs has no positive term to weigh.
        return torch.from_numpy(np.where(positive > 0, (num_rows - positive) / np.maximum(positive, 1), 1.0).astype(np.float32))
    counts = np.bincount(targets, minlength=num_classes)
    return torch.from_numpy(np.where(counts > 0, num_rows / (num_classes * np.maximum(counts, 1)), 1.0).astype(np.float32))


def _weights_from_table(table: Mapping[str, float], label_map: LabelMap) -> torch.Tensor:
    weights = np.ones(len(label_map.names), dtype=np.float32)
    for name, weight in table.items():
        if name not in label_map.ids:
            by_lower = {known.lower(): known for known in label_map.names}
            near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=1)]
            raise ConfigError(
                f"task.class_weights names the label {name!r}, which is not among the labels of the data.",
                hint=f"Did you mean {near[0]!r}?" if near else f"The labels are: {', '.join(label_map.names[:20])}.",
            )
        weights[label_map.ids[name]] = weight
    if not weights.any():
        raise ConfigError(
            "task.class_weights: all weights are 0, nothing would be learnt.", hint="Give some label a weight above 0."
        )
    return torch.from_numpy(weights)
