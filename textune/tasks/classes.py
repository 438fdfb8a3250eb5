"""One class per row: binary and multiclass heads, and what an evaluation keeps of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.config import BinaryTask, ClassWeights, ConditionalLmTask, MultitaskTask, PythonTask, RegressionTask, Task
from textune.data import LABEL, MISSING, LabelMap
from textune.errors import DataError
from textune.tasks.answers import Answer, Constant, Counts, Measures, require_probabilities, surprise
from textune.tasks.decision import USUAL, Decision
from textune.tasks.focal import focal_classes
from textune.tasks.weights import class_weights

_SHARED = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "precision_macro",
    "precision_micro",
    "precision_weighted",
    "recall_macro",
    "recall_micro",
    "recall_weighted",
    "f_half_macro",
    "mcc",
    "roc_auc",
    "average_precision",
    "log_loss",
)
MULTICLASS = Measures(_SHARED, main="accuracy", plain="accuracy", constant="the most frequent class")
BINARY = Measures(
    (*_SHARED, "precision", "recall", "f1", "f_half", "brier"),
    main="accuracy",
    plain="accuracy",
    constant="the most frequent class",
)


@dataclass(frozen=True)
class ClassHead:
    """Exactly one of K classes: softmax over K outputs or, for two classes, the sigmoid of one output.

    Targets are class ids, int64 [B]; MISSING where a row has no label for this head: its loss and its weight are 0.
    """

    label_map: LabelMap
    num_outputs: int
    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    """float32 [K]: the weight of a row of each class."""
    gamma: float = 0.0
    """Of focal loss; 0 for cross-entropy."""
    decision: Decision = USUAL
    name: str = LABEL

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return self.label_map.names

    @property
    def answers(self) -> ClassAnswers:
        """What an evaluation keeps of each row."""
        return ClassAnswers(self.label_map)

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy or focal loss of each row, [B], unweighted."""
        weights_K = _on(outputs_BC.device, self.class_weights)
        if self.gamma or (self.label_smoothing and weights_K is not None):
            return self._weighted_losses(outputs_BC, targets, weights_K)
        if self.num_outputs == 1:
            smoothed = targets.to(outputs_BC.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
            losses_B = functional.binary_cross_entropy_with_logits(outputs_BC[:, 0], smoothed, reduction="none")
            return losses_B.masked_fill(targets == MISSING, 0.0)
        return functional.cross_entropy(
            outputs_BC, targets, ignore_index=MISSING, label_smoothing=self.label_smoothing, reduction="none"
        )

    def _weighted_losses(
        self, outputs_BC: torch.Tensor, targets: torch.Tensor, weights_K: torch.Tensor | None
    ) -> torch.Tensor:
        """Loss of each row, [B]: each class that smoothing gives a share of the target counts with its own weight.

        For cross-entropy this is PyTorch's CrossEntropyLoss. The weight of the row's own class is divided out here,
        since `row_weights` multiplies by it; a row whose class has weight 0 does not count.
        """
        if self.num_outputs == 1:  # the softmax of (0, x) is the sigmoid of x
            outputs_BC = functional.pad(outputs_BC, (1, 0))
        if self.gamma:
            losses_B = focal_classes(
                outputs_BC, targets.clamp(min=0), gamma=self.gamma, smoothing=self.label_smoothing, weights_K=weights_K
            ).masked_fill(targets == MISSING, 0.0)
        else:
            losses_B = functional.cross_entropy(
                outputs_BC,
                targets,
                weight=weights_K,
                ignore_index=MISSING,
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
        if weights_K is None:
            return losses_B
        weights_B = weights_K[targets]
        return losses_B / torch.where(weights_B > 0, weights_B, 1.0)

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of the row times the weight of its class, float32 [B]; 0 without a label."""
        weights = torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B
        weights_K = _on(targets.device, self.class_weights)
        weights = weights if weights_K is None else weights * weights_K[targets]
        return weights.masked_fill(targets == MISSING, 0.0)

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K]; one output gives those of both classes."""
        if self.num_outputs == 1:
            positive_B = torch.sigmoid(outputs_BC[:, 0])
            return torch.stack([1 - positive_B, positive_B], dim=1)
        return torch.softmax(outputs_BC, dim=1)

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities [N, K] calibrated by the decision."""
        return self.decision.calibrated_classes(scores)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """int64 [N] the class that is answered; usually that of the highest score."""
        return self.decision.best(scores)


@dataclass(frozen=True)
class ClassAnswers:
    """Class ids."""

    label_map: LabelMap
    own_measures: Measures | None = None
    """The metrics where a task of the user's own adds some."""

    @property
    def measures(self) -> Measures:
        """Of two classes, also how well the second one is found."""
        return self.own_measures or (BINARY if self.label_map.problem == "binary" else MULTICLASS)

    @property
    def num_scores(self) -> int:
        """One per class."""
        return len(self.label_map.names)

    @property
    def ranked(self) -> range:
        """All classes; of two, only the second, since the first gives the same order reversed."""
        return range(1 if self.label_map.problem == "binary" else 0, self.num_scores)

    @property
    def choices(self) -> ClassAnswers:
        """A class is a choice among labels."""
        return self

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N, C]."""
        return (num_rows, self.num_scores)

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N]."""
        return (num_rows,)

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError unless scores are probabilities and targets class ids."""
        require_probabilities(scores)
        if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= self.num_scores:
            raise DataError(
                f"targets must be class ids up to {self.num_scores - 1}, but these range from {targets.min()}"
                f" to {targets.max()}."
            )

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """Ids of the true and the predicted class; the surprise at the true one, the probability of the predicted
        one."""
        ids = {name: np.zeros(num_rows, dtype=np.int32) for name in ("targets", "predictions")}
        return ids | {"loss": np.zeros(num_rows), "sureness": np.zeros(num_rows)}

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """The same of a batch."""
        every = np.arange(len(scores))
        return {
            "targets": targets,
            "predictions": decided,
            "loss": surprise(scores[every, targets]),
            "sureness": scores[every, decided],
        }

    def store(self, given: np.ndarray) -> np.ndarray:
        """Ids, as they are."""
        return np.asarray(given)

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N] whether the class is right."""
        return np.asarray(predictions == targets)

    def mistake_sizes(
        self, targets: np.ndarray, predictions: np.ndarray, sureness: np.ndarray | None, suspect: np.ndarray | None
    ) -> np.ndarray:
        """float64 [N] the probability of the predicted class where it is wrong."""
        assert sureness is not None
        return np.where(self.right(targets, predictions), 0.0, sureness)

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """Name and probability of the class."""
        return [self.label_map.names[index] for index in decided.tolist()], scores[np.arange(len(scores)), decided]

    def named(self, stored: np.ndarray) -> str:
        """Name of a class."""
        return self.label_map.names[int(stored)]

    def constant(self, known: np.ndarray) -> Constant:
        """The classes' shares."""
        shares = np.bincount(known, minlength=self.num_scores) / len(known)
        return Constant(shares, shares)

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> np.ndarray:
        """float64 [N] the surprise at each row's class."""
        return np.asarray(surprise(constant)[targets])

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """None: the report has notes on each class."""
        return []

    def hits(self, targets: np.ndarray) -> np.ndarray:
        """bool [N, C] one class in each row."""
        return np.asarray(targets[:, None] == np.arange(self.num_scores))

    def counts(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None) -> Counts:
        """By class, float64 [C]."""
        weights = np.ones(len(targets)) if weights is None else weights
        right = self.right(targets, predictions)
        sides = ((targets[right], weights[right]), (predictions, weights), (targets, weights))
        return Counts(*(np.bincount(ids, by, minlength=self.num_scores) for ids, by in sides))

    def support(self, targets: np.ndarray) -> np.ndarray:
        """Rows of each class, int64 [C]."""
        return np.bincount(targets, minlength=self.num_scores)

    def pairs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """int64 [N] the cell of the confusion matrix."""
        return np.asarray(targets.astype(np.int64) * self.num_scores + predictions)


def build_classes(
    section: Task, name: str, label_map: LabelMap, targets: np.ndarray | None, decision: Decision
) -> ClassHead:
    """The head of that name for these classes; the other arguments as in `build_task`."""
    assert not isinstance(section, RegressionTask | ConditionalLmTask | PythonTask), (
        "labels were read as another kind than the task's"
    )
    one_output = isinstance(section, BinaryTask) and section.num_logits == 1
    wanted = section.class_weights
    wanted = _weights_of(wanted, name) if isinstance(section, MultitaskTask) else wanted
    return ClassHead(
        label_map,
        num_outputs=1 if one_output else len(label_map.names),
        label_smoothing=section.label_smoothing,
        class_weights=class_weights(wanted, label_map, targets, balance=_balance),
        gamma=section.gamma if section.loss == "focal" else 0.0,
        decision=decision,
        name=name,
    )


def _weights_of(wanted: ClassWeights, name: str) -> ClassWeights:
    """The class weights of this head, where a table for several heads names each class with its head."""
    if not isinstance(wanted, Mapping):
        return wanted
    start = f"{name}/"
    return {key.removeprefix(start): weight for key, weight in wanted.items() if key.startswith(start)} or "none"


def _balance(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Labelled rows / (classes x rows of the class); 1 for a class without rows."""
    counts = np.bincount(targets[targets != MISSING], minlength=num_classes)
    return np.where(counts > 0, counts.sum() / (num_classes * np.maximum(counts, 1)), 1.0)


def _on(device: torch.device, weights_K: torch.Tensor | None) -> torch.Tensor | None:
    return None if weights_K is None else weights_K.to(device)
