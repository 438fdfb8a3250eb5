"""Labels that are probably wrong, by the answers of models that have not seen them (confident learning).

labels + held-out probabilities --each class's own mean--> confident rows --a class that is not the label--> suspects

A model is *confident* that a row is of class j where its probability of j is at least what it is, on average, for the
rows that are labelled j. A row is suspect where the class that it is confidently of is not its label (Northcutt, Jiang
and Chuang 2021, Journal of Artificial Intelligence Research 70, 1373, arXiv:1911.00068). Labels that a row may have
several of are asked one by one: has the row the label or not. Shapes: N rows, K classes or labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TIE = 1e-6
"""By how much a probability may miss the mean: rows that are alike differ in their last bits."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """M labels that are probably wrong, the most probable first."""

    rows: np.ndarray
    """int64 [M] which rows."""
    labels: np.ndarray
    """int64 [M] of several labels, the one in question; else -1."""
    given: np.ndarray
    """int64 [M] the class that stands in the data; of several labels 1 where the row has it, else 0."""
    proposed: np.ndarray
    """int64 [M] the one that the models are confident of, in the same terms."""
    margins: np.ndarray
    """float64 [M] how much more probable the proposed one is than the given one."""
    noise: np.ndarray
    """float64 [K, K] of classes: the estimated share of all rows that are labelled i (first axis) and are j; of labels
    [K, 2, 2], each by itself."""

    def __len__(self) -> int:
        return len(self.rows)


def find_suspects(targets: np.ndarray, probabilities_NK: np.ndarray, *, exclusive: bool) -> Suspects:
    """The suspect labels of rows whose probabilities come from models that were not trained on them.

    `targets`: class ids int [N] (`exclusive`), or 0 and 1 as [N, K]. `probabilities_NK`: calibrated or not; a class
    that no row is labelled with is never proposed.
    """
    if exclusive:
        rows, given, proposed, margins, noise = _of_classes(targets, probabilities_NK)
        labels = np.full(len(rows), -1)
    else:
        found = []
        for label in range(probabilities_NK.shape[1]):
            has_N, sure_N = targets[:, label].astype(np.int64), probabilities_NK[:, label]
            found.append(_of_classes(has_N, np.stack([1 - sure_N, sure_N], axis=1)))
        labels = np.concatenate([np.full(len(one[0]), label) for label, one in enumerate(found)])
        rows, given, proposed, margins = (np.concatenate([one[part] for one in found]) for part in range(4))
        noise = np.stack([one[4] for one in found])
    order = np.lexsort((labels, rows, -margins))
    return Suspects(rows[order], labels[order], given[order], proposed[order], margins[order], noise)


def confident_classes(targets: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    """int64 [N] the class that each row is confidently of, -1 for none: the only class whose mean it reaches, or of
    several the most probable."""
    reaches_NK = probabilities_NK >= _means_of(targets, probabilities_NK) - _TIE
    num_N = reaches_NK.sum(axis=1)
    best_N = np.where(num_N > 1, probabilities_NK.argmax(axis=1), reaches_NK.argmax(axis=1))
    return np.where(num_N > 0, best_N, -1)


def _means_of(targets: np.ndarray, probabilities_NK: np.ndarray) -> np.ndarray:
    """float64 [K] the mean probability of each class on the rows that are labelled with it; 2, which none reaches, for
    a class without rows."""
    num_classes = probabilities_NK.shape[1]
    own_N = probabilities_NK[np.arange(len(targets)), targets]
    sizes_K = np.bincount(targets, minlength=num_classes)
    sums_K = np.bincount(targets, own_N, num_classes)
    return np.where(sizes_K > 0, sums_K / np.maximum(sizes_K, 1), 2.0)


def _of_classes(
    targets: np.ndarray, probabilities_NK: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, given, proposed, margins and the joint shares, of exclusive classes."""
    confident_N = confident_classes(targets, probabilities_NK)
    rows = np.flatnonzero((confident_N >= 0) & (confident_N != targets))
    given, proposed = targets[rows], confident_N[rows]
    margins = probabilities_NK[rows, proposed] - probabilities_NK[rows, given]
    return rows, given, proposed, margins, _joint(targets, confident_N, probabilities_NK.shape[1])


def _joint(targets: np.ndarray, confident_N: np.ndarray, num_classes: int) -> np.ndarray:
    """float64 [K, K] the shares of rows by label and true class: counts of confident rows, scaled so that each label
    has the share that it has in the data."""
    sure = confident_N >= 0
    counts = np.bincount(targets[sure] * num_classes + confident_N[sure], minlength=num_classes**2)
    joint = counts.reshape(num_classes, num_classes).astype(np.float64)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1.0))
    sizes_K = np.bincount(targets, minlength=num_classes)
    joint *= (sizes_K / joint.sum(axis=1))[:, None]
    return np.asarray(joint / joint.sum())
