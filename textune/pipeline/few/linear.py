"""A linear head as the one solution of a convex problem: logistic regression with an L2 penalty, on features that are
computed once; used by `settling.py`.

Shapes: N rows, F features, C classes, O outputs (one for two classes where the head has a sigmoid).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from textune.draws import Draws

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""Values of C that are tried: how much the rows count against the penalty, for features whose mean square is one."""
USUAL_STRENGTH = 10.0
"""C where too few rows are left to try others."""
_ITERATIONS = 500
_FOLDS = 4


@dataclass(frozen=True)
class Linear:
    """The weights of a last layer."""

    weight_OF: np.ndarray
    bias_O: np.ndarray

    def outputs(self, features_NF: np.ndarray) -> np.ndarray:
        """[N, O]."""
        return np.asarray(features_NF @ self.weight_OF.T + self.bias_O)


@dataclass(frozen=True)
class Labelled:
    """Features with their labels."""

    features_NF: np.ndarray
    """float64."""
    targets_N: np.ndarray
    """int64 ids of classes."""
    weights_N: np.ndarray
    """float64 weights of the rows."""
    num_classes: int

    def at(self, chosen: np.ndarray) -> Labelled:
        """The rows at these positions."""
        return Labelled(self.features_NF[chosen], self.targets_N[chosen], self.weights_N[chosen], self.num_classes)


def fit_linear(rows: Labelled, strength: float, *, bias: bool = True) -> Linear:
    """The weights that minimise C sum_i w_i loss_i + |W|^2 / 2, as scikit-learn's LogisticRegression does; [C, F].

    `strength` is C, for features divided by the square root of their mean square length; the bias is not penalised.
    """
    middle_F = rows.features_NF.mean(0) if bias else np.zeros(rows.features_NF.shape[1])
    scale = float(np.sqrt((rows.features_NF**2).sum(1).mean())) or 1.0
    features_NF = torch.from_numpy((rows.features_NF - middle_F) / scale)
    targets_N, weights_N = torch.from_numpy(rows.targets_N), torch.from_numpy(rows.weights_N)
    weight_CF = torch.zeros(rows.num_classes, features_NF.shape[1], dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(rows.num_classes, dtype=torch.float64, requires_grad=bias)
    trained = [weight_CF, bias_C] if bias else [weight_CF]
    solver = torch.optim.LBFGS(
        trained,
        max_iter=_ITERATIONS,
        history_size=20,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        losses_N = functional.cross_entropy(features_NF @ weight_CF.T + bias_C, targets_N, reduction="none")
        total = (losses_N * weights_N).sum() + (weight_CF**2).sum() / (2 * strength)
        total.backward()
        return total

    solver.step(loss)
    found_CF = weight_CF.detach().numpy() / scale
    return Linear(found_CF, bias_C.detach().numpy() - found_CF @ middle_F)


def choose_strength(rows: Labelled, seed: int, *, bias: bool = True) -> float:
    """The C of the lowest log loss on rows that were held out of the fit, of the four in `STRENGTHS`; the smaller one
    of two alike."""
    folds = folds_of(rows.targets_N, seed, most=_FOLDS)
    if not folds:
        return USUAL_STRENGTH
    losses = {strength: 0.0 for strength in STRENGTHS}
    for held_out in folds:
        kept = np.setdiff1d(np.arange(len(rows.targets_N)), held_out)
        targets = torch.from_numpy(rows.targets_N[held_out])
        for strength in STRENGTHS:
            outputs = fit_linear(rows.at(kept), strength, bias=bias).outputs(rows.features_NF[held_out])
            losses[strength] += float(functional.cross_entropy(torch.from_numpy(outputs), targets, reduction="sum"))
    return min(losses, key=lambda strength: (losses[strength], strength))


def as_outputs(linear: Linear, num_outputs: int) -> Linear:
    """The same probabilities by the head's own outputs: of two classes, one may be enough."""
    if num_outputs == len(linear.weight_OF):
        return linear
    return Linear(linear.weight_OF[1:] - linear.weight_OF[:1], linear.bias_O[1:] - linear.bias_O[:1])


def folds_of(targets_N: np.ndarray, seed: int, *, most: int) -> list[np.ndarray]:
    """The rows of each fold, int64, every class spread evenly; at most as many folds as the smallest class has rows,
    and none where a class has a single row."""
    counts = np.unique(targets_N, return_counts=True)[1]
    number = min(most, int(counts.min()))
    if number < 2:
        return []
    fold_N = np.zeros(len(targets_N), np.int64)
    for target in np.unique(targets_N):
        rows = np.flatnonzero(targets_N == target)
        fold_N[rows[Draws.of_key(seed, int(target)).permutation(len(rows))]] = np.arange(len(rows)) % number
    return [np.flatnonzero(fold_N == fold) for fold in range(number)]
