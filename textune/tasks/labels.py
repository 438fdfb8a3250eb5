"""Any number of labels per row: the multilabel head, and what an evaluation keeps of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from textune.config import ConditionalLmTask, PythonTask, RegressionTask, Task
from textune.data import LABEL, LabelMap
from textune.errors import DataError
from textune.tasks.answers import Answer, Constant, Counts, Measures, require_probabilities, surprise
from textune.tasks.bits import count_labels, has_label, one_value, pack_labels, sum_labels, unpack_labels
from textune.tasks.decision import USUAL, Decision
from textune.tasks.focal import focal_labels
from textune.tasks.weights import class_weights

MULTILABEL = Measures(
    (
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "f1_samples",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "precision_samples",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "recall_samples",
        "f_half_macro",
        "subset_accuracy",
        "hamming_loss",
        "roc_auc",
        "average_precision",
        "average_precision_micro",
        "log_loss",
    ),
    main="f1_micro",
    plain="subset_accuracy",
    constant="the most frequent label set",
)


@dataclass(frozen=True)
class LabelHead:
    """Each of K labels is predicted independently: the sigmoid of its own output.

    Targets are 0 or 1 for each label, float32 [B, K].
    """

    label_map: LabelMap
    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None
    """float32 [K]: the weight of the positive term of each label."""
    gamma: float = 0.0
    """Of focal loss; 0 for cross-entropy."""
    decision: Decision = USUAL
    name: str = LABEL

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the order of their ids."""
        return self.label_map.names

    @property
    def num_outputs(self) -> int:
        """One per label."""
        return len(self.label_map.names)

    @property
    def answers(self) -> LabelAnswers:
        """What an evaluation keeps of each row."""
        return LabelAnswers(self.label_map)

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy or focal loss of each row, [B]: the mean over its labels, class weights included."""
        smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights_K = None if self.class_weights is None else self.class_weights.to(outputs_BC.device)
        if self.gamma:
            return focal_labels(outputs_BC, smoothed, gamma=self.gamma, weights_K=weights_K).mean(dim=1)
        return functional.binary_cross_entropy_with_logits(
            outputs_BC, smoothed, pos_weight=weights_K, reduction="none"
        ).mean(dim=1)

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row, float32 [B]."""
        return torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K]."""
        return torch.sigmoid(outputs_BC)

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities [N, K] calibrated by the decision."""
        return self.decision.calibrated_labels(scores)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """int64 [N, K] 1 for each label that is given."""
        return self.decision.given(scores)


@dataclass(frozen=True)
class LabelAnswers:
    """Label sets, as bits."""

    label_map: LabelMap
    own_measures: Measures | None = None
    """The metrics where a task of the user's own adds some."""

    @property
    def measures(self) -> Measures:
        """Metrics of label sets."""
        return self.own_measures or MULTILABEL

    @property
    def num_scores(self) -> int:
        """One per label."""
        return len(self.label_map.names)

    @property
    def ranked(self) -> range:
        """All labels."""
        return range(self.num_scores)

    @property
    def choices(self) -> LabelAnswers:
        """A label set is a choice among labels."""
        return self

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N, C]."""
        return (num_rows, self.num_scores)

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N, C]."""
        return (num_rows, self.num_scores)

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError unless scores are probabilities, targets 0 or 1, and labels two or more."""
        require_probabilities(scores)
        if self.num_scores < 2:
            raise DataError("multilabel needs two labels or more.")
        if not ((targets == 0) | (targets == 1)).all():
            raise DataError("multilabel targets are 0 or 1.")

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """Bits of the true and the predicted labels; the mean surprise; the most wrong label and its probability."""
        sides = (num_rows, -(-self.num_scores // 8))
        bits = {name: np.zeros(sides, dtype=np.uint8) for name in ("targets", "predictions")}
        suspect = np.zeros(num_rows, dtype=np.int32)
        return bits | {"loss": np.zeros(num_rows), "sureness": np.zeros(num_rows), "suspect": suspect}

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """The same of a batch."""
        every, true = np.arange(len(scores)), targets > 0
        error = np.where(decided != true, np.abs(scores - true), 0.0)
        suspect = error.argmax(axis=1)  # of equals the first one counts
        return {
            "targets": pack_labels(targets),
            "predictions": pack_labels(decided),
            "loss": surprise(np.where(true, scores, 1 - scores)).mean(axis=1),
            "sureness": scores[every, suspect],
            "suspect": np.where(error[every, suspect] > 0, suspect, -1),
        }

    def store(self, given: np.ndarray) -> np.ndarray:
        """Bits."""
        return pack_labels(given)

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N] whether every label is right."""
        return np.asarray(np.equal(predictions, targets).all(axis=1))

    def mistake_sizes(
        self, targets: np.ndarray, predictions: np.ndarray, sureness: np.ndarray | None, suspect: np.ndarray | None
    ) -> np.ndarray:
        """float64 [N] error of the most wrong label: its probability if it was wrongly given, otherwise 1 minus
        that."""
        assert sureness is not None and suspect is not None
        off = np.where(has_label(targets, suspect), 1 - sureness, sureness)
        return np.where(self.right(targets, predictions), 0.0, off)

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """Names of the given labels, and the probability of the most probable label, given or not."""
        row_K, index_K = np.nonzero(decided)
        named = [self.label_map.names[index] for index in index_K.tolist()]
        stops = np.searchsorted(row_K, np.arange(len(scores) + 1)).tolist()
        return [tuple(named[start:stop]) for start, stop in pairwise(stops)], scores.max(axis=1)

    def named(self, stored: np.ndarray) -> tuple[str, ...]:
        """Names of the labels of a set."""
        labels = unpack_labels(stored, self.num_scores)
        return tuple(self.label_map.names[int(index)] for index in np.flatnonzero(labels))

    def constant(self, known: np.ndarray) -> Constant:
        """The most frequent label set, and the share of each label."""
        _, first, counts = np.unique(one_value(known), return_index=True, return_counts=True)
        labels = unpack_labels(known[first[counts.argmax()]], self.num_scores).astype(np.float64)
        return Constant(labels, count_labels(known, self.num_scores) / len(known))

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> np.ndarray:
        """float64 [N] the mean surprise over the labels."""
        untrue = surprise(1 - constant)
        return np.asarray((untrue.sum() + sum_labels(targets, surprise(constant) - untrue)) / self.num_scores)

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """On rows without any label."""
        notes = []
        untrue, silent = ~targets.any(axis=1), ~predictions.any(axis=1)
        if silent.any():
            notes.append(f"The model gives no label at all to {int(silent.sum()):,} of {len(targets):,} rows.")
        if untrue.any():
            notes.append(
                f"{int(untrue.sum()):,} of {len(targets):,} rows {'has' if untrue.sum() == 1 else 'have'} no label. "
                "An empty answer to them is right in subset_accuracy, but counts 0 in the means over samples."
            )
        return notes

    def hits(self, targets: np.ndarray) -> np.ndarray:
        """bool [N, C] the labels of each row."""
        return unpack_labels(targets, self.num_scores).astype(bool)

    def counts(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None) -> Counts:
        """By label, float64 [C]."""
        sides = (targets & predictions, predictions, targets)
        return Counts(*(count_labels(bits, self.num_scores, weights) for bits in sides))

    def support(self, targets: np.ndarray) -> np.ndarray:
        """Rows that have each label, float64 [C]."""
        return count_labels(targets, self.num_scores)

    def pairs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Bytes [N] of both sets."""
        return one_value(np.concatenate([targets, predictions], axis=1))


def build_labels(
    section: Task, name: str, label_map: LabelMap, targets: np.ndarray | None, decision: Decision
) -> LabelHead:
    """The head of that name for these labels; the other arguments as in `build_task`."""
    assert not isinstance(section, RegressionTask | ConditionalLmTask | PythonTask), (
        "labels were read as another kind than the task's"
    )
    return LabelHead(
        label_map,
        label_smoothing=section.label_smoothing,
        class_weights=class_weights(section.class_weights, label_map, targets, balance=_balance),
        gamma=section.gamma if section.loss == "focal" else 0.0,
        decision=decision,
        name=name,
    )


def _balance(targets: np.ndarray, num_labels: int) -> np.ndarray:
    """Rows without the label / rows with it; 1 for a label that never occurs, which has no positive term to weigh."""
    positive = targets.sum(axis=0)
    return np.where(positive > 0, (len(targets) - positive) / np.maximum(positive, 1), 1.0)
