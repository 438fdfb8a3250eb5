"""What a model is trained for: a tuple of heads, and what training and prediction ask of all of them.

outputs [B, sum of C], targets by head -> row losses by head. The loss of an optimizer step is the sum, over heads and
rows, of row weight / total weight x row loss, however the rows are spread over micro-batches and ranks.

To add a kind of head: write a file beside `number.py` with what `Head` asks, and give it a row in `KINDS`. To train
several heads together: `build_task` makes the tuple, and losses, weights, targets and scores go by the name of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from textune.batches import Batch
from textune.config import Columns, PythonTask, groups_of
from textune.config import Task as TaskSection
from textune.data import LABEL, LabelMap, LabelMaps, full_names, task_maps
from textune.tasks.answers import Measures
from textune.tasks.classes import BINARY, MULTICLASS, ClassHead, build_classes
from textune.tasks.decision import USUAL, Decision
from textune.tasks.head import Head
from textune.tasks.labels import MULTILABEL, LabelHead, build_labels
from textune.tasks.language import LANGUAGE, build_language
from textune.tasks.number import REGRESSION, build_number
from textune.tasks.own import OWN, build_own, own_labels

ByHead = dict[str, torch.Tensor]
"""A tensor for each head, by its name."""


class _Kind(NamedTuple):
    """A kind of head: what builds it, and what it is measured by."""

    build: Callable[[TaskSection, str, LabelMap, np.ndarray | None, Decision], Head]
    measures: Measures


KINDS: dict[str, _Kind] = {
    "binary": _Kind(build_classes, BINARY),
    "multiclass": _Kind(build_classes, MULTICLASS),
    "multilabel": _Kind(build_labels, MULTILABEL),
    "regression": _Kind(build_number, REGRESSION),
    "language": _Kind(build_language, LANGUAGE),
    "python": _Kind(build_own, OWN),
}
"""Every kind of head: by the problem that the label map tells; `python` for a class of the user's own."""


@dataclass(frozen=True)
class Task:
    """The heads of a model, in the order of its outputs."""

    heads: tuple[Head, ...]

    @property
    def head(self) -> Head:
        """The head of a task with one head."""
        (head,) = self.heads
        return head

    @property
    def label_maps(self) -> dict[str, LabelMap]:
        """The labels of each head."""
        return {head.name: head.label_map for head in self.heads}

    @property
    def num_outputs(self) -> int:
        """Outputs of the model for all heads together."""
        return sum(head.num_outputs for head in self.heads)

    def row_losses(self, outputs: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> ByHead:
        """Loss of each row, [B] by head, unweighted; `outputs` [B, C of all heads], `targets` [B] or [B, K] by
        head."""
        return {
            head.name: head.row_losses(outputs_BC, targets[head.name])
            for head, outputs_BC in zip(self.heads, self._split(outputs), strict=True)
        }

    def row_weights(self, targets: Mapping[str, torch.Tensor], weights: torch.Tensor | None) -> ByHead:
        """Weight of each row, float32 [B] by head; `weights` are those in the data, if any: [B], or [B, H] with a
        column for each head in order."""
        by_head = weights is not None and weights.ndim > 1
        return {
            head.name: head.row_weights(
                targets[head.name], weights[:, index] if weights is not None and by_head else weights
            )
            for index, head in enumerate(self.heads)
        }

    def total_weights(self, batch: Batch) -> ByHead:
        """The weight of all rows of an optimizer batch, of all ranks, float32 [] by head."""
        if batch.all_targets is not None:
            weights = self.row_weights(batch.all_targets, batch.all_weights)
            return {name: weights_B.sum() for name, weights_B in weights.items()}
        parts = [self.row_weights(part.targets, part.weights) for part in batch.micro_batches]
        return {head.name: torch.stack([part[head.name].sum() for part in parts]).sum() for head in self.heads}

    def scores(self, outputs: torch.Tensor) -> ByHead:
        """What users see, by head: probabilities [B, K], or numbers [B]."""
        return {
            head.name: head.scores(outputs_BC)
            for head, outputs_BC in zip(self.heads, self._split(outputs), strict=True)
        }

    def _split(self, outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(self.heads) == 1:
            return (outputs,)
        return torch.split(outputs, [head.num_outputs for head in self.heads], dim=1)


def build_task(
    section: TaskSection,
    label_maps: LabelMaps,
    *,
    targets: Mapping[str, np.ndarray] | None = None,
    decisions: Mapping[str, Decision] = MappingProxyType({}),
) -> Task:
    """The task with a head for each of these label maps; `targets` (of the training rows, by head) are needed where
    class weights are `balanced`. `decisions`: the rules by which scores become answers, by head, where they are not
    the usual one.

    Raises ConfigError where the section does not fit the labels: class weights or smoothing for a regression, an
    unknown class name, targets that a sigmoid can never reach.
    """
    kinds = {
        name: section.kind if isinstance(section, PythonTask) else one.problem for name, one in label_maps.items()
    }
    return Task(
        tuple(
            KINDS[kinds[name]].build(
                section, name, label_map, None if targets is None else targets[name], decisions.get(name, USUAL)
            )
            for name, label_map in label_maps.items()
        )
    )


def with_decision(head: Head, decision: Decision) -> Head:
    """The head with this rule; a head that has nothing to decide as it is."""
    return replace(head, decision=decision) if isinstance(head, ClassHead | LabelHead) else head


def stated_labels(section: TaskSection, columns: Columns) -> dict[str, LabelMap]:
    """The label maps that a section itself states, by head, before any row is read; none where the rows decide.

    Errors as in `own_labels`.
    """
    own = own_labels(section)
    return task_maps(groups_of(section, columns)) if own is None else {LABEL: own}


def with_known_weights(section: TaskSection, task: Task) -> TaskSection:
    """The section with `balanced` class weights as the numbers that they are: without the training rows nobody could
    tell."""
    table: dict[str, float] = {}
    names = iter(full_names(task.label_maps))
    for head in task.heads:
        own = list(islice(names, len(head.labels)))
        if isinstance(head, ClassHead | LabelHead) and head.class_weights is not None:
            table |= zip(own, head.class_weights.tolist(), strict=True)
    return section.model_copy(update={"class_weights": table}) if table else section


def problems_measured_by(metric: str) -> list[str]:
    """The kinds of problem that have a metric of this name."""
    return [problem for problem, kind in KINDS.items() if metric in kind.measures.names]
