"""Thresholds with a guarantee: compared with mapie, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy import stats

from textune.evaluation.guarantee import Aim, GatedRows, bounded_mean_p_value, measure, prove, verdict_on


def drawn(num_rows: int, seed: int, *, sharpness: float = 3.0) -> GatedRows:
    """Rows whose scores are calibrated: each is right with the probability of its score."""
    rng = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-sharpness * rng.standard_normal(num_rows)))
    right = rng.random(num_rows) < scores
    return GatedRows(scores, right, right)


def true_precision(threshold: float, *, sharpness: float = 3.0) -> float:
    """Of such rows at a threshold, from a million of them."""
    rows = drawn(1_000_000, 99, sharpness=sharpness)
    return float(rows.right[rows.scores >= threshold].mean())


@pytest.mark.parametrize(("name", "level"), [("precision", 0.7), ("recall", 0.7)])
def test_p_values_are_those_of_mapie(name: str, level: float) -> None:
    rows = drawn(400, 1)
    thresholds = np.linspace(0.05, 0.95, 19)
    controller = BinaryClassificationController(
        predict_function=lambda x: np.stack([1 - x[:, 0], x[:, 0]], axis=1),
        risk=name,
        target_level=level,
        confidence_level=0.95,
        list_predict_params=thresholds,
    )
    controller.calibrate(rows.scores[:, None], rows.right.astype(int))
    for threshold, expected in zip(thresholds, controller.p_values.ravel(), strict=True):
        found = measure(Aim(name, level), rows, threshold)
        # mapie rounds rows x share up, so that it may count a miss too many where that is not exactly whole.
        misses = found.counted - round(found.value * found.counted)
        one_more = stats.binom.cdf(misses + 1, found.counted, 1 - level)
        assert found.p_value * (1 - 1e-6) <= expected <= one_more * (1 + 1e-6)
        assert found.p_value == pytest.approx(stats.binom.cdf(misses, found.counted, 1 - level), rel=1e-6)


def test_coverage_has_the_p_values_of_scipy() -> None:
    rows = drawn(400, 1)
    for threshold in np.linspace(0.05, 0.95, 19):
        given = int((rows.scores >= threshold).sum())
        expected = stats.binomtest(given, 400, 0.5, "greater").pvalue
        assert measure(Aim("coverage", 0.5), rows, threshold).p_value == pytest.approx(expected, abs=1e-9)


def test_costs_have_the_p_values_of_mapie() -> None:
    for mean, level in [(0.02, 0.05), (0.1, 0.3), (0.0, 0.01), (0.3, 0.31)]:
        expected = compute_hoeffding_bentkus_p_value(np.array([mean]), 500, level)[0, 0]
        assert bounded_mean_p_value(mean, 500, level) == pytest.approx(min(expected, 1.0), rel=1e-6)


def test_the_lowest_precise_threshold_is_taken() -> None:
    proposing, proving = drawn(4_000, 2), drawn(4_000, 3)
    aim = Aim("precision", 0.95)
    found = prove(aim, proving, proposing)
    assert found is not None and found.p_value <= 0.05 and found.limit >= 0.95
    assert true_precision(found.threshold) >= 0.95
    # Not one that gives hardly any answer: a threshold that is much lower would miss the aim.
    assert true_precision(found.threshold - 0.15) < 0.95


@pytest.mark.parametrize("name", ["recall", "coverage"])
def test_the_highest_threshold_is_taken(name: str) -> None:
    rows = drawn(2_000, 4)
    aim = Aim(name, 0.8)
    found = prove(aim, rows)
    assert found is not None
    above = np.sort(rows.scores[rows.scores > found.threshold])[0]
    assert found.p_value <= 0.05 < measure(aim, rows, above).p_value


@pytest.mark.parametrize("name", ["recall", "coverage"])
@pytest.mark.parametrize("level", [0.001, 0.5, 0.8, 0.999])
def test_the_highest_threshold_is_that_of_one_test_after_the_other(name: str, level: float) -> None:
    rows = drawn(150, 6)
    rows = GatedRows(np.where(rows.scores < 0.1, -np.inf, rows.scores.round(2)), rows.right, rows.missed)  # with ties
    aim, last = Aim(name, level), None
    for threshold in np.unique(rows.scores[np.isfinite(rows.scores)]).tolist():
        if measure(aim, rows, threshold).p_value > aim.error:
            break
        last = measure(aim, rows, threshold)
    assert prove(aim, rows) == last


@pytest.mark.slow
@pytest.mark.parametrize("times", [30, 300])
def test_the_error_rate_is_kept(times: int) -> None:
    aim = Aim("precision", 0.9, confidence=0.9)
    true = {}
    wrong = reached = 0
    for seed in range(times):
        found = prove(aim, drawn(500, 1_000 + seed), drawn(500, 5_000 + seed))
        if found is None:
            continue
        reached += 1
        key = round(found.threshold, 3)
        true[key] = true.get(key) or true_precision(key)
        wrong += true[key] < 0.9 - 1e-3
    assert reached > 0.8 * times
    assert stats.binomtest(wrong, times, 0.1, "greater").pvalue > 0.001


def test_recall_keeps_its_error_rate() -> None:
    everything = drawn(500_000, 77)
    positives = np.sort(everything.scores[everything.right])
    wrong = 0
    for seed in range(300):
        found = prove(Aim("recall", 0.8, confidence=0.9), drawn(300, seed))
        assert found is not None
        wrong += 1 - np.searchsorted(positives, found.threshold) / len(positives) < 0.8
    assert stats.binomtest(wrong, 300, 0.1, "greater").pvalue > 0.001
    assert wrong > 10  # and it does not give away what it may take


def test_costs() -> None:
    proposing, proving = drawn(5_000, 5), drawn(5_000, 6)
    aim = Aim("cost", 0.5, cost_of_wrong=4.0, cost_of_none=1.0)
    found = prove(aim, proving, proposing)
    assert found is not None
    assert 0.7 < found.threshold < 0.9  # calibrated scores: an answer is worth it from 4 / (4 + 1) on
    assert found.value <= found.limit <= 0.5
    assert prove(Aim("cost", 0.01, cost_of_wrong=4.0), proving, proposing) is None


def test_what_cannot_be_proved_is_not() -> None:
    noise = GatedRows(np.linspace(0, 1, 200), np.arange(200) % 2 == 0, np.ones(200, bool))
    assert prove(Aim("precision", 0.9), noise) is None
    few = drawn(6, 8)
    assert prove(Aim("precision", 0.98), few) is None
    nothing = GatedRows(np.full(5, -np.inf), np.zeros(5, bool), np.zeros(5, bool))
    assert prove(Aim("precision", 0.5), nothing) is None and prove(Aim("recall", 0.5), nothing) is None
    assert math.isnan(measure(Aim("precision", 0.5), nothing, 0.5).value)


def test_without_proposing_rows_half_of_the_others_propose() -> None:
    rows = drawn(2_000, 9)
    proposing, proving = rows.halves(0)
    assert len(proposing) == len(proving) == 1_000
    aim = Aim("precision", 0.9)
    assert prove(aim, rows) == prove(aim, proving, proposing)


@pytest.mark.parametrize(
    ("share", "num_rows", "expected"), [(0.99, 400, "holds"), (0.9, 30, "open"), (0.6, 400, "broken")]
)
def test_verdicts_on_new_rows(share: float, num_rows: int, expected: str) -> None:
    right = np.arange(num_rows) < share * num_rows
    rows = GatedRows(np.full(num_rows, 0.9), right, right)
    aim = Aim("precision", 0.9)
    assert verdict_on(aim, measure(aim, rows, 0.8), rows) == expected
    cost = Aim("cost", 0.1)
    assert verdict_on(cost, measure(cost, rows, 0.8), rows) == ("open" if expected == "open" else expected)


def test_a_threshold_is_never_above_1() -> None:
    certain = GatedRows(np.ones(200), np.arange(200) % 2 == 0, np.ones(200, bool))
    found = prove(Aim("cost", 0.9, cost_of_wrong=1.0, cost_of_none=0.1), certain)
    assert found is not None and (found.threshold, found.given) == (1.0, len(certain) // 2)
