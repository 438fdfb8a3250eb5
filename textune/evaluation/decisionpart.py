"""What a report says of a decision: figures with it and without it on the same rows, how it was fitted, and how many
rows it leaves without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textune.evaluation.calibration import calibration_error, row_log_losses
from textune.evaluation.deciding import Fit, FitRows, LabelThreshold, mean_cost
from textune.evaluation.metrics import METRICS
from textune.evaluation.reduction import Reduction, scored_rows
from textune.evaluation.rowrules import RowRules
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import from_json
from textune.tasks import USUAL, Decision, Head, with_decision

ECE = "ece"
COST = "cost"
"""The mean cost of an answer, where answers have costs."""
_DECIDED = ("accuracy", "subset_accuracy", "f1", "f1_macro", "f1_micro")
"""Metrics of decisions that are compared, where the answers have them."""
DESCRIPTIONS = {
    ECE: "expected calibration error: mean distance between a probability and how often it is right",
    COST: "mean cost of an answer",
}


@dataclass(frozen=True)
class Abstention:
    """What is left where unsure answers are withheld."""

    below: float | tuple[float, ...]
    """The probability below which an answer is withheld; several: of each class."""
    coverage: float
    """The share of rows that are answered."""
    accuracy: float
    """The share of these that are right; NaN where none is answered."""


@dataclass(frozen=True)
class DecisionPart:
    """The decision behind a report."""

    decision: Decision
    """The one that is kept with the model."""
    cross_fitted: bool
    """Whether each row was decided by rules that were fitted without it, so that the report is on rules like the one
    that is kept."""
    usual: dict[str, float]
    """Figures of these rows by the usual decision."""
    decided: dict[str, float]
    """The same by the decision."""
    fit: Fit | None = None
    """How it was fitted; in the report on the rows that it was fitted on."""
    abstention: Abstention | None = None


def decision_part(scored: Scored) -> DecisionPart | None:
    """What the decision of these rows makes of them; None for the usual one. Figures are those of the rows whose
    scores are kept."""
    decision = scored.head.decision if scored.rules is None else scored.rules.decisions[-1]
    if decision == USUAL and scored.rules is None:
        return None
    ranked = scored.ranked
    rows = fit_rows(ranked)
    usual = scored_rows(with_decision(scored.head, USUAL), rows.targets, rows.scores_NK)
    return DecisionPart(
        decision=decision,
        cross_fitted=scored.rules is not None,
        usual=_figures(usual, rows.targets, decision),
        decided=_figures(ranked, rows.targets, decision),
        abstention=_abstention(scored, decision),
    )


def redecided(scored: Scored, head: Head, rules: RowRules) -> Scored:
    """The same rows, all of whose scores are kept, by another decision of their head and by `rules`."""
    rows = fit_rows(replace(scored, rows=None))
    reduction = Reduction(head, num_rows=len(scored), rules=rules)
    reduction.add(np.arange(len(scored)), rows.targets, rows.scores_NK)
    return replace(reduction.finish(), row_losses=scored.row_losses, row_weights=scored.row_weights, rows=scored.rows)


def fit_rows(scored: Scored, groups_N: np.ndarray | None = None) -> FitRows:
    """Rows whose scores are kept, as a decision is fitted on them; `groups_N`: int64 of all rows that were evaluated,
    by their numbers."""
    assert scored.scores is not None, "decisions are fitted on `Scored.ranked`"
    numbers = np.arange(len(scored)) if scored.rows is None else scored.rows
    targets = scored.targets if scored.targets.ndim == 1 else scored.hits.astype(np.int64)
    return FitRows(targets, scored.scores, numbers, None if groups_N is None else groups_N[numbers])


def _figures(scored: Scored, targets: np.ndarray, decision: Decision) -> dict[str, float]:
    """The figures of rows with their scores."""
    seen = scored.seen
    assert seen is not None
    figures = {ECE: calibration_error(targets, seen), "log_loss": float(row_log_losses(targets, seen).mean())}
    figures |= {name: METRICS[name].of(scored) for name in _DECIDED if name in scored.answers.measures.names}
    if decision.costs is not None:
        answers = scored.predictions
        if answers.ndim > 1:
            answers = scored.head.answers.choices.hits(answers)  # type: ignore[union-attr]
        figures[COST] = mean_cost(decision.costs, targets, answers)
    return figures


def _abstention(scored: Scored, decision: Decision) -> Abstention | None:
    if decision.abstain_below is None or scored.sureness is None:
        return None
    answered = ~decision.withholds(scored.sureness, scored.predictions)
    accuracy = float(scored.right[answered].mean()) if answered.any() else float("nan")
    return Abstention(decision.abstain_below, float(answered.mean()), accuracy)


def decision_of(tree: Mapping[str, Any]) -> DecisionPart:
    """The part of a report that was kept."""
    decision = dict(tree["decision"])
    decision["thresholds"] = None if decision["thresholds"] is None else tuple(decision["thresholds"])
    platt = decision.get("platt")
    decision["platt"] = None if platt is None else tuple(tuple(pair) for pair in platt)
    decision["costs"] = None if decision["costs"] is None else tuple(tuple(row) for row in decision["costs"])
    fit = tree["fit"]
    if fit is not None:
        fit = Fit(**{**fit, "labels": tuple(LabelThreshold(**label) for label in fit["labels"])})
    decision["abstain_below"] = _bounds(decision["abstain_below"])
    abstention = None
    if tree["abstention"] is not None:
        told = from_json(tree["abstention"])
        abstention = Abstention(_bounds(told["below"]), told["coverage"], told["accuracy"])
    usual, decided = from_json(tree["usual"]), from_json(tree["decided"])
    return DecisionPart(Decision(**decision), tree["cross_fitted"], usual, decided, fit, abstention)


def _bounds(value: Any) -> Any:
    """One bound, or several, as JSON holds them."""
    return tuple(value) if isinstance(value, list) else value
