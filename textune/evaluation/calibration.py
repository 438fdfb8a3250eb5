"""How well probabilities say how often answers are right, and what makes them say it best: a temperature, or a slope
and a shift for each label.

scores, targets -> those of the lowest log loss; probabilities, targets -> the expected calibration error

Shapes: N rows, K classes or labels. Targets are class ids int [N], or 0 and 1 [N, K] for labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from textune.tasks import as_logits, as_logits_of_classes, row_blocks, sigmoid, surprise

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures between which the best one is sought: outside, logits would be multiplied or divided by more than
20."""
NUM_BINS = 15
"""Of the expected calibration error, of equal width, as in Guo et al. (2017), "On Calibration of Modern Neural
Networks"."""
_MAX_STEPS = 100
_RIDGE = 1e-14
"""Added to the curvature, so that it can be divided by where all logits are equal."""
_SMALLEST_SHARE = 2.0**-30
"""Of one of Newton's steps: less would move nothing."""


class _Slopes(NamedTuple):
    """The first and the second derivative of the log loss, by what logits are multiplied by."""

    first: float
    second: float


def fit_temperature(targets: np.ndarray, scores_NK: np.ndarray) -> float | None:
    """The temperature of the lowest log loss on these rows; None where there is none from `COLDEST` to `HOTTEST`: all
    answers are right, or the scores know nothing.

    The log loss is convex in 1 / temperature. Its minimum is found to the last bits by Newton's steps inside a
    bracket, halved where a step leaves it.
    """
    slopes = _slopes(targets, scores_NK)
    low, high = 1 / HOTTEST, 1 / COLDEST
    if len(targets) == 0 or not slopes(low).first < 0 < slopes(high).first:
        return None
    factor = 1.0
    for _ in range(_MAX_STEPS):
        first, second = slopes(factor)
        low, high = (factor, high) if first < 0 else (low, factor)
        newton = factor - first / second if second > 0 else low
        following = newton if low < newton < high else (low + high) / 2
        if abs(following - factor) <= 1e-13 * factor:
            break
        factor = following
    return 1 / factor


def _slopes(targets: np.ndarray, scores_NK: np.ndarray) -> Callable[[float], _Slopes]:
    """The derivatives of the mean log loss of these rows at a factor."""
    if targets.ndim == 1 and scores_NK.shape[1] > 2:
        return _slopes_of_classes(targets, scores_NK)
    pairs = (targets, scores_NK) if targets.ndim > 1 else (targets[:, None], scores_NK[:, 1:])
    return _slopes_of_labels(*pairs)


def _slopes_of_labels(targets_NK: np.ndarray, scores_NK: np.ndarray) -> Callable[[float], _Slopes]:
    """Of labels each by itself: the loss is log(1 + exp(f z)) - f z y."""
    logits_NK = as_logits(scores_NK)

    def at(factor: float) -> _Slopes:
        first = second = 0.0
        for rows in row_blocks(len(logits_NK), logits_NK.shape[1]):
            given = sigmoid(factor * logits_NK[rows])
            first += float((logits_NK[rows] * (given - targets_NK[rows])).sum())
            second += float((logits_NK[rows] ** 2 * given * (1 - given)).sum())
        return _Slopes(first / logits_NK.size, second / logits_NK.size)

    return at


def _slopes_of_classes(targets_N: np.ndarray, scores_NK: np.ndarray) -> Callable[[float], _Slopes]:
    """Of classes, of which each row has one: the loss is log(sum of exp(f z)) - f z of the true one."""
    logits_NK = as_logits_of_classes(scores_NK)
    true = float(logits_NK[np.arange(len(targets_N)), targets_N].sum())

    def at(factor: float) -> _Slopes:
        first, second = -true, 0.0
        for rows in row_blocks(*logits_NK.shape):
            scaled = factor * logits_NK[rows]
            raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            given = raised / raised.sum(axis=1, keepdims=True)
            mean_n = (given * logits_NK[rows]).sum(axis=1)
            first += float(mean_n.sum())
            second += float((given * (logits_NK[rows] - mean_n[:, None]) ** 2).sum())
        return _Slopes(first / len(logits_NK), second / len(logits_NK))

    return at


def fit_platt(has_N: np.ndarray, scores_N: np.ndarray) -> tuple[float, float]:
    """What the logit of one label is multiplied by, and what is then added, for the lowest log loss on these rows;
    bool [N] which of them have the label, float64 [N] its scores.

    As Platt (1999), "Probabilistic Outputs for Support Vector Machines", with his targets, which are a little inside 0
    and 1, so that a label of few rows is not made certain. The loss is convex in both numbers: Newton's steps, halved
    where the loss would rise (Lin, Lin and Weng 2007). A slope stays within what a temperature may be: scores that
    know nothing of the label get the lowest one, and the shift that goes with it.
    """
    logits_N = as_logits(scores_N)
    num_has = int(has_N.sum())
    targets_N = np.where(has_N, (num_has + 1) / (num_has + 2), 1 / (len(has_N) - num_has + 2))
    slope, shift = _minimum(logits_N, targets_N, (1.0, 0.0))
    if 1 / HOTTEST <= slope <= 1 / COLDEST:
        return slope, shift
    slope = min(max(slope, 1 / HOTTEST), 1 / COLDEST)
    _, shift = _minimum(slope * logits_N, targets_N, (1.0, 0.0), slope_moves=False)
    return slope, shift


def _minimum(
    logits_N: np.ndarray, targets_N: np.ndarray, start: tuple[float, float], *, slope_moves: bool = True
) -> tuple[float, float]:
    """The slope and the shift of the lowest mean of log(1 + exp(z)) - z t, where z = slope * logit + shift."""
    design = np.stack([logits_N * slope_moves, np.ones(len(logits_N))])
    found = np.array(start)

    def loss(at: np.ndarray) -> float:
        moved_N = at[0] * logits_N + at[1]
        return float((np.logaddexp(0, moved_N) - moved_N * targets_N).mean())

    now = loss(found)
    for _ in range(_MAX_STEPS):
        given_N = sigmoid(found[0] * logits_N + found[1])
        gradient = design @ (given_N - targets_N) / len(logits_N)
        curvature = (design * (given_N * (1 - given_N))) @ design.T / len(logits_N)
        step = np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient)
        share = 1.0
        while (then := loss(found - share * step)) > now and share > _SMALLEST_SHARE:
            share /= 2
        if then >= now:
            break
        found, now = found - share * step, then
    return float(found[0]), float(found[1])


def row_log_losses(targets: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    """float64 [N] the negative logarithm of the probability of what is true; of labels, its mean over them."""
    if targets.ndim == 1:
        return surprise(probabilities_NK[np.arange(len(targets)), targets])
    losses = np.empty(len(targets))
    for rows in row_blocks(*probabilities_NK.shape):
        given, true = probabilities_NK[rows], targets[rows] > 0
        losses[rows] = surprise(np.where(true, given, 1 - given)).mean(axis=1)
    return losses


def calibration_error(targets: np.ndarray, probabilities_NK: np.ndarray) -> float:
    """The expected calibration error: how far, in the mean over rows, a probability is from the share of rows of such
    a probability that are right.

    Of classes, that of the most probable one; of labels, each label's by itself, and then the mean over labels.
    """
    if targets.ndim == 1:
        best_N = probabilities_NK.argmax(axis=1)
        return _binned_error(best_N == targets, probabilities_NK[np.arange(len(targets)), best_N])
    columns = range(probabilities_NK.shape[1])
    return float(np.mean([_binned_error(targets[:, one] > 0, probabilities_NK[:, one]) for one in columns]))


def _binned_error(right_N: np.ndarray, probabilities_N: np.ndarray) -> float:
    """The mean over bins of |share that is right - mean probability|, weighted by their rows."""
    bins_N = np.minimum((probabilities_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    gaps = np.bincount(bins_N, right_N, NUM_BINS) - np.bincount(bins_N, probabilities_N, NUM_BINS)
    return float(np.abs(gaps).sum() / len(right_N))
