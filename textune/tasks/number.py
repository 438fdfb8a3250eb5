"""A number per row: the regression head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.config import AutoTask, RegressionTask, Task
from textune.data import LabelMap, Problem
from textune.errors import ConfigError
from textune.tasks.head import ONLY


@dataclass(frozen=True)
class NumberHead:
    """A number, from one output. Targets are the numbers, float32 [B]."""

    label_map: LabelMap
    section: RegressionTask
    """Loss and activation."""
    name: str = ONLY

    @property
    def problem(self) -> Problem:
        """regression."""
        return self.label_map.problem

    @property
    def labels(self) -> tuple[str, ...]:
        """The one name of the value."""
        return self.label_map.names

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Squared or smooth L1 error of each row, [B]."""
        values_B = self.scores(outputs_BC)
        if self.section.loss == "mse":
            return functional.mse_loss(values_B, targets, reduction="none")
        return functional.smooth_l1_loss(values_B, targets, beta=self.section.beta, reduction="none")

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, float32 [B]."""
        return torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """The numbers, [B]."""
        values_B = outputs_BC[:, 0]
        return torch.sigmoid(values_B) if self.section.activation == "sigmoid" else values_B

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The numbers [N] themselves."""
        return scores


def build_number(section: Task, label_map: LabelMap, targets: np.ndarray | None) -> NumberHead:
    """The head for a number; ConfigError for options of classes, and for `targets` that a sigmoid can never reach."""
    if isinstance(section, AutoTask) and (section.class_weights != "none" or section.label_smoothing):
        raise ConfigError(
            "task.class_weights and task.label_smoothing need classes, but the labels are numbers (a regression).",
            hint='Remove them, or set task.kind = "multiclass" if the numbers are classes.',
        )
    regression = section if isinstance(section, RegressionTask) else RegressionTask()
    if targets is not None:
        _require_reachable(regression, targets)
    return NumberHead(label_map, regression)


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
