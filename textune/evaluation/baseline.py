"""What an answer that ignores the text is worth, so that a report can say whether a model beats it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from textune.evaluation.metrics import METRICS, Metric
from textune.evaluation.reduction import surprise
from textune.evaluation.render import answer, number
from textune.evaluation.scored import Scored, count_labels, one_value, pack_labels, sum_labels, unpack_labels
from textune.tasks import decide

_FALLBACK = {"binary": "accuracy", "multiclass": "accuracy", "multilabel": "subset_accuracy", "regression": "rmse"}
_KINDS = {
    "binary": "the most frequent class",
    "multiclass": "the most frequent class",
    "multilabel": "the most frequent label set",
    "regression": "the mean",
}


@dataclass(frozen=True)
class Baseline:
    """The best constant answer: the most frequent class or label set, or the mean; for probabilities, the classes' shares."""

    answer: str
    """The most frequent class or label set, or the mean, in words."""
    rule: str
    """What the baseline does: `always answering "no", the most frequent class of the training rows`."""
    metrics: dict[str, float]
    """Its value in the main metric and in the plain one (accuracy, subset_accuracy, rmse)."""
    compared: str
    """The metric in which it is compared with the model: the main one, where that is defined for a constant answer."""
    beaten: bool | None
    """Whether the model is better; None where the model's own value is undefined."""

    @property
    def value(self) -> float:
        """Its value in the metric of the comparison."""
        return self.metrics[self.compared]


def find_baseline(
    scored: Scored, names: tuple[str, ...], metric: Metric, metrics: dict[str, float], train_targets: np.ndarray | None
) -> Baseline:
    """The constant answer that the training rows suggest (or these rows, without them), and whether `metrics` beat it."""
    source = "these rows" if train_targets is None else "the training rows"
    decision, probabilities, text = _constant(scored, names, train_targets)
    plain = METRICS[_FALLBACK[scored.problem]]
    values = {}
    for wanted in (metric, plain):
        constant = decision if wanted.uses == "decisions" else probabilities
        values[wanted.name] = wanted.of(_always(scored, constant))
    compared = plain if math.isnan(values[metric.name]) else metric
    own, other = metrics[compared.name], values[compared.name]
    beaten = None if math.isnan(own) or math.isnan(other) else own > other if compared.higher_is_better else own < other
    if scored.problem == "regression" or compared.uses == "decisions":
        rule = f'always answering "{text}", {_KINDS[scored.problem]} of {source}'
    else:
        rule = f"always giving each class its share of {source} as its probability"
    return Baseline(text, rule, values, compared.name, beaten)


def _constant(scored: Scored, names: tuple[str, ...], train_targets: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, str]:
    """The constant scores for metrics of decisions, those for metrics of probabilities, and the answer in words."""
    if scored.problem == "multilabel":
        known = scored.targets if train_targets is None else pack_labels(train_targets)
        _, first, counts = np.unique(one_value(known), return_index=True, return_counts=True)
        labels = unpack_labels(known[first[counts.argmax()]], len(names)).astype(np.float64)
        chosen = tuple(names[index] for index in np.flatnonzero(labels))
        return labels, count_labels(known, len(names)) / len(known), answer(chosen)
    known = scored.targets if train_targets is None else np.asarray(train_targets)
    if scored.problem == "regression":
        mean = known.mean(dtype=np.float64)
        return np.asarray(mean), np.asarray(mean), number(float(mean))
    shares = np.bincount(known, minlength=len(names)) / len(known)
    return shares, shares, names[int(shares.argmax())]


def _always(scored: Scored, constant: np.ndarray) -> Scored:
    """The same rows, all of them given the same scores: float64 [C], or one value. Whatever can be is a view, not a copy."""
    decision: np.ndarray = decide(constant[None], scored.problem)[0]
    if scored.problem == "regression":
        return replace(scored, predictions=np.broadcast_to(decision, scored.targets.shape))
    if scored.problem == "multilabel":
        decision = np.packbits(decision)
        untrue = surprise(1 - constant)
        loss = (untrue.sum() + sum_labels(scored.targets, surprise(constant) - untrue)) / scored.num_classes
    else:
        loss = surprise(constant)[scored.targets]
    return replace(
        scored,
        predictions=np.broadcast_to(decision, scored.targets.shape),
        loss=loss,
        sureness=None,
        suspect=None,
        scores=None if scored.scores is None else np.broadcast_to(constant, scored.scores.shape),
        sample=None if scored.sample is None else _always(scored.sample, constant),
    )
