"""The keys of `task`, a section for each kind; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from textune.config.section import Section
from textune.config.values import DottedPath, Names, WholeNumbers, whole_number

ClassWeights = Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]]


class ClassLoss(Section):
    """What is minimised where the answers are classes or labels."""

    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Cross-entropy, or focal loss (arXiv:1708.02002): each class's term times (1 - its probability) ^ `gamma`, so
    that rows the model is sure of count less."""
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """Of focal loss; 0 is cross-entropy."""


class SingleLabel(ClassLoss):
    """What tasks have in common whose rows have exactly one class each."""

    few: Literal["off", "auto", "frozen", "contrastive"] = "off"
    """How a run begins that has few labels (docs/few-labels.md). `off`: it trains as any run. `frozen`: the backbone
    stays as it is, and a linear head is fitted to it, once. `contrastive`: the backbone learns from pairs of texts
    first, as SetFit does. `auto`: with fewer than 50 rows a class, cross-validation chooses one of these ways, and
    with 16 or more the usual training is among them."""


class AutoTask(SingleLabel):
    """Binary, multiclass, multilabel or regression, decided from the labels."""

    kind: Literal["auto"] = "auto"
    """Decide from the labels."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes: y(1-s)+s/C for softmax, y(1-s)+s/2 for sigmoid outputs."""
    class_weights: ClassWeights = "none"
    """`balanced` (number of rows / (classes x rows of the class)) or a table of weights by label name."""


class BinaryTask(SingleLabel):
    """Two classes."""

    kind: Literal["binary"] = "binary"
    """Two classes; the second label name is the positive one."""
    num_logits: Annotated[Literal[1, 2], BeforeValidator(whole_number)] = 2
    """Two logits with softmax, or one with sigmoid."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes."""
    class_weights: ClassWeights = "none"
    """`balanced` or a table of weights by label name."""


class MulticlassTask(SingleLabel):
    """One of several classes."""

    kind: Literal["multiclass"] = "multiclass"
    """Exactly one class per row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes."""
    class_weights: ClassWeights = "none"
    """`balanced` or a table of weights by label name."""


class MultilabelTask(ClassLoss):
    """Any number of classes."""

    kind: Literal["multilabel"] = "multilabel"
    """Any number of classes per row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target moved towards one half."""
    class_weights: ClassWeights = "none"
    """`balanced` (rows without the label / rows with it, for the positive term) or a table of weights of the positive
    term."""


class MultitaskTask(ClassLoss):
    """Several tasks at once, each with one class per row."""

    kind: Literal["multitask"] = "multitask"
    """Several tasks in one model, each with one class per row; a row need not have a label for each."""
    groups: dict[str, Names] = {}
    """The classes of each task, by its name, such as `{ tone = ["neg", "mid", "pos"], urgent = ["no", "yes"] }`.
    Labels are these names, or their positions from 0. The model's outputs are called `tone/neg`, `tone/mid`, ..."""
    group_sizes: WholeNumbers = ()
    """Instead of `groups`: the number of classes of each task, such as `[3, 2]`; labels are then integers from 0. The
    tasks are called like the columns in `data.columns.labels`, else `group_0`, `group_1`, ..."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes of its task."""
    class_weights: ClassWeights = "none"
    """`balanced` within each task, or a table of weights by class, such as `{ "tone/neg" = 2.0 }`."""


class RegressionTask(Section):
    """A number."""

    kind: Literal["regression"] = "regression"
    """A number per row."""
    loss: Literal["mse", "smooth_l1"] = "mse"
    """Squared error, or the Huber-like smooth L1 with `beta`."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Where smooth L1 turns from squared to absolute."""
    activation: Literal["linear", "sigmoid"] = "linear"
    """`sigmoid` keeps predictions between 0 and 1."""


class ConditionalLmTask(Section):
    """A language model of documents, given their metadata."""

    kind: Literal["conditional_lm"] = "conditional_lm"
    """The next token of a document, given those before it and its metadata (docs/metadata.md)."""
    metadata_loss: bool = False
    """Whether tokens of metadata count in the loss as those of the text do. By default a model reads them and is not
    asked to predict them."""


class PythonTask(Section):
    """Your own class: how labels are read, the loss, scores, decisions and metrics."""

    kind: Literal["python"] = "python"
    """A class of your own."""
    object: DottedPath
    """`package.module:Class`; what such a class must have: docs/extending.md."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class."""


Task = Annotated[
    AutoTask
    | BinaryTask
    | MulticlassTask
    | MultilabelTask
    | MultitaskTask
    | RegressionTask
    | ConditionalLmTask
    | PythonTask,
    Field(discriminator="kind"),
]


def has_label_column(task: Task) -> bool:
    """Whether a task reads its labels from one column, `data.columns.label`, unless `data.columns.labels` names
    several."""
    return isinstance(task, AutoTask | BinaryTask | MulticlassTask | MultilabelTask | RegressionTask)
