"""Temperatures beside scipy's minimum and scikit-learn's own calibration; the calibration error beside a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from textune.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    NUM_BINS,
    calibration_error,
    fit_platt,
    fit_temperature,
    row_log_losses,
)
from textune.tasks.decision import Decision


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def drawn(num_classes: int, temperature: float, rows: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets that follow softmax(logits), and the scores of a model whose logits are `temperature` times those."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, num_classes)) * 2
    targets = np.array([random.choice(num_classes, p=row) for row in softmax(logits)])
    return targets, softmax(logits * temperature)


def drawn_labels(temperature: float, rows: int = 800, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    logits = random.normal(size=(rows, labels)) * 2 - 1
    targets = (random.random((rows, labels)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return targets, 1 / (1 + np.exp(-logits * temperature))


class Given(ClassifierMixin, BaseEstimator):
    """An estimator whose rows are the probabilities themselves."""

    def fit(self, rows: np.ndarray, targets: np.ndarray) -> Given:
        self.classes_ = np.arange(rows.shape[1])
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows.argmax(axis=1))

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        logits = np.log(rows)
        return np.asarray(logits[:, 1] - logits[:, 0] if rows.shape[1] == 2 else logits)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("num_classes", [2, 3, 20])
def test_the_temperature_is_that_of_scipy_and_scikit_learn(num_classes: int, temperature: float) -> None:
    targets, scores = drawn(num_classes, temperature)
    found = fit_temperature(targets, scores)
    assert found is not None and found == pytest.approx(temperature, rel=0.25)

    def loss(log_temperature: float) -> float:
        calibrated = softmax(np.log(scores) / np.exp(log_temperature))
        return float(-np.log(calibrated[np.arange(len(targets)), targets]).mean())

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    assert loss(np.log(found)) <= best.fun + 1e-12
    assert found == pytest.approx(np.exp(best.x), abs=1e-6)

    given = Given().fit(scores, targets)
    theirs = CalibratedClassifierCV(FrozenEstimator(given), method="temperature").fit(scores, targets)
    np.testing.assert_allclose(Decision(found).calibrated_classes(scores), theirs.predict_proba(scores), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_the_temperature_of_labels_is_that_of_scipy(temperature: float) -> None:
    targets, scores = drawn_labels(temperature)
    found = fit_temperature(targets, scores)
    assert found is not None
    logits = np.log(scores) - np.log1p(-scores)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    assert found == pytest.approx(np.exp(best.x), abs=1e-6)


def test_the_temperature_does_not_depend_on_how_rows_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    for targets, scores in (drawn(5, 2.0), drawn_labels(2.0)):
        whole = fit_temperature(targets, scores)
        with monkeypatch.context() as few:
            few.setattr("textune.tasks.bits.NUMBERS_AT_ONCE", 64)
            assert fit_temperature(targets, scores) == pytest.approx(whole, rel=1e-12)


def test_there_is_no_temperature_where_the_loss_has_no_minimum() -> None:
    right = np.array([0, 1, 2])
    assert fit_temperature(right, softmax(np.eye(3) * 4)) is None  # all right: the colder, the better
    wrong = np.roll(np.eye(3), 1, axis=1)
    assert fit_temperature(right, softmax(wrong * 4)) is None  # all wrong: the hotter, the better
    assert fit_temperature(np.zeros(0, np.int64), np.zeros((0, 3))) is None
    assert COLDEST < 1 < HOTTEST


def test_scores_of_0_and_1_have_a_temperature() -> None:
    targets = np.array([0, 1] * 10 + [0])
    scores = np.array([[1.0, 0.0], [0.0, 1.0]] * 10 + [[0.0, 1.0]])
    found = fit_temperature(targets, scores)
    assert found is not None  # at which 20 of 21 are right: sure, but not more
    np.testing.assert_allclose(Decision(found).calibrated_classes(scores).max(axis=1), 20 / 21)


def test_the_calibration_error_is_that_of_a_loop() -> None:
    targets, scores = drawn(4, 3.0)
    best = scores.argmax(axis=1)
    expected = naive([(scores[row, best[row]], best[row] == targets[row]) for row in range(len(targets))])
    assert calibration_error(targets, scores) == pytest.approx(expected)
    labels, of_labels = drawn_labels(3.0)
    each = [naive(list(zip(of_labels[:, one], labels[:, one] > 0, strict=True))) for one in range(4)]
    assert calibration_error(labels, of_labels) == pytest.approx(np.mean(each))
    assert calibration_error(np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])) == 0


def naive(pairs: list[tuple[float, bool]]) -> float:
    """Fifteen bins of equal width, one row at a time."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for probability, right in pairs:
        bins[min(int(probability * NUM_BINS), NUM_BINS - 1)].append((probability, right))
    gaps = [abs(sum(right for _, right in one) - sum(probability for probability, _ in one)) for one in bins]
    return sum(gaps) / len(pairs)


def test_log_losses_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    targets, scores = drawn(4, 1.0)
    assert row_log_losses(targets, scores).mean() == pytest.approx(log_loss(targets, scores))
    labels, of_labels = drawn_labels(1.0)
    each = [log_loss(labels[:, one], of_labels[:, one]) for one in range(4)]
    assert row_log_losses(labels, of_labels).mean() == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, -2.0), (2.5, 1.0)])
def test_slope_and_shift_are_those_of_scipy_and_scikit_learn(slope: float, shift: float) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(size=800) * 2 - 1
    has = random.random(800) < 1 / (1 + np.exp(-(slope * logits + shift)))
    scores = 1 / (1 + np.exp(-logits))
    found = fit_platt(has, scores)

    num_has = int(has.sum())
    targets = np.where(has, (num_has + 1) / (num_has + 2), 1 / (800 - num_has + 2))

    def loss(at: np.ndarray) -> float:
        moved = at[0] * logits + at[1]
        return float((np.logaddexp(0, moved) - moved * targets).mean())

    best = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9})
    assert loss(np.array(found)) <= best.fun + 1e-12
    np.testing.assert_allclose(found, best.x, atol=1e-4)

    pair = np.stack([1 - scores, scores], axis=1)
    theirs = CalibratedClassifierCV(FrozenEstimator(Given().fit(pair, has)), method="sigmoid").fit(pair, has)
    ours = Decision(platt=(found,)).calibrated_classes(pair)
    np.testing.assert_allclose(ours, theirs.predict_proba(pair), atol=1e-4)


def test_a_label_of_few_rows_is_not_made_certain() -> None:
    slope, shift = fit_platt(np.array([True, False, False, False]), np.array([0.9, 0.2, 0.1, 0.3]))
    seen = Decision(platt=((slope, shift),)).calibrated_labels(np.array([[0.9], [0.2], [0.1]]))[:, 0]
    assert 0.5 < seen[0] < 0.9 and (seen[1:] > 0.02).all()


@pytest.mark.parametrize("scores", [np.full(200, 0.3), np.linspace(0.9, 0.1, 200)])
def test_scores_that_know_nothing_of_a_label_get_its_share(scores: np.ndarray) -> None:
    has = np.arange(200) >= 160 if scores[0] > 0.5 else np.arange(200) % 5 == 0
    slope, shift = fit_platt(has, scores)
    assert slope >= 1 / HOTTEST
    seen = Decision(platt=((slope, shift),)).calibrated_labels(scores[:, None])
    assert float(seen.mean()) == pytest.approx(0.2, abs=0.01)


def test_slopes_and_shifts_move_no_usual_answer() -> None:
    random = np.random.default_rng(3)
    scores = random.random((300, 3))
    decision = Decision(platt=((0.5, -2.0), (2.0, 1.0), (1.0, 0.0)))
    decision = replace(decision, thresholds=decision.as_usual)
    np.testing.assert_array_equal(decision.given(scores), Decision().given(scores))
