"""The decision behind a report in words and tables, for `console.py` and `markdown.py`, which lay them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from textune.evaluation.deciding import Fit
from textune.evaluation.decisionpart import COST, DESCRIPTIONS, ECE, DecisionPart
from textune.evaluation.metrics import METRICS
from textune.evaluation.wording import number
from textune.tasks import Decision
from textune.wording import count


class Compared(NamedTuple):
    """A figure of the same rows by the usual decision and by the one that was fitted."""

    name: str
    usual: str
    decided: str
    description: str


def compared(part: DecisionPart) -> list[Compared]:
    """Every figure."""
    return [
        Compared(name, number(value), number(part.decided[name]), described(name))
        for name, value in part.usual.items()
    ]


def described(name: str) -> str:
    """What a figure is."""
    return DESCRIPTIONS[name] if name in (ECE, COST) else METRICS[name].description


def sentences(part: DecisionPart) -> list[str]:
    """What decides, how it came about, and what it leaves unanswered."""
    said = [f"The model answers by {rule_in_words(part.decision)}."]
    if part.cross_fitted:
        said.append("Each row here is decided by rules that were fitted on the other folds, never on the row itself.")
    if part.fit is not None:
        said += _fitted(part.fit)
    if part.abstention is not None:
        held = part.abstention
        below = "that of its class" if isinstance(held.below, tuple) else f"{held.below:g}"
        said.append(
            f"Below a probability of {below} the answer is withheld: {held.coverage:.1%} of the rows are"
            f" answered, {number(held.accuracy)} of them right. All other figures are those of all rows, as if"
            f" answered."
        )
    return said


def decision_in_words(part: DecisionPart) -> str:
    """The decision and what it is worth, in one line."""
    figures = [f"{row.name} {row.decided} ({row.usual} without)" for row in compared(part)]
    return f"{rule_in_words(part.decision)}; on held-out rows {', '.join(figures)}"


def rule_in_words(decision: Decision) -> str:
    """The rule in a few words."""
    parts = [] if decision.temperature == 1 else [f"a temperature of {decision.temperature:.4g}"]
    if decision.platt is not None:
        parts.append("a slope and a shift of logits" + (" for each label" if len(decision.platt) > 1 else ""))
    if decision.costs is not None:
        parts.append("the lowest expected cost")
    elif decision.thresholds is None or decision.thresholds == decision.as_usual:
        parts.append("the usual rule (the highest score, or 0.5)")
    elif len(decision.thresholds) == 1:
        parts.append(f"a threshold of {decision.thresholds[0]:.4g}")
    else:
        parts.append("a threshold for each label")
    return " and ".join(parts)


def _fitted(fit: Fit) -> Iterator[str]:
    yield f"It was fitted on {count(fit.num_rows, 'row')} in {fit.folds} folds."
    if fit.temperature_reason:
        yield f"Scores are not calibrated: {fit.temperature_reason}."
    if fit.costs_reason:
        yield f"The costs are not kept: {fit.costs_reason}."
    if fit.labels:
        kept = sum(not label.reason for label in fit.labels)
        yield (
            f"Fitted thresholds ({fit.measure}) are kept for {kept} of {count(len(fit.labels), 'label')}: where"
            " held-out rows are better off by more than chance."
        )
