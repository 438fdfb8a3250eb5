"""What is fitted on held-out rows: kept where it is better, by a stated rate of error, and never on the row itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textune.config.deciding import Costs, DecideSection, F1Thresholds, PrecisionThresholds
from textune.config.taskkinds import AutoTask
from textune.data.labels.map import LabelMap
from textune.evaluation.calibration import calibration_error
from textune.evaluation.deciding import FitRows, cross_fit, fit_decision, mean_cost
from textune.evaluation.decisionpart import decision_part, fit_rows, redecided
from textune.evaluation.guard import LEVEL, chance_of_lead, chance_of_luck, f1_of, leading, precision_of
from textune.evaluation.reduction import scored_rows
from textune.evaluation.rowrules import RowRules
from textune.tasks.decision import USUAL, Decision, sigmoid
from textune.tasks.task import build_task, with_decision


def head_of(problem: Any, *names: str, decision: Decision = USUAL) -> Any:
    return build_task(AutoTask(), {"label": LabelMap(problem, names)}, decisions={"label": decision}).head


LABELS = head_of("multilabel", *"abcdefghij")
BINARY = head_of("binary", "no", "yes")
CLASSES = head_of("multiclass", "a", "b", "c")
F1 = DecideSection(calibrate="none", thresholds=F1Thresholds())


def rows_of(targets: np.ndarray, scores: np.ndarray) -> FitRows:
    return FitRows(targets, scores, np.arange(len(targets)))


def labels_of(seed: int, *, noise: bool, rows: int = 1000, labels: int = 10) -> FitRows:
    """Rare labels that the scores tell, but at less than 0.5, or know nothing of."""
    random = np.random.default_rng(seed)
    share = np.linspace(0.03, 0.3, labels)
    targets = (random.random((rows, labels)) < share).astype(np.int64)
    logits = random.normal(size=(rows, labels)) + np.log(share / (1 - share)) - (0 if noise else 1)
    return rows_of(targets, sigmoid(logits + (0 if noise else 2.5) * targets))


def classes_of(seed: int, temperature: float, head: Any = CLASSES, rows: int = 1500) -> FitRows:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, len(head.labels))) * 1.5
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([random.choice(len(row), p=row) for row in chances])
    raised = np.exp(logits * temperature)
    return rows_of(targets, raised / raised.sum(axis=1, keepdims=True))


# --- calibration -----------------------------------------------------------------------------------------------------


def test_labels_that_are_off_by_a_shift_are_calibrated_one_by_one() -> None:
    """Scores of `labels_of` are too low by a shift of the logit, which a temperature does not mend."""
    section = DecideSection(calibrate="platt")
    rows, fresh = labels_of(0, noise=False, rows=4000), labels_of(1, noise=False, rows=4000)
    fitted = fit_decision(LABELS, section, rows)
    assert fitted.decision.platt is not None and not fitted.fit.temperature_reason
    by_temperature = fit_decision(LABELS, DecideSection(), rows).decision
    errors = [
        calibration_error(fresh.targets, rule.calibrated_labels(fresh.scores_NK))
        for rule in (USUAL, by_temperature, fitted.decision)
    ]
    assert errors[2] < min(errors[:2]) / 2
    np.testing.assert_array_equal(fitted.decision.given(fresh.scores_NK), USUAL.given(fresh.scores_NK))


def test_slopes_and_shifts_are_not_kept_where_scores_are_calibrated() -> None:
    kept = sum(
        fit_decision(BINARY, DecideSection(calibrate="platt"), classes_of(seed, 1.0, BINARY)).decision != USUAL
        for seed in range(40)
    )
    assert kept <= 6  # at most 5 % each: more than 6 of 40 with a probability of 0.003


def test_classes_of_several_are_calibrated_by_a_temperature() -> None:
    rule = fit_decision(CLASSES, DecideSection(calibrate="platt"), classes_of(0, 2.5)).decision
    assert rule == fit_decision(CLASSES, DecideSection(), classes_of(0, 2.5)).decision != USUAL


def test_thresholds_of_labels_are_probabilities_after_the_shift() -> None:
    rows = labels_of(0, noise=False, rows=3000)
    plain = fit_decision(LABELS, F1, rows).decision
    shifted = fit_decision(LABELS, DecideSection(calibrate="platt", thresholds=F1Thresholds()), rows).decision
    assert shifted.platt is not None and shifted.thresholds != plain.thresholds
    np.testing.assert_array_equal(shifted.given(rows.scores_NK), plain.given(rows.scores_NK))


# --- the guard -------------------------------------------------------------------------------------------------------


def test_thresholds_of_noise_stay() -> None:
    """The chance that any of ten thresholds moves is at most LEVEL: of 60 sets of rows at most 7 move, with a
    probability of 0.99."""
    moved = sum(fit_decision(LABELS, F1, labels_of(seed, noise=True)).decision != USUAL for seed in range(60))
    assert moved <= 7
    fitted = fit_decision(LABELS, F1, labels_of(0, noise=True))
    assert fitted.decision == USUAL
    assert all(label.threshold == 0.5 and label.reason for label in fitted.fit.labels)


def test_giving_a_label_to_every_row_is_no_reason_to_move() -> None:
    """On scores that know nothing that has the highest F1, and is better than 0.5."""
    rows = labels_of(1, noise=True)
    usual, always = (
        f1_of(rows.has_NL[:, 9], given) for given in (rows.scores_NK[:, 9] >= 0.5, rows.has_NL[:, 0] >= 0)
    )
    assert chance_of_lead(always, usual) < LEVEL
    assert fit_decision(LABELS, F1, rows).fit.labels[9].reason


@pytest.mark.parity("deciding")
def test_thresholds_that_are_better_are_kept() -> None:
    fitted = fit_decision(LABELS, F1, labels_of(0, noise=False))
    thresholds = fitted.decision.thresholds
    assert thresholds is not None and sum(threshold < 0.4 for threshold in thresholds) >= 6
    for label in fitted.fit.labels:
        assert label.reason or label.fitted > label.usual


def test_labels_of_few_rows_are_left_alone() -> None:
    rows = labels_of(0, noise=False)
    rows.targets[:, 0] = 0
    rows.targets[:9, 0] = 1
    label = fit_decision(LABELS, F1, rows).fit.labels[0]
    assert label.threshold == 0.5 and "9 rows" in label.reason


def test_holm_keeps_the_level_of_all_together() -> None:
    assert leading([0.001, 0.2, 0.02], level=0.05) == [True, False, True]
    assert leading([0.02, 0.03, 0.04], level=0.05) == [False, False, False]
    assert leading([], level=0.05) == []


# --- temperature -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [CLASSES, BINARY])
@pytest.mark.parity("deciding")
def test_a_temperature_that_helps_is_kept(head: Any) -> None:
    for temperature in (0.5, 2.5):
        fitted = fit_decision(head, DecideSection(), classes_of(0, temperature, head))
        assert fitted.decision.temperature == pytest.approx(temperature, rel=0.2) and not fitted.fit.temperature_reason
        assert fitted.decision.thresholds is None and fitted.decision.costs is None


def test_a_temperature_of_1_is_seldom_moved() -> None:
    moved = sum(
        fit_decision(CLASSES, DecideSection(), classes_of(seed, 1.0, rows=400)).decision != USUAL for seed in range(60)
    )
    assert moved <= 8


def test_no_temperature_where_none_is_asked_for() -> None:
    assert fit_decision(CLASSES, DecideSection(calibrate="none"), classes_of(0, 2.5)).decision == USUAL


def test_thresholds_are_of_probabilities_at_the_temperature() -> None:
    rows = labels_of(0, noise=False)
    hot = rows_of(rows.targets, sigmoid(np.log(rows.scores_NK / (1 - rows.scores_NK)) * 3))
    plain = fit_decision(LABELS, F1, hot).decision
    both = fit_decision(LABELS, DecideSection(thresholds=F1Thresholds()), hot).decision
    assert both.temperature > 1.5 and both.thresholds != plain.thresholds
    answers = [with_decision(LABELS, decision).decide(hot.scores_NK) for decision in (plain, both)]
    assert np.array_equal(*answers)


# --- precision and costs ---------------------------------------------------------------------------------------------


def test_a_precision_is_reached_or_nothing_moves() -> None:
    rows = classes_of(0, 1.0, BINARY, rows=3000)
    section = DecideSection(thresholds=PrecisionThresholds(floor=0.9))
    fitted = fit_decision(BINARY, section, rows)
    (label,) = fitted.fit.labels
    assert label.name == "yes" and not label.reason and label.threshold > 0.6
    answers = with_decision(BINARY, fitted.decision).decide(rows.scores_NK)
    assert rows.targets[answers == 1].mean() >= 0.9
    assert label.fitted == pytest.approx(0.9, abs=0.05) and label.usual < 0.85
    noise = labels_of(3, noise=True)
    (label, *_) = fit_decision(LABELS, section.model_copy(update={"calibrate": "none"}), noise).fit.labels
    assert label.threshold == 0.5 and label.reason


def test_two_rows_that_are_right_are_no_precision() -> None:
    """Of rows of which 30 % have the label, two that all have it are chance, though they have no spread."""
    scores = np.concatenate([[0.4, 0.39], np.linspace(0.1, 0.01, 198)])
    targets = np.zeros(200, np.int64)
    targets[[0, 1, *range(8, 200, 3)]] = 1
    section = DecideSection(calibrate="none", thresholds=PrecisionThresholds(floor=0.9))
    labels = head_of("multilabel", "a", "b")
    rows = rows_of(targets[:, None].repeat(2, axis=1), scores[:, None].repeat(2, axis=1))
    label = fit_decision(labels, section, rows).fit.labels[0]
    assert label.fitted == 1.0 and label.threshold == 0.5 and label.reason
    has, given = targets == 1, scores > 0.2
    assert chance_of_luck(has, given, 0.3) == pytest.approx(0.09)
    assert chance_of_lead(precision_of(has, given), precision_of(has, scores > 0.5)) == 0
    assert chance_of_luck(has, scores > 0.5, 0.3) == 1


@pytest.mark.parametrize("head", [BINARY, CLASSES])
def test_costs_are_lower_than_by_the_usual_rule(head: Any) -> None:
    size = len(head.labels)
    matrix = tuple(tuple(float(5 * (true == 1) + 1) * (true != said) for said in range(size)) for true in range(size))
    rows = classes_of(0, 2.0, head)
    fitted = fit_decision(head, DecideSection(thresholds=Costs(matrix=matrix)), rows)
    assert fitted.decision.costs == matrix and not fitted.fit.costs_reason
    usual, decided = (
        mean_cost(matrix, rows.targets, with_decision(head, decision).decide(rows.scores_NK))
        for decision in (USUAL, fitted.decision)
    )
    assert decided < usual


def test_costs_that_make_held_out_rows_dearer_are_not_kept() -> None:
    targets = np.tile([0, 1], 200)
    scores = np.where(targets[:, None] == 0, [0.55, 0.45], [0.9, 0.1])  # sure of the wrong rows
    section = DecideSection(calibrate="none", thresholds=Costs(matrix=((0.0, 1.0), (1.5, 0.0))))
    fitted = fit_decision(BINARY, section, rows_of(targets, scores))
    assert fitted.decision == USUAL and "1.25" in fitted.fit.costs_reason and "0.75" in fitted.fit.costs_reason


# --- cross-fitting ---------------------------------------------------------------------------------------------------


def test_what_decides_a_row_has_not_seen_it() -> None:
    """Whatever the rows of a fold say, the rule of that fold is the same; those of the others are not."""
    rows = labels_of(0, noise=False)
    section = DecideSection(thresholds=F1Thresholds(), folds=4)
    found = cross_fit(LABELS, section, rows)
    assert len(found.rules.decisions) == 5 and found.rules.decisions[-1] == found.fitted.decision
    fold_N = found.rules.which_N
    inside = fold_N == 2
    random = np.random.default_rng(0)
    scores = rows.scores_NK.copy()
    scores[inside] = random.random(scores[inside].shape)
    again = cross_fit(LABELS, section, FitRows(rows.targets, scores, rows.numbers_N))
    assert np.array_equal(again.rules.which_N, fold_N)
    same = [one == other for one, other in zip(found.rules.decisions, again.rules.decisions, strict=True)]
    assert same == [False, False, True, False, False]
    assert fit_decision(LABELS, section, rows.only(~inside)).decision == found.rules.decisions[2]


def test_the_order_of_rows_changes_nothing() -> None:
    rows, order = classes_of(0, 2.0), np.random.default_rng(0).permutation(1500)
    found = cross_fit(CLASSES, DecideSection(), rows)
    again = cross_fit(CLASSES, DecideSection(), rows.only(order))
    assert np.array_equal(again.rules.which_N, found.rules.which_N[order])
    assert again.fitted.decision.temperature == pytest.approx(found.fitted.decision.temperature, rel=1e-12)


def test_a_report_on_the_fitted_rows_is_of_rules_that_have_not_seen_them() -> None:
    rows = labels_of(0, noise=False)
    scored = scored_rows(LABELS, rows.targets, rows.scores_NK)
    found = cross_fit(LABELS, DecideSection(thresholds=F1Thresholds()), fit_rows(scored))
    decided = redecided(scored, with_decision(LABELS, found.fitted.decision), found.rules)
    for fold, decision in enumerate(found.rules.decisions[:-1]):
        own = found.rules.which_N == fold
        head = with_decision(LABELS, decision)
        assert np.array_equal(decided.predictions[own], LABELS.answers.store(head.decide(rows.scores_NK[own])))
        assert decided.seen is not None
        assert np.array_equal(decided.seen[own], head.calibrated(rows.scores_NK[own]))
    assert np.array_equal(np.asarray(decided.scores), rows.scores_NK)  # what ranks rows stays
    part = decision_part(decided)
    assert part is not None and part.cross_fitted and part.decision == found.fitted.decision
    assert part.decided["f1_macro"] > part.usual["f1_macro"] + 0.1
    on_themselves = decision_part(scored_rows(with_decision(LABELS, part.decision), rows.targets, rows.scores_NK))
    assert on_themselves is not None and not on_themselves.cross_fitted
    assert part.decided["f1_macro"] < on_themselves.decided["f1_macro"]  # which would be too good


def test_rows_by_rules_of_their_own_are_decided_in_any_batches() -> None:
    rows = classes_of(0, 2.0, rows=50)
    rules = RowRules((Decision(0.5), Decision(3.0, abstain_below=0.9)), np.arange(50) % 2)
    whole = rules.decide(CLASSES, np.arange(50), rows.scores_NK)
    for some in (np.arange(7), np.arange(10, 50), np.array([3, 1])):
        part = rules.decide(CLASSES, some, rows.scores_NK[some])
        assert np.array_equal(part.seen, whole.seen[some]) and np.array_equal(part.answers, whole.answers[some])


def test_abstention_is_reported_beside_figures_of_all_rows() -> None:
    rows = classes_of(0, 1.0)
    head = with_decision(CLASSES, Decision(abstain_below=0.7))
    part = decision_part(scored_rows(head, rows.targets, rows.scores_NK))
    assert part is not None and part.abstention is not None
    sure = rows.scores_NK.max(axis=1) >= 0.7
    right = rows.scores_NK.argmax(axis=1) == rows.targets
    assert part.abstention.coverage == pytest.approx(sure.mean())
    assert part.abstention.accuracy == pytest.approx(right[sure].mean())
    assert part.decided == part.usual and part.decided["accuracy"] == pytest.approx(right.mean())


@pytest.mark.parametrize("rows", [1, 2, 5, 11])
def test_a_handful_of_rows_moves_nothing(rows: int) -> None:
    few = classes_of(0, 2.0, BINARY, rows=rows)
    found = cross_fit(BINARY, DecideSection(thresholds=F1Thresholds()), few)
    assert found.fitted.decision.thresholds is None and found.fitted.fit.labels[0].reason
