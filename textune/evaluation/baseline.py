"""How good a constant answer is, so that a report can say whether the model beats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import METRICS, Metric
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import UNDEFINED, is_better, is_undefined, mean_of_defined
from textune.evaluation.wording import answer
from textune.tasks import USUAL, Head, with_decision

THESE_ROWS, TRAINING_ROWS = "these rows", "the training rows"
"""What a constant answer follows from."""


@dataclass(frozen=True)
class Baseline:
    """The best constant answer: the most frequent class or label set, or the mean; for probabilities, the classes'
    shares."""

    answer: str
    """The most frequent class or label set, or the mean, in words."""
    rule: str
    """What the baseline does: `always answering "no", the most frequent class of the training rows`."""
    metrics: dict[str, float]
    """Its value in the main metric and in the plain one (accuracy, subset_accuracy or rmse)."""
    compared: str
    """The metric for the comparison with the model: the main one if it is defined for a constant answer."""
    beaten: bool | None
    """Whether the model is better; None if its own value is undefined."""

    @property
    def value(self) -> float:
        """Its value in the metric of the comparison."""
        return self.metrics[self.compared]


def find_baseline(
    scored: Scored, metric: Metric, metrics: dict[str, float], train_targets: np.ndarray | None
) -> Baseline | None:
    """The constant answer that the training rows suggest (or these rows, without them), and whether `metrics` beat
    it; None where no constant answer says anything."""
    if scored.answers.measures.of_texts:
        return None
    source = THESE_ROWS if train_targets is None else TRAINING_ROWS
    answers, measures = scored.answers, scored.answers.measures
    known = scored.targets if train_targets is None else answers.store(train_targets)
    constant = answers.constant(known)
    plain = METRICS[measures.plain]
    values = {}
    by_decision, by_scores = (_always(scored, scores) for scores in constant)
    for wanted in (metric, plain):
        each = [part.of(by_decision if part.uses == "decisions" else by_scores) for part in wanted.parts or (wanted,)]
        values[wanted.name] = sum(each) / len(each)
    compared = plain if is_undefined(values[metric.name]) else metric
    beaten = is_better(metrics[compared.name], values[compared.name], higher=compared.higher_is_better)
    text = answer(answers.named(_decided(scored.head, constant.decision)))
    if answers.choices is None or compared.uses == "decisions":
        rule = f'always answering "{text}", {measures.constant} of {source}'
    else:
        rule = f"always giving each class its share of {source} as its probability"
    return Baseline(text, rule, values, compared.name, beaten)


def mean_baseline(
    each: Mapping[str, Baseline], main: MainMetric, metrics: Mapping[str, float], *, source: str
) -> Baseline:
    """The constant answers of several heads together, by the means of what each of them reaches.

    `each`: by head, in the metric that counts of it in `main`; `metrics`: those of the model for all heads; `source`:
    the rows that suggest the answers.
    """
    values = {
        main.name: _mean(each[head].metrics[metric.name] for head, metric in main.by_head.items() if head in each)
    }
    compared, higher = main.name, main.higher_is_better
    plain = next((name for name in METRICS if all(name in one.metrics for one in each.values())), None)
    if plain is not None:
        values.setdefault(plain, _mean(one.metrics[plain] for one in each.values()))
        if is_undefined(values[main.name]):
            compared, higher = plain, METRICS[plain].higher_is_better
    beaten = is_better(metrics.get(compared, UNDEFINED), values[compared], higher=higher)
    counted = [one for head, one in each.items() if head in main.by_head]
    same = f"always answering the same in each task, as {source} suggest"
    return Baseline("", counted[0].rule if len(counted) == 1 else same, values, compared, beaten)


def _mean(values: Iterable[float]) -> float:
    return mean_of_defined(np.array([*values], dtype=np.float64))


def _decided(head: Head, constant: np.ndarray) -> np.ndarray:
    """The usual answer to these scores (float64 [C] or one value), in stored form; they are not the model's, whose
    rule is fitted to its own."""
    stored: np.ndarray = head.answers.store(with_decision(head, USUAL).decide(constant[None]))[0]
    return stored


def _always(scored: Scored, constant: np.ndarray) -> Scored:
    """The same rows with the same scores for each: float64 [C] or one value. Views instead of copies where
    possible."""
    return replace(
        scored,
        predictions=np.broadcast_to(_decided(scored.head, constant), scored.targets.shape),
        loss=scored.answers.constant_loss(scored.targets, constant),
        sureness=None,
        suspect=None,
        row_losses=None,
        probabilities=None,
        scores=None if scored.scores is None else np.broadcast_to(constant, scored.scores.shape),
        sample=None if scored.sample is None else _always(scored.sample, constant),
    )
