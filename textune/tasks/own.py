"""A head of the user's own: a class that the configuration names reads labels and computes the loss, scores,
decisions and metrics.

`OwnTask` is what such a class must have. It chooses one of textune's kinds of answers, and with it the form of targets
and scores, what an evaluation keeps of each row, and a report; everything else is its own. docs/extending.md has an
example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import numpy as np
import torch

from textune.config import PythonTask, Task
from textune.data import LABEL, LabelMap, OwnLabels, Problem
from textune.owncode import OwnObject, article
from textune.tasks.answers import Answers, Measures, OwnFunction, OwnMeasure, are_probabilities
from textune.tasks.classes import ClassAnswers
from textune.tasks.decision import USUAL, Decision
from textune.tasks.labels import LabelAnswers
from textune.tasks.number import NumberAnswers
from textune.wording import listing, nearest, repeated_names


class OwnTask(Protocol):
    """What the class must have. Shapes: B or N rows, C outputs, K labels.

    For the kinds of answers `binary` and `multiclass` targets and decisions are class ids [B] and scores are
    probabilities [B, K]; for `multilabel` all are [B, K]; for `regression` all are numbers [B].
    """

    answers: Literal["binary", "multiclass", "multilabel", "regression"]
    """The kind of answers."""
    labels: Sequence[str]
    """Names of the labels in the order of their ids; for `regression` one name."""

    # Optional: `outputs` (names of the model's outputs; by default the labels), `metrics` (a function by name, the
    # first of which is the main metric) and `lower_is_better` (names of those metrics of which less is better).

    def target(self, label: object) -> object:
        """The target of one label as it is written in the data; ValueError, with the reason, for one that cannot be
        used."""

    def row_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each row, [B], of outputs [B, C] by itself: no mean over the rows, or micro-batches would
        count."""

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """What users see of outputs [B, C]."""

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The answers that the scores give, in the form of targets."""


METHODS = {
    "target": ("label",),
    "row_losses": ("outputs", "targets"),
    "scores": ("outputs",),
    "decide": ("scores",),
}
"""The methods of `OwnTask` with their arguments."""
OWN = Measures((), main="", plain="", constant="")
"""Which metrics such a head has follows from the class."""
_ANSWERS: dict[str, type[ClassAnswers | LabelAnswers | NumberAnswers]] = {
    "binary": ClassAnswers,
    "multiclass": ClassAnswers,
    "multilabel": LabelAnswers,
    "regression": NumberAnswers,
}
_METRIC_NAME = re.compile("[a-z][a-z0-9_]*")
_NUM_LABELS = {"binary": (2, 2), "multiclass": (2, None), "multilabel": (2, None), "regression": (1, 1)}
"""The fewest and the most labels."""


@dataclass(frozen=True)
class OwnHead:
    """The head that asks an object of the user's class; what it returns is checked at every call."""

    label_map: LabelMap
    answers: Answers
    num_outputs: int
    own: OwnTask = field(repr=False)
    code: OwnObject
    name: str = LABEL

    @property
    def labels(self) -> tuple[str, ...]:
        """As the class names them."""
        return self.label_map.names

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each row, [B]; CodeError where the class returns something else."""
        with self.code.calling("in row_losses"):
            losses = self.own.row_losses(outputs_BC, targets)
        wanted = tuple(outputs_BC.shape[:1])
        if not isinstance(losses, torch.Tensor) or not losses.is_floating_point() or losses.shape != wanted:
            hint = (
                'Return the loss of each row by itself (in PyTorch: reduction="none"); textune weighs and sums them.'
            )
            raise self._wrong("row_losses", losses, f"one loss for each of the {wanted[0]} rows, [{wanted[0]}]", hint)
        if outputs_BC.requires_grad and not losses.requires_grad:
            hint = "Compute them from the outputs in PyTorch, without detach(), item() or numpy."
            raise self.code.error("row_losses returns losses without a gradient", hint=hint, value="row_losses")
        return losses

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Weight of each row in the data, float32 [B]."""
        return torch.ones(len(targets), device=targets.device) if weights_B is None else weights_B

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Probabilities [B, K] or numbers [B], as the answers need them; CodeError where the class returns something
        else."""
        with self.code.calling("in scores"):
            scores = self.own.scores(outputs_BC)
        wanted = self.answers.score_shape(len(outputs_BC))
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != wanted:
            raise self._wrong("scores", scores, f"scores of shape {list(wanted)}")
        if self.answers.choices is not None and len(scores):
            lowest, highest = scores.min().item(), scores.max().item()
            if not are_probabilities(lowest, highest):
                reason = f"scores returns numbers from {lowest:g} to {highest:g}, but must return probabilities"
                hint = "Turn outputs into probabilities from 0 to 1, such as by torch.softmax or torch.sigmoid."
                raise self.code.error(reason, hint=hint, value="scores")
        return scores

    @property
    def decision(self) -> Decision:
        """The class decides by itself."""
        return USUAL

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """The scores as they are."""
        return scores

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Answers in the form of targets; CodeError where the class returns something else."""
        with self.code.calling("in decide"):
            decided = np.asarray(self.own.decide(scores.copy()))  # a copy: the class may write to it
        wanted = self.answers.target_shape(len(scores))
        exact = self.label_map.exclusive
        if decided.shape != wanted or decided.dtype.kind not in ("iu" if exact else "iufb"):
            ids = "class ids" if exact else "answers"
            raise self._wrong("decide", decided, f"{ids} of shape {list(wanted)}")
        if exact and len(decided) and not 0 <= decided.min() <= decided.max() < len(self.labels):
            raise self.code.error(f"decide returns class ids from {decided.min()} to {decided.max()}", value="decide")
        return decided

    def _wrong(self, method: str, found: object, wanted: str, hint: str = "") -> Exception:
        shape = getattr(found, "shape", None)
        kind = article(found) if shape is None else f"{found.dtype} of shape {list(shape)}"  # type: ignore[attr-defined]
        return self.code.error(f"{method} returns {kind}, but must return {wanted}", hint=hint, value=method)


def own_labels(section: Task) -> LabelMap | None:
    """The labels of a task of the user's own, with how it reads them, before any data is read; None for other tasks.

    CodeError where there is no such class, where it does not have all of `OwnTask`, or does not take its options.
    """
    return _open(section)[1] if isinstance(section, PythonTask) else None


def build_own(
    section: Task, name: str, label_map: LabelMap, targets: np.ndarray | None, decision: Decision
) -> OwnHead:
    """The head of the user's class, which decides by itself; arguments as in `build_task`.

    CodeError as in `own_labels`, and where the labels are not those of the class (any more).
    """
    assert isinstance(section, PythonTask)
    code, known, own = _open(section)
    if known != label_map:
        raise code.error(f"it has the labels {known}, but the model was trained with {label_map}", value=known.names)
    label_map = known
    kind = _ANSWERS[label_map.problem]
    assert label_map.own is not None
    answers = kind(label_map, _measures(code, own, kind(label_map).measures))
    return OwnHead(label_map, answers, len(label_map.own.outputs), own, code, name)


def _open(section: PythonTask) -> tuple[OwnObject, LabelMap, OwnTask]:
    code = OwnObject.find(section.object, key="task.object")
    code.require_class(METHODS)
    own: OwnTask = code.build(section.options)
    given = _attribute(code, own, "answers")
    problem = next((known for known in get_args(Problem) if known == given and known in _ANSWERS), None)
    if problem is None:
        near = nearest(str(given), _ANSWERS)
        hint = f"Did you mean {near!r}?" if near else ""
        raise code.error(f"answers = {given!r:.60} is not one of {listing(_ANSWERS)}", hint=hint, value=given)
    labels = _names(code, "labels", _attribute(code, own, "labels"))
    fewest, most = _NUM_LABELS[problem]
    if len(labels) < fewest or (most is not None and len(labels) > most):
        wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
        raise code.error(f"{problem} answers need {wanted} labels, but there are {len(labels)}", value=labels)
    outputs = _names(code, "outputs", getattr(own, "outputs", labels))
    metrics = getattr(own, "metrics", {})
    if not isinstance(metrics, Mapping) or not all(isinstance(n, str) and callable(f) for n, f in metrics.items()):
        raise code.error("metrics is not a dictionary of functions by name", value=metrics)

    def read(label: object, place: str) -> object:
        with code.calling(f"in target({label!r:.40}), the label of {place}", passing=(ValueError,)):
            return own.target(label)

    return code, LabelMap(problem, labels, own=OwnLabels(read, outputs)), own


def _attribute(code: OwnObject, own: OwnTask, name: str) -> object:
    if not hasattr(own, name):
        raise code.error(f"the class {type(own).__name__} has no attribute {name}", value=name)
    return getattr(own, name)


def _names(code: OwnObject, attribute: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(n, str) for n in given):
        raise code.error(f"{attribute} = {given!r:.60} is not a list of names", value=given)
    if not given or "" in given or (twice := repeated_names(given)):
        what = "is empty" if not given else "has an empty name" if "" in given else f"repeats {listing(twice)}"
        raise code.error(f"{attribute} {what}", value=given)
    return tuple(given)


def _measures(code: OwnObject, own: OwnTask, usual: Measures) -> Measures:
    """The metrics of the kind of answers, and those of the class: the first of these is the main one."""
    functions: Mapping[str, OwnFunction] = getattr(own, "metrics", {})
    lower = getattr(own, "lower_is_better", ())
    lower = (lower,) if isinstance(lower, str) else lower
    if not isinstance(lower, Sequence):
        raise code.error(f"lower_is_better = {lower!r:.60} is not a list of names", value=lower)
    for name, function in functions.items():
        if name in (*usual.names, "loss", "auto"):
            raise code.error(f"metrics names {name!r}, which is one of textune's own metrics", value=name)
        if not _METRIC_NAME.fullmatch(name) or "_and_" in name:
            raise code.error(
                f"metrics names {name!r}: a name is one word of a-z, 0-9 and _, without _and_", value=name
            )
        code.require_call(function, ("targets", "decisions", "scores"), {}, f"metrics.{name}")
    for name in lower:
        if name not in functions:
            near = nearest(name, functions)
            raise code.error(
                f"lower_is_better names {name!r}, which is not one of its metrics",
                hint=f"Did you mean {near!r}?" if near else "",
                value=name,
            )
    if not functions:
        return usual
    own_measures = {
        name: OwnMeasure(_checked(code, name, function), name not in lower) for name, function in functions.items()
    }
    return replace(usual, names=(*functions, *usual.names), main=next(iter(functions)), own=own_measures)


def _checked(code: OwnObject, name: str, function: OwnFunction) -> OwnFunction:
    def measure(targets: np.ndarray, decisions: np.ndarray, scores: np.ndarray) -> float:
        with code.calling(f"in the metric {name}"):
            given = function(targets.copy(), decisions.copy(), scores.copy())
        value = (
            given.item() if isinstance(given, np.ndarray | np.generic | torch.Tensor) and given.ndim == 0 else given
        )
        if not isinstance(value, int | float):
            raise code.error(f"the metric {name} returns {article(given)}, but must return one number", value=name)
        return float(value) if math.isfinite(value) else math.nan

    return measure
