"""A number per row: the regression head, and what an evaluation keeps of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.config import AutoTask, RegressionTask, Task
from textune.data import LABEL, LabelMap
from textune.errors import ConfigError, DataError
from textune.tasks.answers import Answer, Constant, Measures
from textune.tasks.decision import USUAL, Decision

REGRESSION = Measures(
    ("pearson", "spearman", "r2", "rmse", "mse", "mae", "mape"), main="pearson", plain="rmse", constant="the mean"
)


@dataclass(frozen=True)
class NumberHead:
    """A number, from one output. Targets are the numbers, float32 [B]."""

    label_map: LabelMap
    section: RegressionTask
    """Loss and activation."""
    name: str = LABEL

    @property
    def labels(self) -> tuple[str, ...]:
        """The one name of the value."""
        return self.label_map.names

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def answers(self) -> NumberAnswers:
        """What an evaluation keeps of each row."""
        return NumberAnswers(self.label_map)

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

    @property
    def decision(self) -> Decision:
        """There is nothing to decide."""
        return USUAL

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """The scores as they are."""
        return scores

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The numbers [N] themselves."""
        return scores


@dataclass(frozen=True)
class NumberAnswers:
    """The numbers themselves."""

    label_map: LabelMap
    own_measures: Measures | None = None
    """The metrics where a task of the user's own adds some."""

    @property
    def measures(self) -> Measures:
        """Errors and correlations."""
        return self.own_measures or REGRESSION

    @property
    def num_scores(self) -> int:
        """One: the number."""
        return 1

    @property
    def ranked(self) -> range:
        """The number."""
        return range(1)

    @property
    def choices(self) -> None:
        """A number is not a choice among labels."""
        return None

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N]."""
        return (num_rows,)

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N]."""
        return (num_rows,)

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError for targets that are not finite."""
        if not np.isfinite(targets).all():
            raise DataError("a target is not a number (NaN or infinite).")

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """The true and the predicted number."""
        return {"targets": np.zeros(num_rows), "predictions": np.zeros(num_rows)}

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """The same of a batch."""
        return {"targets": targets, "predictions": decided}

    def store(self, given: np.ndarray) -> np.ndarray:
        """The numbers as they are."""
        return np.asarray(given)

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N] whether the number is met exactly."""
        return np.asarray(predictions == targets)

    def mistake_sizes(
        self, targets: np.ndarray, predictions: np.ndarray, sureness: np.ndarray | None, suspect: np.ndarray | None
    ) -> np.ndarray:
        """float64 [N] the size of the error."""
        return np.asarray(np.abs(predictions - targets))

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """The number, twice."""
        return decided.tolist(), scores

    def named(self, stored: np.ndarray) -> float:
        """The number."""
        return float(stored)

    def constant(self, known: np.ndarray) -> Constant:
        """The mean."""
        mean = np.asarray(known.mean(dtype=np.float64))
        return Constant(mean, mean)

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> None:
        """A number has no probability."""
        return None

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """None: the report has notes on the metrics."""
        return []


def build_number(
    section: Task, name: str, label_map: LabelMap, targets: np.ndarray | None, decision: Decision
) -> NumberHead:
    """The head of that name for a number; the other arguments as in `build_task`, but there is nothing to decide.

    ConfigError for options of classes, and for `targets` out of a sigmoid's reach.
    """
    if isinstance(section, AutoTask) and (
        section.class_weights != "none" or section.label_smoothing or section.loss != "cross_entropy"
    ):
        raise ConfigError(
            "task.class_weights, task.label_smoothing and task.loss need classes, but the labels are numbers (a"
            " regression).",
            hint='Remove them, or set task.kind = "multiclass" if the numbers are classes.',
        )
    regression = section if isinstance(section, RegressionTask) else RegressionTask()
    if targets is not None:
        _require_reachable(regression, targets)
    return NumberHead(label_map, regression, name)


def _require_reachable(section: RegressionTask, targets: np.ndarray) -> None:
    if section.activation != "sigmoid" or not len(targets):
        return
    lowest, highest = float(targets.min()), float(targets.max())
    if lowest < 0 or highest > 1:
        raise ConfigError(
            f'task.activation = "sigmoid" predicts numbers from 0 to 1, but the training labels range from {lowest:g}'
            f" to"
            f" {highest:g}.",
            hint='Set task.activation = "linear", or scale the labels to 0..1.',
        )
