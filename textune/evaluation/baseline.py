"""What an answer that ignores the text is worth, so that a report can say whether a model beats it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from textune.evaluation.metrics import METRICS, Metric
from textune.evaluation.scored import Scored, scored_rows
from textune.evaluation.wording import answer, number

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
    known = scored.targets if train_targets is None else np.asarray(train_targets)
    source = "these rows" if train_targets is None else "the training rows"
    decision, probabilities, text = _constant(scored, names, known)
    plain = METRICS[_FALLBACK[scored.problem]]
    values = {}
    for wanted in (metric, plain):
        constant = decision if wanted.uses == "decisions" else probabilities
        always = scored_rows(scored.problem, scored.targets, np.broadcast_to(constant, scored.scores.shape))
        values[wanted.name] = wanted.of(always)
    compared = plain if math.isnan(values[metric.name]) else metric
    own, other = metrics[compared.name], values[compared.name]
    beaten = None if math.isnan(own) or math.isnan(other) else own > other if compared.higher_is_better else own < other
    if scored.problem == "regression" or compared.uses == "decisions":
        rule = f'always answering "{text}", {_KINDS[scored.problem]} of {source}'
    else:
        rule = f"always giving each class its share of {source} as its probability"
    return Baseline(text, rule, values, compared.name, beaten)


def _constant(scored: Scored, names: tuple[str, ...], known: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """The constant scores for metrics of decisions, those for metrics of probabilities, and the answer in words."""
    if scored.problem == "regression":
        mean = np.float64(known.mean(dtype=np.float64))
        return np.asarray(mean), np.asarray(mean), number(float(mean))
    if scored.problem == "multilabel":
        bits, counts = np.unique(np.packbits(known > 0.5, axis=1), axis=0, return_counts=True)
        labels = np.unpackbits(bits[counts.argmax()], count=len(names)).astype(np.float64)
        chosen = tuple(names[index] for index in np.flatnonzero(labels))
        return labels, (known > 0.5).mean(axis=0), answer(chosen)
    shares = np.bincount(known, minlength=len(names)) / len(known)
    return shares, shares, names[int(shares.argmax())]
