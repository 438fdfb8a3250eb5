"""The report on one evaluation: what was measured, how sure that is, what it is worth, and where the model errs.

scored rows -> metrics, interval, baseline, classes, confusions, mistakes, curves -> `render/`: JSON, Markdown, console
documents   -> metrics, interval, how much was scored, the hardest documents
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from textune.data import LabelMap
from textune.evaluation.baseline import Baseline, find_baseline
from textune.evaluation.curves import Curves, find_curves
from textune.evaluation.decisionpart import DecisionPart, decision_part
from textune.evaluation.drawn import Drawn, find_drawn
from textune.evaluation.hardest import Amounts, HardDocument, amounts_of, find_hardest
from textune.evaluation.intervals import Interval, confidence_interval
from textune.evaluation.lift import Lift
from textune.evaluation.metrics import ClassMetrics, Metric, compute_metrics, metric_called, per_class
from textune.evaluation.mistakes import EvaluatedRows, Mistake, find_mistakes
from textune.evaluation.reduction import ranking_note
from textune.evaluation.scored import Scored
from textune.evaluation.slices import Slice
from textune.evaluation.undefined import is_undefined, to_json
from textune.evaluation.wording import headline, number
from textune.wording import count, listing

if TYPE_CHECKING:
    from textune.data import Problem
    from textune.tasks import Answers

MAX_MATRIX = 200
"""Classes up to which the whole confusion matrix is kept."""
MAX_CONFUSIONS = 100
"""Confusions kept, most frequent first."""
MAX_NAMES = 5
"""Class names in one note."""


class Confusion(NamedTuple):
    """Rows of one class that were taken for another."""

    true: str
    predicted: str
    rows: int


@dataclass(frozen=True, repr=False)
class Report:
    """Everything known about one evaluation. It holds no scores, and at most `MAX_TEXT` characters of each text."""

    problem: Problem | Literal["multitask"]
    names: tuple[str, ...]
    dataset: str
    """What was evaluated, for a reader."""
    fingerprint: str
    num_rows: int
    metric: str
    """Name of the main metric."""
    interval: tuple[float, float] | None
    """95 % interval of the main metric over the choice of rows."""
    interval_method: str
    """How it was made (intervals.py); empty without one."""
    metrics: dict[str, float]
    """All metrics of the problem by name; NaN where undefined."""
    baseline: Baseline | None
    """What a constant answer reaches; None where none says anything, as of a language model."""
    classes: tuple[ClassMetrics, ...]
    """In the order of `names`; empty for regression."""
    train_support: tuple[int, ...] | None
    """Training rows of each class, where known."""
    matrix: tuple[tuple[int, ...], ...] | None
    """Rows by true (outer) and predicted class; None for many classes, multilabel and regression."""
    confusions: tuple[Confusion, ...]
    """The most frequent confusions, binary and multiclass."""
    num_mistakes: int | None
    """Rows with a wrong answer (multilabel: in any label); None for regression and for a language model."""
    mistakes: tuple[Mistake, ...]
    """The most confident ones, worst first; regression: the largest errors."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    num_left_out: int = 0
    """Rows that are not among `num_rows`: they could not be used, or were too long."""
    curves: tuple[Curves, ...] = ()
    """For the classes with the most rows (binary: the second class); empty for regression."""
    drawn: Drawn = field(default_factory=Drawn)
    """What else a page draws: confidence, coverage, predicted beside true numbers."""
    higher_is_better: bool = True
    """Whether a larger value of the main metric is better."""
    decision: DecisionPart | None = None
    """What the decision makes of these rows; None where that is the usual one."""
    lifts: tuple[Lift, ...] = ()
    """What each column of `data.metadata` is worth; empty without such columns."""
    amounts: Amounts | None = None
    """Of a language model: how much of the documents was scored. Its rows are documents."""
    hardest: tuple[HardDocument, ...] = ()
    """Of a language model: the documents with the most bits per character, the worst first."""
    slices: tuple[Slice, ...] = ()
    """The main metric on the rows by length, then by each column of `evaluate.slices`."""
    tasks: Mapping[str, Report] = field(default_factory=dict)
    """Of several tasks, a report on the rows that have a label for each of them; the fields above are then means over
    the tasks, and there are no classes, confusions or mistakes of all together."""

    @property
    def value(self) -> float:
        """The main metric's value."""
        return self.metrics[self.metric]

    def headline(self) -> str:
        """The main metric with its interval and the baseline, in one line."""
        baseline = None if self.baseline is None else (self.baseline.compared, self.baseline.value)
        return headline(self.metric, self.value, self.interval, baseline, count(self.num_rows, self.unit))

    def __repr__(self) -> str:
        return f"<Report{f' of {self.dataset}' if self.dataset else ''}: {self.headline()}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from textune.evaluation.render import cell

        return cell.render({"": self})

    @property
    def unit(self) -> str:
        """What a row is."""
        return "row" if self.amounts is None else "document"

    @property
    def label_map(self) -> LabelMap:
        """The labels and their kind; of several tasks, those of each are in its own report."""
        assert self.problem != "multitask", "each task has labels of its own"
        return LabelMap(self.problem, self.names)

    def about(self) -> str:
        """The kind of problem, in words."""
        if self.amounts is not None:
            amounts = (count(self.amounts.tokens, "token"), count(self.amounts.characters, "character"))
            return f"language model, scored on {' and '.join(amounts)}"
        return f"{len(self.tasks)} tasks: {listing(self.tasks, 8)}" if self.tasks else self.label_map.about()

    def worst_classes(self) -> list[int]:
        """Class numbers by F1, lowest first; classes without rows last."""
        return sorted(
            range(len(self.classes)), key=lambda index: (self.classes[index].support == 0, self.classes[index].f1)
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it: NaN as None, plain Python numbers."""
        classes = [asdict(row) for row in self.classes]
        for row, support in zip(classes, self.train_support or (), strict=False):
            row["train_support"] = support
        plain: dict[str, Any] = to_json(
            {
                "version": 1,
                "dataset": self.dataset,
                "fingerprint": self.fingerprint,
                "problem": self.problem,
                "names": self.names,
                "rows": self.num_rows,
                "rows_left_out": self.num_left_out,
                "main": {
                    "metric": self.metric,
                    "value": self.value,
                    "interval_95": self.interval,
                    "interval_method": self.interval_method or None,
                    "higher_is_better": self.higher_is_better,
                },
                "metrics": self.metrics,
                "baseline": None if self.baseline is None else asdict(self.baseline),
                "classes": classes,
                "confusion_matrix": self.matrix,
                "confusions": [confusion._asdict() for confusion in self.confusions],
                "num_mistakes": self.num_mistakes,
                "mistakes": [asdict(mistake) for mistake in self.mistakes],
                "warnings": self.warnings,
                "notes": self.notes,
                "curves": [asdict(curves) for curves in self.curves],
                "drawn": self.drawn.to_dict(),
            }
        )
        if self.amounts is not None:
            hardest = [asdict(document) for document in self.hardest]
            plain |= {"amounts": asdict(self.amounts), "hardest": to_json(hardest)}
        plain |= {"decision": to_json(asdict(self.decision))} if self.decision is not None else {}
        plain |= {"slices": to_json([asdict(one) for one in self.slices])} if self.slices else {}
        plain |= {"lifts": to_json([asdict(lift) for lift in self.lifts])} if self.lifts else {}
        return plain | ({"tasks": {name: task.to_dict() for name, task in self.tasks.items()}} if self.tasks else {})


def build_report(
    scored: Scored,
    rows: EvaluatedRows,
    *,
    metric: Metric,
    train_targets: np.ndarray | None = None,
    bootstrap: int = 1000,
    mistakes: int = 20,
    seed: int = 0,
) -> Report:
    """Report on one evaluation.

    - `metric`: the main one.
    - `train_targets`: the baseline answers from them, and they give the class balance of training.
    - `bootstrap`: draws or resamples for the interval, 0 for none; `seed` makes them repeatable.
    - `mistakes`: how many to keep; of a language model, how many of the hardest documents.

    Memory: a few arrays of N numbers, and as much again as the scores that are kept. Time: mostly sorting these by
    class.
    """
    labels = scored.head.label_map
    metrics = compute_metrics(scored, metric)
    interval = confidence_interval(metric, scored, samples=bootstrap, seed=seed)
    baseline = find_baseline(scored, metric, metrics, train_targets)
    classes = per_class(scored)
    matrix, confusions = _confusions(scored)
    amounts = amounts_of(scored)
    return Report(
        problem=labels.problem,
        names=labels.names,
        dataset=rows.dataset,
        fingerprint=rows.fingerprint,
        num_rows=len(scored),
        metric=metric.name,
        interval=interval.limits,
        interval_method=interval.method,
        metrics=metrics,
        baseline=baseline,
        classes=classes,
        train_support=_train_support(scored.answers, train_targets),
        matrix=matrix,
        confusions=confusions,
        num_mistakes=int((~scored.right).sum()) if labels.choices else None,
        mistakes=() if amounts else find_mistakes(scored, rows, limit=mistakes),
        warnings=(*baseline_warnings(baseline, metrics), *rows.warnings),
        notes=(
            *_metric_notes(metric, metrics, interval, baseline),
            *_class_notes(classes),
            *scored.answers.notes(scored.targets, scored.predictions),
            *filter(None, [ranking_note(len(scored), len(scored.ranked))]),
        ),
        num_left_out=rows.num_left_out,
        curves=find_curves(scored),
        decision=decision_part(scored),
        drawn=find_drawn(scored),
        higher_is_better=metric.higher_is_better,
        amounts=amounts,
        hardest=find_hardest(scored, rows, limit=mistakes),
    )


def _train_support(answers: Answers, train_targets: np.ndarray | None) -> tuple[int, ...] | None:
    if train_targets is None or answers.choices is None:
        return None
    return tuple(int(count) for count in answers.choices.support(answers.store(train_targets)))


def _confusions(scored: Scored) -> tuple[tuple[tuple[int, ...], ...] | None, tuple[Confusion, ...]]:
    names = scored.head.labels
    if not scored.head.label_map.exclusive:
        return None, ()
    cells = scored.cells
    true, predicted, counts = cells.targets, cells.predictions, np.asarray(cells.weights)
    matrix = None
    if len(names) <= MAX_MATRIX:
        dense = np.zeros((len(names), len(names)), dtype=np.int64)
        dense[true, predicted] = counts
        matrix = tuple(tuple(row) for row in dense.tolist())
    order = np.argsort(-counts, kind="stable")
    order = order[true[order] != predicted[order]][:MAX_CONFUSIONS]
    return matrix, tuple(Confusion(names[true[cell]], names[predicted[cell]], int(counts[cell])) for cell in order)


def baseline_warnings(baseline: Baseline | None, metrics: dict[str, float]) -> tuple[str, ...]:
    if baseline is None or baseline.beaten is not False:
        return ()
    own = f"its {baseline.compared} is {number(metrics[baseline.compared])}"
    other = f"{baseline.rule}, gives {number(baseline.value)}"
    return (f"The model does not beat a constant answer: {own}, while {other}.",)


def _metric_notes(
    metric: Metric, metrics: dict[str, float], interval: Interval, baseline: Baseline | None
) -> list[str]:
    notes = []
    for name, value in metrics.items():
        if is_undefined(value):
            notes.append(f"{name} is undefined here: {metric_called(name).undefined}.")
    notes += interval_notes(metric.name, interval, baseline)
    if interval.limits is None or baseline is None:
        return notes
    if metric.name != baseline.compared or baseline.beaten is False or "accuracy" not in baseline.metrics:
        return notes
    if metrics["accuracy"] <= baseline.metrics["accuracy"]:
        notes.append(
            f'Always answering "{baseline.answer}" has accuracy {number(baseline.metrics["accuracy"])}, '
            f"the model {number(metrics['accuracy'])}."
        )
    return notes


def interval_notes(metric: str, interval: Interval, baseline: Baseline | None) -> list[str]:
    """Why there is no interval, or what it says about the constant answer."""
    if interval.limits is None:
        return [f"There is no interval for {metric}: {interval.reason}."] if interval.reason else []
    if baseline is None:
        return []
    inside = interval.limits[0] <= baseline.value <= interval.limits[1]
    if not (baseline.beaten and baseline.compared == metric and inside):
        return []
    return [
        f"The constant answer's {metric} ({number(baseline.value)}) lies inside the interval: "
        "on so few rows the model's lead may be chance."
    ]


def _class_notes(classes: tuple[ClassMetrics, ...]) -> list[str]:
    absent = [row.name for row in classes if row.support == 0]
    unseen = [row.name for row in classes if row.support > 0 and row.predicted == 0]
    notes = []
    if absent:
        notes.append(
            f"No row here belongs to {_some(absent, len(classes))}: how well such rows are found is not measured."
        )
    if unseen:
        notes.append(f"The model never answers {_some(unseen, len(classes))}.")
    return notes


def _some(names: list[str], total: int) -> str:
    listed = ", ".join(f'"{name}"' for name in names[:MAX_NAMES])
    if len(names) == 1:
        return listed
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)} of {total} classes ({listed}{more})"
