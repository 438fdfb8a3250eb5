"""Fits the decision of a head: targets and scores in, a `Decision` and why out; nothing else is looked at.

    rows in folds --each decided by what was fitted on the others--> is it better than the usual rule? --> keep or not
    all rows --fit--> the decision that is kept

Calibration first (a temperature, or a slope and a shift for each label): it is kept where the log loss of held-out
rows falls by more than chance. Then the thresholds of calibrated probabilities: each is kept where what it is for
improves on held-out rows by more than chance, both against the usual threshold and against giving the label to every
row (which an F1 of scores that know nothing would ask for). `guard.py` has the tests. Costs are given, not fitted:
they are kept unless held-out rows cost more.

`cross_fit` does all of this once more without each fold, so that a report on these rows is of rules that have not
seen the row they decide. Shapes: N rows, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from textune.config import Costs, DecideSection, F1Thresholds, PrecisionThresholds
from textune.evaluation.calibration import COLDEST, HOTTEST, fit_platt, fit_temperature, row_log_losses
from textune.evaluation.folds import fold_of_rows, strata_of
from textune.evaluation.guard import (
    LEVEL,
    MIN_ROWS,
    chance_of_lead,
    chance_of_luck,
    chance_of_mean,
    f1_of,
    is_below,
    leading,
    precision_of,
    recall_of,
)
from textune.evaluation.rowrules import RowRules
from textune.evaluation.thresholds import f1_threshold, precision_threshold
from textune.tasks import USUAL, USUAL_THRESHOLD, Decision, with_decision
from textune.wording import count

if TYPE_CHECKING:
    from textune.tasks import Head


@dataclass(frozen=True)
class LabelThreshold:
    """What became of the threshold of one label, or of the second of two classes."""

    name: str
    threshold: float
    """That is kept: a calibrated probability."""
    usual: float
    """What the rule is for (F1, precision) at the usual threshold."""
    fitted: float
    """The same on held-out rows, each decided by a threshold of the other folds."""
    reason: str = ""
    """Why the usual threshold stays; empty where the fitted one is kept."""


@dataclass(frozen=True)
class Fit:
    """How a decision was fitted, and what of it was kept."""

    num_rows: int
    folds: int
    measure: str = ""
    """What the thresholds are for: `f1`, `precision` or `cost`; empty where none were asked for."""
    temperature_reason: str = ""
    """Why scores are not calibrated; empty where they are, or where that was not asked for."""
    labels: tuple[LabelThreshold, ...] = ()
    costs_reason: str = ""
    """Why costs are not kept."""


@dataclass(frozen=True)
class Fitted:
    """A decision and how it came about."""

    decision: Decision
    fit: Fit


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """A decision of all rows, and those of the rows without each fold."""

    fitted: Fitted
    rules: RowRules
    """Which decision decides each of the rows; the last one, which decides none of them, is that of all rows."""


@dataclass(frozen=True, eq=False)
class FitRows:
    """N labelled rows with the scores of one head."""

    targets: np.ndarray
    """int [N] class ids, or 0 and 1 [N, K]."""
    scores_NK: np.ndarray
    """Probabilities as the model gives them."""
    numbers_N: np.ndarray
    """int64 [N] what each row is called: its fold follows from that, not from its place."""
    groups_N: np.ndarray | None = None
    """int64 [N] rows of equal numbers stay in one fold."""

    def __len__(self) -> int:
        return len(self.targets)

    def only(self, rows: np.ndarray) -> FitRows:
        """Some of the rows; int64 or bool."""
        groups = None if self.groups_N is None else self.groups_N[rows]
        return FitRows(self.targets[rows], self.scores_NK[rows], self.numbers_N[rows], groups)

    def folds(self, section: DecideSection) -> np.ndarray:
        """int64 [N] the fold of each row."""
        strata_N = strata_of(self.targets)
        return fold_of_rows(strata_N, self.numbers_N, folds=section.folds, seed=section.seed, groups_N=self.groups_N)

    @property
    def has_NL(self) -> np.ndarray:
        """bool [N, L] which rows have each of the labels that thresholds are for: all, or the second of two
        classes."""
        return self.targets > 0 if self.targets.ndim > 1 else (self.targets == 1)[:, None]

    def of_labels(self, values_NK: np.ndarray) -> np.ndarray:
        """The columns [N, L] of those labels."""
        return values_NK if self.targets.ndim > 1 else values_NK[:, 1:]


def cross_fit(head: Head, section: DecideSection, rows: FitRows) -> CrossFitted:
    """The decision of these rows, and of the rows without each fold, for a report on them."""
    fold_N = rows.folds(section)
    without = [fit_decision(head, section, rows.only(fold_N != fold)).decision for fold in range(section.folds)]
    fitted = fit_decision(head, section, rows)
    return CrossFitted(fitted, RowRules((*without, fitted.decision), fold_N))


def fit_decision(head: Head, section: DecideSection, rows: FitRows) -> Fitted:
    """The decision of these rows: what is better than the usual rule on rows that it was not fitted on."""
    fold_N = rows.folds(section)
    calibration, reason, held_NK = _calibration(head, section, rows, fold_N)
    fit = Fit(len(rows), section.folds, temperature_reason=reason)
    decision = replace(calibration, abstain_below=section.abstain_below)
    as_usual = replace(decision, thresholds=decision.as_usual)
    rule = section.thresholds
    if isinstance(rule, Costs):
        reason = _costs_reason(head, rule, rows, held_NK)
        fit = replace(fit, measure=rule.kind, costs_reason=reason)
        return Fitted(as_usual if reason else replace(decision, costs=rule.matrix), fit)
    if rule is None or not takes_thresholds(head):
        return Fitted(as_usual, fit)
    labels = _thresholds(head, rule, rows, fold_N, calibration)
    fit = replace(fit, measure=rule.kind, labels=labels)
    if all(label.reason for label in labels):
        return Fitted(as_usual, fit)
    return Fitted(replace(decision, thresholds=tuple(label.threshold for label in labels)), fit)


def takes_thresholds(head: Head) -> bool:
    """Whether a head has labels that are given from a threshold up: several, or the second of two classes."""
    return not head.label_map.exclusive or len(head.labels) == 2


# --- calibration -----------------------------------------------------------------------------------------------------


def _calibration(
    head: Head, section: DecideSection, rows: FitRows, fold_N: np.ndarray
) -> tuple[Decision, str, np.ndarray]:
    """A rule that calibrates and does nothing else, why it is the usual one (or an empty text), and what held-out rows
    then look like, [N, K]."""
    if section.calibrate == "none":
        return USUAL, "", rows.scores_NK
    by_label = section.calibrate == "platt" and takes_thresholds(head)
    found = _calibrated_on(rows, by_label=by_label)
    if found is None:
        reason = f"the log loss falls all the way to one of the ends, temperatures {COLDEST:g} and {HOTTEST:g}"
        return USUAL, reason, rows.scores_NK
    held_NK = rows.scores_NK.copy()
    for fold in range(section.folds):
        inside = fold_N == fold
        of_others = _calibrated_on(rows.only(~inside), by_label=by_label) or USUAL
        held_NK[inside] = with_decision(head, of_others).calibrated(rows.scores_NK[inside])
    before_N = row_log_losses(rows.targets, rows.scores_NK)
    after_N = row_log_losses(rows.targets, held_NK)
    if chance_of_mean(before_N - after_N) > LEVEL:
        was, now = float(before_N.mean()), float(after_N.mean())
        reason = f"held-out rows are not better off by more than chance: log loss {now:.4g}, without it {was:.4g}"
        return USUAL, reason, rows.scores_NK
    return found, "", held_NK


def _calibrated_on(rows: FitRows, *, by_label: bool) -> Decision | None:
    """The rule that calibrates these rows best; None where no temperature does."""
    if by_label:
        columns = zip(rows.has_NL.T, rows.of_labels(rows.scores_NK).T, strict=True)
        return Decision(platt=tuple(fit_platt(has_N, scores_N) for has_N, scores_N in columns))
    temperature = fit_temperature(rows.targets, rows.scores_NK)
    return None if temperature is None else Decision(temperature)


# --- thresholds ------------------------------------------------------------------------------------------------------


def _thresholds(
    head: Head,
    rule: F1Thresholds | PrecisionThresholds,
    rows: FitRows,
    fold_N: np.ndarray,
    calibration: Decision,
) -> tuple[LabelThreshold, ...]:
    """The threshold of each label. Those of scores are found, and then calibrated, which moves no answer."""
    names = head.labels[-1:] if head.label_map.exclusive else head.labels
    has_NL, scores_NL = rows.has_NL, rows.of_labels(rows.scores_NK)
    tried = [_try(rule, has_N, scores_N, fold_N) for has_N, scores_N in zip(has_NL.T, scores_NL.T, strict=True)]
    kept = leading([one.chance for one in tried])
    thresholds = calibration.calibrated_labels(
        np.array([one.threshold if keep else USUAL_THRESHOLD for one, keep in zip(tried, kept, strict=True)])
    )
    return tuple(
        LabelThreshold(
            name, float(threshold), one.usual, one.fitted, "" if keep else one.reason or "no better than chance"
        )
        for name, threshold, one, keep in zip(names, thresholds, tried, kept, strict=True)
    )


@dataclass(frozen=True)
class _Tried:
    """A threshold of scores, and what speaks for it on held-out rows."""

    threshold: float
    usual: float
    fitted: float
    chance: float
    """That it is no better."""
    reason: str = ""


def _try(
    rule: F1Thresholds | PrecisionThresholds, has_N: np.ndarray, scores_N: np.ndarray, fold_N: np.ndarray
) -> _Tried:
    """The threshold of one label, bool [N] which rows have it, and whether held-out rows are better off with it."""
    by_usual_N = scores_N >= USUAL_THRESHOLD
    measure = f1_of if isinstance(rule, F1Thresholds) else precision_of
    usual = measure(has_N, by_usual_N)
    num_has = int(has_N.sum())
    if min(num_has, len(has_N) - num_has) < MIN_ROWS:
        rare = f"{count(num_has, 'row')} with it and {len(has_N) - num_has:,} without it are too few"
        return _Tried(USUAL_THRESHOLD, usual.value, usual.value, 1.0, rare)
    threshold = _best_threshold(rule, has_N, scores_N)
    if threshold is None:
        never = f"no threshold reaches a precision of {getattr(rule, 'floor', 0):g}"
        return _Tried(USUAL_THRESHOLD, usual.value, usual.value, 1.0, never)
    by_fitted_N = np.zeros(len(has_N), dtype=bool)
    for fold in np.unique(fold_N):
        inside = fold_N == fold
        of_others = _best_threshold(rule, has_N[~inside], scores_N[~inside])
        by_fitted_N[inside] = scores_N[inside] >= (USUAL_THRESHOLD if of_others is None else of_others)
    fitted, always = measure(has_N, by_fitted_N), measure(has_N, np.ones(len(has_N), dtype=bool))
    chances, reason = [chance_of_lead(fitted, usual), chance_of_lead(fitted, always)], ""
    if isinstance(rule, PrecisionThresholds):
        share = always.value
        if usual.value >= rule.floor:  # precise enough already: what is to be won is recall
            chances[0] = chance_of_lead(recall_of(has_N, by_fitted_N), recall_of(has_N, by_usual_N))
        else:
            share = max(share, usual.value)
        chances.append(chance_of_luck(has_N, by_fitted_N, share))
        if is_below(fitted, rule.floor):
            chances, reason = [1.0], f"on held-out rows its precision is {fitted.value:.4g}, below {rule.floor:g}"
    return _Tried(threshold, usual.value, fitted.value, max(chances), reason)


def _best_threshold(rule: F1Thresholds | PrecisionThresholds, has_N: np.ndarray, scores_N: np.ndarray) -> float | None:
    """The threshold that the rule likes best on these rows; None where there is none."""
    if isinstance(rule, F1Thresholds):
        return f1_threshold(has_N, scores_N)
    return precision_threshold(has_N, scores_N, floor=rule.floor)


# --- costs -----------------------------------------------------------------------------------------------------------


def _costs_reason(head: Head, rule: Costs, rows: FitRows, held_NK: np.ndarray) -> str:
    """Why costs are not kept: held-out rows, as they look, would cost more than by the usual rule; empty if not."""
    usual = with_decision(head, USUAL)
    by_costs = with_decision(head, Decision(costs=rule.matrix))
    now = mean_cost(rule.matrix, rows.targets, by_costs.decide(held_NK))
    was = mean_cost(rule.matrix, rows.targets, usual.decide(rows.scores_NK))
    if now <= was:
        return ""
    return f"held-out rows cost {now:.4g} in the mean, by the usual rule {was:.4g}"


def mean_cost(costs: Sequence[Sequence[float]], targets: np.ndarray, answers: np.ndarray) -> float:
    """What these answers cost, in the mean over rows (and labels): class ids [N], or 0 and 1 [N, K]."""
    return float(np.array(costs)[targets.astype(np.int64), answers.astype(np.int64)].mean())
