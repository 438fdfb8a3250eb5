"""The metrics by name: how each is computed, and all values of one evaluation; before `naming.py` and `report.py`.

Precision, recall and F are 0 where nothing is predicted or nothing is true (scikit-learn's `zero_division=0`), and so
is Matthews' correlation of a constant prediction. A ranking metric without rows of both kinds, or a correlation of
constant values, is NaN; `Metric.undefined` says when. `macro` is taken over the classes that occur in targets or
predictions (multilabel: over all labels), ranking metrics over the classes that occur in the targets. Where rows x
classes are too many (`reduction.MAX_SCORES`), ranking metrics are those of a random part of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from textune.evaluation import formulas
from textune.evaluation.formulas import Formula, averaged, class_areas, f_measure, precision, recall
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import UNDEFINED
from textune.tasks import BYTES, CHARACTERS

if TYPE_CHECKING:
    from textune.tasks import Answers, Measures, OwnFunction


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are."""

    name: str
    higher_is_better: bool
    """If so the best value is 1, otherwise 0."""
    function: Formula
    """`(scored) -> float`; NaN where undefined."""
    description: str
    uses: Literal["decisions", "scores", "ranks"] = "decisions"
    """What of the scores it looks at: the decisions alone, each row's scores, or their order over all rows."""
    undefined: str = ""
    """When the value is NaN, as the end of a sentence; empty: never."""
    share: Callable[[Scored], tuple[int, int]] | None = None
    """Where the value is a share of rows: how many of how many."""
    bounded: bool = True
    """Whether no value is better than 1, or than 0 where lower is better."""
    needs_losses: bool = False
    """Whether it needs the task's own losses, which are computed only for those who ask."""
    parts: tuple[Metric, ...] = ()
    """What it is the mean of, if it is one."""

    def rows(self, scored: Scored) -> Scored:
        """The rows that it is measured on: all, or those whose scores are kept where it ranks them."""
        return scored.ranked if self.uses == "ranks" else scored

    def units(self, scored: Scored) -> Scored:
        """These rows; for a metric of decisions, which gives the same for both, their few cells."""
        return scored.cells if self.uses == "decisions" else self.rows(scored)

    def of(self, scored: Scored) -> float:
        """Its value; NaN where undefined. A mean takes each part's own rows."""
        if self.parts:
            return sum(part.of(scored) for part in self.parts) / len(self.parts)
        return self.function(self.rows(scored))


_ONE_KIND = "no class has both rows that belong to it and rows that do not"
_CONSTANT = "the targets or the predictions are all the same"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, formulas.right, "share of rows that are right", share=formulas.right_rows),
        Metric("balanced_accuracy", True, formulas.balanced_accuracy, "mean recall of the classes"),
        Metric(
            "precision",
            True,
            averaged(precision, "second"),
            "share of rows predicted positive that are",
            share=formulas.found_of_predicted,
        ),
        Metric(
            "recall",
            True,
            averaged(recall, "second"),
            "share of positive rows that are found",
            share=formulas.found_of_true,
        ),
        Metric("f1", True, averaged(f_measure(1), "second"), "harmonic mean of precision and recall"),
        Metric(
            "f_half",
            True,
            averaged(f_measure(0.5), "second"),
            "F0.5: precision counts twice as much as recall",
        ),
        Metric("f1_macro", True, averaged(f_measure(1), "macro"), "mean F1 of the classes"),
        Metric("f1_micro", True, averaged(f_measure(1), "micro"), "F1 of the counts summed over the classes"),
        Metric(
            "f1_weighted", True, averaged(f_measure(1), "weighted"), "mean F1 of the classes, weighted by their rows"
        ),
        Metric("f1_samples", True, averaged(f_measure(1), "samples"), "mean F1 of the rows' label sets"),
        Metric("precision_macro", True, averaged(precision, "macro"), "mean precision of the classes"),
        Metric("precision_micro", True, averaged(precision, "micro"), "precision of the summed counts"),
        Metric("precision_weighted", True, averaged(precision, "weighted"), "mean precision, weighted by rows"),
        Metric("precision_samples", True, averaged(precision, "samples"), "mean precision of the rows' label sets"),
        Metric("recall_macro", True, averaged(recall, "macro"), "mean recall of the classes"),
        Metric("recall_micro", True, averaged(recall, "micro"), "recall of the summed counts"),
        Metric("recall_weighted", True, averaged(recall, "weighted"), "mean recall, weighted by rows"),
        Metric("recall_samples", True, averaged(recall, "samples"), "mean recall of the rows' label sets"),
        Metric("f_half_macro", True, averaged(f_measure(0.5), "macro"), "mean F0.5 of the classes"),
        Metric(
            "subset_accuracy",
            True,
            formulas.right,
            "share of rows with every label right",
            share=formulas.right_rows,
        ),
        Metric("hamming_loss", False, formulas.hamming_loss, "share of (row, label) pairs that are wrong"),
        Metric("mcc", True, formulas.matthews, "Matthews' correlation of predicted and true classes"),
        Metric(
            "roc_auc",
            True,
            formulas.area("roc_auc"),
            "area under the ROC curve, each class against the rest",
            "ranks",
            _ONE_KIND,
        ),
        Metric(
            "average_precision",
            True,
            formulas.area("average_precision"),
            "area under the precision-recall steps, each class against the rest",
            "ranks",
            "no row belongs to the class",
        ),
        Metric(
            "average_precision_micro",
            True,
            formulas.average_precision_micro,
            "area under the precision-recall steps of all (row, label) pairs",
            "ranks",
            "no row has a label",
        ),
        Metric("log_loss", False, formulas.log_loss, "mean negative log probability of what is true", "scores"),
        Metric(
            "loss",
            False,
            formulas.loss,
            "mean of the task's own loss, each row weighted by its class as in training",
            "scores",
            "no row has a weight in it",
            needs_losses=True,
        ),
        Metric("brier", False, formulas.brier, "mean squared error of the positive probability", "scores"),
        Metric("pearson", True, formulas.pearson, "linear correlation", "scores", _CONSTANT),
        Metric("spearman", True, formulas.spearman, "correlation of the ranks", "ranks", _CONSTANT),
        Metric("r2", True, formulas.r2, "share of the variance that is explained", "scores", "there is only one row"),
        Metric("rmse", False, formulas.root_mean_squared_error, "root of the mean squared error", "scores"),
        Metric("mse", False, formulas.mean_squared_error, "mean squared error", "scores"),
        Metric("mae", False, formulas.mean_absolute_error, "mean absolute error", "scores"),
        Metric(
            "mape",
            False,
            formulas.mean_absolute_percentage_error,
            "mean absolute error as a share of the target",
            "scores",
            "a target is 0",
        ),
        Metric(
            "bits_per_character",
            False,
            formulas.bits_per(CHARACTERS),
            "negative log2-likelihood of the text / its characters",
            "scores",
            "no character is scored",
        ),
        Metric(
            "bits_per_byte",
            False,
            formulas.bits_per(BYTES),
            "negative log2-likelihood of the text / its bytes in UTF-8",
            "scores",
            "no byte is scored",
        ),
        Metric(
            "perplexity",
            False,
            formulas.perplexity,
            "exp(negative log-likelihood of the text / its tokens); depends on the tokenizer",
            "scores",
            "no token is scored",
            bounded=False,
        ),
    )
}
"""Every metric, in the order of reports."""

MEAN_OF, AND = "mean_of_", "_and_"
"""What the name of a mean of metrics is made of, such as `mean_of_f1_and_accuracy`."""
_DEMANDS = ("decisions", "scores", "ranks")


def own_metrics(measures: Measures) -> tuple[Metric, ...]:
    """The metrics that the user's own task defines."""
    return tuple(
        _own_metric(name, own.function, higher_is_better=own.higher_is_better) for name, own in measures.own.items()
    )


def _own_metric(name: str, function: OwnFunction, *, higher_is_better: bool) -> Metric:
    return Metric(
        name,
        higher_is_better,
        partial(formulas.own, function),
        "a metric of the task's own code",
        "ranks",  # it is given the scores of its rows, as far as these are kept
        "the task's own code gives no number",
        bounded=False,
    )


def mean_of(metrics: Sequence[Metric]) -> Metric:
    """The mean of several metrics of one direction, as GLUE's combined score is that of F1 and accuracy; undefined
    where one of them is."""
    names = [metric.name for metric in metrics]
    return Metric(
        MEAN_OF + AND.join(names),
        metrics[0].higher_is_better,
        lambda scored: sum(metric.function(scored) for metric in metrics) / len(metrics),
        f"mean of {' and '.join(names)}",
        max((metric.uses for metric in metrics), key=_DEMANDS.index),
        "one of them is",
        bounded=all(metric.bounded for metric in metrics),
        needs_losses=any(metric.needs_losses for metric in metrics),
        parts=tuple(metrics),
    )


def metric_called(name: str) -> Metric:
    """The metric that reports know under this name; one of a user's own task without its formula."""
    if name.startswith(MEAN_OF):
        return mean_of([metric_called(part) for part in name.removeprefix(MEAN_OF).split(AND)])
    return METRICS.get(name) or _own_metric(name, lambda *_: UNDEFINED, higher_is_better=True)


def metrics_for(answers: Answers) -> tuple[Metric, ...]:
    """The metrics of every report on answers of this kind, in their order: those of the user's own task come first."""
    known = tuple(metric for metric in METRICS.values() if metric.name in answers.measures.names)
    return (*own_metrics(answers.measures), *known)


def compute_metrics(scored: Scored, main: Metric | None = None) -> dict[str, float]:
    """All metrics of the rows by name, NaN where undefined; `main` is among them, whatever it is."""
    values = {metric.name: metric.of(scored) for metric in metrics_for(scored.answers)}
    return values if main is None or main.name in values else {**values, main.name: main.of(scored)}


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class, or label, is recognised."""

    name: str
    support: int
    """Rows that belong to it."""
    predicted: int
    """Rows predicted as it."""
    correct: int
    """Rows that are both."""
    precision: float
    recall: float
    f1: float
    roc_auc: float
    """Against the rest; NaN without rows of both kinds (as for all ranking metrics: among the rows that are
    ranked)."""
    average_precision: float
    """Against the rest; NaN without a row that belongs to it."""


def per_class(scored: Scored) -> tuple[ClassMetrics, ...]:
    """Counts and metrics of each class in the order of their ids; empty for regression."""
    if scored.answers.choices is None:
        return ()
    counts = scored.counts
    precision_C, recall_C, f1_C = precision(counts), recall(counts), f_measure(1)(counts)
    areas = class_areas(scored.ranked, range(scored.num_classes))
    return tuple(
        ClassMetrics(
            name=name,
            support=int(counts.true[index]),
            predicted=int(counts.predicted[index]),
            correct=int(counts.correct[index]),
            precision=float(precision_C[index]),
            recall=float(recall_C[index]),
            f1=float(f1_C[index]),
            roc_auc=float(areas.roc_auc[index]),
            average_precision=float(areas.average_precision[index]),
        )
        for index, name in enumerate(scored.head.labels)
    )
